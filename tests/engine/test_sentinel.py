"""Alarms: each raised by a history that deserves it, none by those that do not, and each only once."""

from __future__ import annotations

import pytest
from configs import SMALL

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.events import Alarm
from rlhf_engine.training.sentinel import Sentinel

CONFIG = fields.replace(SMALL, {"kl.target": 8.0})

# the first and the last step of preset animals on the storyteller, rounded
START = {
    "objective/scores": -1.9, "objective/scores_std": 2.5, "objective/kl": 0.0, "objective/ref_logprob": -0.76,
    "policy/entropy_avg": 0.77, "policy/clipfrac_avg": 0.0, "completions/distinct_2": 0.65,
    "val/explained_variance": 0.0, "sampling/logprob_gap": 1e-6,
    "completions/clipped_ratio": 0.9,
}
LEARNT = START | {
    "objective/scores": 5.5, "objective/kl": 4.2, "objective/ref_logprob": -0.82, "policy/entropy_avg": 0.67,
    "policy/clipfrac_avg": 0.01, "completions/distinct_2": 0.58, "val/explained_variance": 0.6,
}


def history(end: dict[str, float], steps: int = 100) -> list[dict[str, float]]:
    """Metrics that go evenly from START to `end`."""
    shares = [step / (steps - 1) for step in range(steps)]
    return [{name: START[name] + share * (end[name] - START[name]) for name in START} for share in shares]


def watch(rows: list[dict[str, float]], config: RunConfig = CONFIG) -> list[Alarm]:
    sentinel = Sentinel(config.sentinel.window)
    return [alarm for step, metrics in enumerate(rows, 1) for alarm in sentinel.watch(step, metrics, config)]


def test_a_run_that_learns_as_it_should_raises_nothing() -> None:
    assert watch(history(LEARNT)) == []
    assert watch(history(LEARNT, steps=18)) == []


@pytest.mark.parametrize(("kind", "bad", "harmless", "said"), [
    ("kl", {"objective/kl": 30.0}, {"objective/kl": 15.0}, "times its target of 8"),
    ("entropy", {"policy/entropy_avg": 0.1}, {"policy/entropy_avg": 0.4}, "entropy fell from 0.7"),
    ("distinct", {"completions/distinct_2": 0.2}, {"completions/distinct_2": 0.45}, "distinct-2 fell from 0.6"),
    ("gaming", {"objective/ref_logprob": -2.5}, {"objective/ref_logprob": -1.1}, "reward hacking"),
    ("critic", {"val/explained_variance": -0.5}, {"val/explained_variance": 0.1}, "explained variance is"),
    ("clipping", {"policy/clipfrac_avg": 0.9}, {"policy/clipfrac_avg": 0.3}, "% of tokens"),
    ("sampling", {"sampling/logprob_gap": 0.5}, {"sampling/logprob_gap": 0.05}, "nats per token"),
    ("truncated", {"completions/clipped_ratio": 1.0}, {"completions/clipped_ratio": 0.92}, "truncated at 60 tokens"),
    ("equal-scores", {"objective/scores_std": 0.0}, {"objective/scores_std": 0.01}, "same score (5.50"),
])
def test_what_goes_wrong_is_said_once_in_numbers(kind: str, bad: dict, harmless: dict, said: str) -> None:
    rows = history(LEARNT | bad) + [LEARNT | bad] * 20
    (alarm,) = watch(rows)
    assert alarm.kind == kind
    assert said in alarm.text
    assert "\n" not in alarm.text
    assert watch(history(LEARNT | harmless) + [LEARNT | harmless] * 20) == []


def test_text_that_the_reference_finds_unlikely_is_no_gaming_while_the_score_stays() -> None:
    assert watch(history(LEARNT | {"objective/ref_logprob": -2.5, "objective/scores": -1.5})) == []


@pytest.mark.parametrize(("path", "value", "bad"), [
    ("sentinel.enabled", False, {"objective/kl": 30.0, "objective/scores_std": 0.0}),
    ("sentinel.kl_factor", None, {"objective/kl": 30.0}),
    ("sentinel.entropy_share", None, {"policy/entropy_avg": 0.1}),
    ("sentinel.distinct_share", None, {"completions/distinct_2": 0.2}),
    ("sentinel.ref_logprob_drop", None, {"objective/ref_logprob": -2.5}),
    ("sentinel.critic_share", None, {"val/explained_variance": -0.5}),
    ("sentinel.critic_patience", 1000, {"val/explained_variance": -0.5}),
    ("sentinel.clip_share", None, {"policy/clipfrac_avg": 0.9}),
    ("sentinel.logprob_gap", None, {"sampling/logprob_gap": 0.5}),
    ("sentinel.truncated_share", None, {"completions/clipped_ratio": 1.0}),
    ("sentinel.equal_scores", False, {"objective/scores_std": 0.0}),
])
def test_each_alarm_can_be_turned_off(path: str, value: object, bad: dict) -> None:
    rows = history(LEARNT | bad) + [LEARNT | bad] * 20
    assert watch(rows)
    assert watch(rows, fields.replace(CONFIG, {path: value})) == []


