"""Models beside best-of-n: numbers counted by hand, intervals held against truth, and what cannot be told in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import stir, tiny_config

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.compare import Comparison, compare
from rlhf_engine.evaluation.frontier import Frontier, Standing
from rlhf_engine.evaluation.standing import frontier_of, plan_pool
from rlhf_engine.events import Sample
from rlhf_engine.maths.best_of_n import best_of_n_at, best_of_n_kl, expected_best
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import REFERENCE, TUNED

LADDER = [float(rank) for rank in range(1, 1001)]
"""Of these the expected best of n is n·1001/(n + 1)."""


def side(scores: Sequence[float | None], kls: Sequence[float], prompts: Sequence[str] = ("x",)) -> list[Sample]:
    return [Sample(step=0, prompt=prompts[i % len(prompts)], response="", score=score, parts={}, kl=kl, tokens=1,
                   finished=True) for i, (score, kl) in enumerate(zip(scores, kls, strict=True))]


def beside(samples: list[Sample], pool: dict[str, list[float]] | None = None, most: int = 2000) -> Frontier:
    return frontier_of((None, samples), ("reference", "tuned"), pool or {"x": LADDER}, most)


def standing(samples: list[Sample], pool: dict[str, list[float]] | None = None, most: int = 2000) -> Standing:
    found = beside(samples, pool, most).standings[1]
    assert found is not None
    return found


def test_the_share_is_counted_by_hand() -> None:
    # the reference's mean is 500.5; the best of two of the ladder has 667.33, the best of 1.5 has 600.6
    found = standing(side([600.6] * 4, [best_of_n_kl(2)] * 4))
    assert found.share is not None
    assert found.share.value == pytest.approx((600.6 - 500.5) / (2002 / 3 - 500.5))
    assert found.n_at_kl == pytest.approx(2.0)
    assert found.n == pytest.approx(1.5)
    assert (found.kl, found.score) == (pytest.approx(best_of_n_kl(2)), pytest.approx(600.6))


def test_best_of_n_itself_has_all_of_its_gain() -> None:
    found = standing(side([expected_best(LADDER, 16)] * 4, [best_of_n_kl(16)] * 4))
    assert found.share is not None
    assert found.share.value == pytest.approx(1.0)
    assert found.n == pytest.approx(16.0)
    assert found.share.low < 1 < found.share.high


def test_prompts_weigh_as_much_as_they_were_answered() -> None:
    pool = {"x": LADDER, "y": [score + 3000 for score in LADDER]}
    samples = side([700.0, 700.0, 3700.0], [best_of_n_kl(4)] * 3, ("x", "x", "y"))
    found = beside(samples, pool)
    assert found.curve[0].score == pytest.approx(500.5 + 1000)
    share = found.standings[1]
    assert share is not None
    assert share.share is not None
    assert share.share.value == pytest.approx((700 - 500.5) / (4 * 1001 / 5 - 500.5))


def test_the_curve_climbs_from_the_mean_to_the_best_of_all() -> None:
    found = beside(side([600.0] * 4, [1.0] * 4))
    assert (found.curve[0].n, found.curve[0].kl, found.curve[0].score) == (1, 0, pytest.approx(500.5))
    assert (found.curve[-1].n, found.curve[-1].score) == (1000, pytest.approx(1000))
    assert all(a.kl < b.kl and a.score < b.score for a, b in zip(found.curve, found.curve[1:], strict=False))
    assert (found.responses, found.prompts, found.all_prompts) == (1000, 1, 1)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    kl, prompts = 1.5, ("a", "b", "c")
    truth_pool = generator.normal(size=20_000)
    truth = 0.8 / expected_best(list(truth_pool), best_of_n_at(kl))
    held = 0
    for _ in range(150):
        pool = {prompt: list(generator.normal(size=64)) for prompt in prompts}
        scores, kls = generator.normal(0.8, 1.0, 60), generator.normal(kl, 1.0, 60)
        share = standing(side(list(scores), list(kls), prompts), pool).share
        assert share is not None
        held += share.low <= truth <= share.high
    assert 0.88 * 150 <= held <= 150


def test_more_responses_make_the_interval_narrower() -> None:
    def width(times: int) -> float:
        share = standing(side([400.0, 800.0] * times, [0.1, 0.5] * times)).share
        assert share is not None
        return share.high - share.low

    assert width(100) < width(10) / 2


@pytest.mark.parametrize(
    ("samples", "pool", "says"),
    [
        (side([600.0] * 4, [0.0] * 4), None, "KL"),
        (side([600.0] * 4, [-0.2] * 4), None, "KL"),
        (side([600.0] * 4, [9.0] * 4), None, "1500 responses per prompt"),
        (side([600.0] * 4, [2000.0] * 4), None, "1500 responses per prompt"),
        (side([600.0] * 4, [math.nan] * 4), None, "finite"),
        (side([math.inf] * 4, [1.0] * 4), None, "finite"),
        (side([None] * 4, [1.0] * 4), None, "finite"),
        (side([3.0] * 4, [1.0] * 4), {"x": [2.0] * 100}, "alike"),
        (side([3.0] * 4, [0.5] * 4), {"x": [2.0] * 99 + [9.0]}, "alike"),
    ],
)
def test_what_cannot_be_told_is_said_in_words(
    samples: list[Sample], pool: dict[str, list[float]] | None, says: str
) -> None:
    found = standing(samples, pool, most=1500)
    assert found.share is None
    assert says in found.why
    assert says in beside(samples, pool, most=1500).sentences()[0]


def test_a_score_outside_the_curve_is_that_of_no_n() -> None:
    for score, below in ((400.0, True), (2000.0, False)):
        found = standing(side([score] * 4, [1.0] * 4))
        assert found.n is None
        assert found.share is not None
        assert (found.share.value < 0) is below


def test_a_pool_with_scores_that_are_no_numbers_tells_nothing() -> None:
    found = beside(side([1.0] * 4, [1.0] * 4), {"x": [1.0, math.nan, 2.0]})
    assert not found.curve
    assert found.why


def test_a_pool_is_as_large_as_the_kl_needs_and_no_larger_than_allowed() -> None:
    prompts = [f"p{number}" for number in range(20)] * 5
    small = plan_pool(prompts, [1.0], 2048)
    assert len(small.prompts) == 20
    assert best_of_n_at(1.0) < small.each <= 2048 // 20
    large = plan_pool(prompts, [4.9], 2048)  # n is 365
    assert best_of_n_at(4.9) < large.each
    assert 1 < len(large.prompts) < 20
    beyond = plan_pool(prompts, [12.0], 2048)
    assert len(beyond.prompts) * beyond.each <= 2048
    assert beyond.most < best_of_n_at(12.0)
    both = plan_pool(prompts, [1.0, 12.0], 2048)  # what is in reach is told all the same
    assert both.each == small.each
    for bound in (1, 2, 7, 100):
        plan = plan_pool(prompts, [2.0], bound)
        assert 1 <= len(plan.prompts) * plan.each <= bound


# --- with models ---


def stirred(folder: Path) -> tuple[Policy, RunConfig]:
    config = tiny_config(folder)
    policy = Policy.from_config(config)
    stir(policy)
    return policy, config


def test_a_comparison_draws_its_pool_after_the_pairs_and_tells_how_far_it_is(model_folders: dict[str, Path]) -> None:
    policy, config = stirred(model_folders["gpt_neo"])
    heard: list[object] = []
    result = compare(policy, config, responses=16, seed=3, pool=300, paired=heard.append,
                     pooled=lambda done, total: heard.append((done, total)))
    assert result is not None
    assert result.frontier is not None
    first, second = result.frontier.standings
    assert first is None
    assert second is not None
    assert replace(result, frontier=None) == heard[0]
    means = {row.key: row.tuned.value for row in result.rows}
    assert (second.score, second.kl) == (pytest.approx(means["mean_score"]),
                                         pytest.approx(means["kl_nats_per_response"]))
    done, total = heard[-1]
    assert done == total == result.frontier.responses * result.frontier.prompts - 16  # the pairs' are in it
    again = compare(policy, config, responses=16, seed=3, pool=300)
    assert again == result


def test_the_same_pool_serves_both_sides_if_both_are_trained(model_folders: dict[str, Path]) -> None:
    policy, config = stirred(model_folders["gpt_neo"])
    result = compare(policy, config, responses=8, seed=3, sides=(TUNED, TUNED), pool=300)
    assert result is not None
    assert result.frontier is not None
    assert result.frontier.standings[0] == result.frontier.standings[1]
    assert result.frontier.standings[0] is not None


def test_cancelled_while_the_pool_is_drawn_it_gives_nothing_more(model_folders: dict[str, Path]) -> None:
    policy, config = stirred(model_folders["gpt_neo"])
    pairs: list[Comparison] = []
    assert compare(policy, config, responses=4, seed=3, pool=300, paired=pairs.append,
                   cancelled=lambda: bool(pairs)) is None
    assert len(pairs[0].pairs) == 4


@pytest.mark.parametrize(("sides", "rewards"), [((REFERENCE, REFERENCE), True), ((REFERENCE, TUNED), False)])
def test_without_scores_or_training_there_is_no_curve(
    model_folders: dict[str, Path], sides: tuple[object, object], rewards: bool
) -> None:
    config = tiny_config(model_folders["gpt_neo"])
    if not rewards:
        config = tiny_config(model_folders["gpt_neo"], rewards=[
            {"kind": "function", "name": "gone", "function": f"{model_folders['gpt_neo'] / 'gone.py'}:score"}])
    result = compare(Policy.from_config(config), config, responses=4, seed=3, sides=sides, pool=300)  # type: ignore[arg-type]
    assert result is not None
    assert result.frontier is not None
    assert not result.frontier.curve
    assert result.frontier.sentences() == [result.frontier.why]
