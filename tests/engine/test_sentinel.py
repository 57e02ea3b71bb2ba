"""Alarms: each raised by a history that deserves it, none by those that do not, and each only once."""

from __future__ import annotations

import pytest
from configs import SMALL

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
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