def test_an_alarm_comes_again_only_after_a_whole_window_without_cause() -> None:
    far, near = LEARNT | {"objective/kl": 40.0}, LEARNT | {"objective/kl": 1.0}
    flicker = [far] * 10 + [near, near, far] * 10
    assert len(watch(flicker)) == 1
    assert len(watch([far] * 10 + [near] * 20 + [far] * 10)) == 2


def test_one_wild_step_and_missing_metrics_raise_nothing() -> None:
    rows = history(LEARNT)
    rows[50] = rows[50] | {"objective/kl": 60.0, "policy/clipfrac_avg": 1.0}
    rows[70] = {"objective/scores": 3.0, "train/skipped_updates": 8.0}
    rows[80] = rows[80] | {"policy/entropy_avg": float("nan")}
    assert watch(rows) == []
    assert watch([{}] * 30) == []


def test_fed_again_it_remembers_what_it_has_raised() -> None:
    rows = history(LEARNT | {"objective/kl": 40.0})
    sentinel = Sentinel(CONFIG.sentinel.window)
    assert sum(len(sentinel.watch(step, row, CONFIG)) for step, row in enumerate(rows, 1)) == 1
    assert sentinel.watch(len(rows) + 1, rows[-1], CONFIG) == []


# --- over-optimization ---

GOLD = fields.validate(CONFIG.model_dump() | {"rewards": [
    {"kind": "length", "name": "learnt"}, {"kind": "length", "name": "gold", "weight": 0.0}]})
DOUBTING = fields.validate(CONFIG.model_dump() | {"rewards": [{"kind": "length", "name": "learnt", "weight": 2.0}]})


def judged(name: str, values: list[float], scores: list[float] | None = None) -> list[dict[str, float]]:
    """A run that learns as it should, in which a metric goes another way."""
    rows = history(LEARNT, len(values))
    for row, value, score in zip(rows, values, scores or [row["objective/scores"] for row in rows], strict=True):
        row |= {name: value, "rewards/gold/std": 1.0, "objective/scores": score}
    return rows


def hill(top: float, end: float) -> list[float]:
    """Up to `top` in 50 steps, and in as many to `end`."""
    return [top * step / 49 for step in range(50)] + [top + (end - top) * step / 50 for step in range(1, 51)]


def test_a_gold_score_that_fell_while_the_score_rose_is_told_with_the_step_to_go_back_to() -> None:
    rows = judged("rewards/gold/mean", hill(2.0, 0.0))
    (alarm,) = watch(rows, GOLD)
    assert alarm.kind == "over-optimization"
    assert "gold" in alarm.text
    assert "step 50" in alarm.text  # where it was best
    assert f"{rows[49]['objective/kl']:.1f} nats" in alarm.text
    assert 55 < alarm.step < 65  # a quarter of its deviation below the best, less the window
    assert watch(rows, CONFIG) == []  # there is no gold


@pytest.mark.parametrize(("values", "scores", "settings"), [
    (hill(2.0, 1.9), None, {}),  # no further than noise
    (hill(2.0, 0.0), hill(5.0, 1.0), {}),  # the score falls with it: something else is wrong
    (hill(2.0, 0.0), None, {"sentinel.gold_drop": None}),
    (hill(2.0, 0.0), None, {"sentinel.gold_drop": 5.0}),
    (hill(2.0, 0.0), None, {"sentinel.gold": None}),
])
def test_gold_raises_no_alarm(values: list[float], scores: list[float] | None, settings: dict) -> None:
    assert watch(judged("rewards/gold/mean", values, scores), fields.replace(GOLD, settings)) == []


def test_a_reward_that_is_learnt_from_is_gold_where_it_is_named() -> None:
    rows = judged("rewards/learnt/mean", hill(2.0, 0.0))
    for row in rows:
        row["rewards/learnt/std"] = 1.0
    assert watch(rows, DOUBTING) == []
    assert watch(rows, fields.replace(DOUBTING, {"sentinel.gold": "learnt"}))


def test_without_gold_an_ensemble_that_comes_apart_is_told() -> None:
    rows = judged("rewards/learnt/deviation", [0.5] * 50 + [0.5 + step / 10 for step in range(50)])
    (alarm,) = watch(rows, DOUBTING)
    assert alarm.kind == "over-optimization"
    assert "ensemble" in alarm.text
    assert watch(rows, fields.replace(DOUBTING, {"sentinel.spread_factor": None})) == []
    assert watch(judged("rewards/learnt/deviation", [0.5] * 100), DOUBTING) == []


def test_gold_must_be_the_name_of_a_reward() -> None:
    with pytest.raises(ConfigError, match=r"sentinel\.gold 'silver'.*learnt, gold"):
        fields.replace(GOLD, {"sentinel.gold": "silver"})


def test_a_run_that_is_taken_up_again_remembers_where_gold_was_best() -> None:
    rows = judged("rewards/gold/mean", hill(2.0, 0.0))
    first, again = Sentinel(GOLD.sentinel.window), Sentinel(GOLD.sentinel.window)
    told = [first.watch(step, row, GOLD) for step, row in enumerate(rows, 1)]
    assert [again.watch(step, row, GOLD) for step, row in enumerate(rows, 1)] == told
