"""Intervals: hand-computed cases, and simulations of how often they hold the truth."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_engine.maths.statistics import (
    Estimate,
    distinct_n,
    distinct_n_interval,
    mean_interval,
    paired_difference_interval,
    paired_distinct_n_difference,
    paired_share_difference,
    share_interval,
)


def coverage(trial: Callable[[random.Random], Estimate], truth: float, trials: int = 400) -> float:
    rng = random.Random(0)
    return sum(e.low <= truth <= e.high for e in (trial(rng) for _ in range(trials))) / trials


def test_mean_interval_by_hand() -> None:
    # mean 3, standard deviation sqrt(2.5), standard error sqrt(0.5); t(4, 0.975) = 2.776445
    estimate = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert estimate.value == pytest.approx(3.0)
    assert estimate.high - 3.0 == pytest.approx(2.776445 * math.sqrt(0.5), rel=1e-6)
    assert 3.0 - estimate.low == pytest.approx(estimate.high - 3.0)


@pytest.mark.parametrize(
    ("freedom", "level", "t"),
    [  # from printed tables
        (1, 0.95, 12.7062),
        (2, 0.95, 4.30265),
        (3, 0.99, 5.84091),
        (10, 0.90, 1.81246),
        (29, 0.95, 2.04523),
        (1000, 0.95, 1.96234),
        (1001, 0.95, 1.96234),
    ],
)
def test_students_t(freedom: int, level: float, t: float) -> None:
    n = freedom + 1
    values = [1.0] * (n // 2) + [-1.0] * (n // 2) + [0.0] * (n % 2)
    error = math.sqrt(2 * (n // 2) / freedom / n)
    assert mean_interval(values, level).high == pytest.approx(t * error, rel=1e-5)


def test_one_value_says_nothing_about_spread() -> None:
    assert mean_interval([7.0]) == Estimate(7.0, -math.inf, math.inf)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_probability(level: float) -> None:
    with pytest.raises(ValueError, match="level is"):
        mean_interval([1.0, 2.0], level)


def test_pairing_removes_what_both_share() -> None:
    reference, tuned = [0.0, 100.0, 200.0], [1.0, 101.0, 201.0]
    estimate = paired_difference_interval(reference, tuned)
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)
    assert paired_difference_interval([5.0, 5.0], [1.0, 3.0]).value == -3.0
    with pytest.raises(ValueError, match="argument 2 is longer"):
        paired_difference_interval([1.0], [1.0, 2.0])


def test_mean_intervals_hold_the_truth_as_often_as_they_say() -> None:
    assert 0.91 < coverage(lambda rng: mean_interval([rng.gauss(3, 2) for _ in range(6)]), 3.0) < 0.985
    assert 0.73 < coverage(lambda rng: mean_interval([rng.gauss(3, 2) for _ in range(6)], 0.8), 3.0) < 0.87


def test_share_interval_by_hand() -> None:
    # 3 of 10; without each response: 2/6, 1/4. Jackknife: mean 7/24, error sqrt(1/2 * 2 * (1/24)^2) = 1/24
    estimate = share_interval([1, 2], [4, 6], level=0.5)  # t(1, 0.75) = 1
    assert estimate.value == pytest.approx(0.3)
    assert estimate.low == pytest.approx(0.3 - 1 / 24)
    assert estimate.high == pytest.approx(0.3 + 1 / 24)


def cluster(rng: random.Random) -> tuple[int, int]:
    """Liked and all words of a response: responses differ in their own rate (0.05 or 0.35) and in length."""
    words = rng.randint(20, 60)
    rate = rng.choice([0.05, 0.35])
    return sum(rng.random() < rate for _ in range(words)), words


def test_share_intervals_treat_responses_as_the_unit() -> None:
    def trial(rng: random.Random) -> Estimate:
        successes, totals = zip(*(cluster(rng) for _ in range(24)), strict=True)
        return share_interval(successes, totals)

    assert 0.90 < coverage(trial, 0.2, 200) < 0.99


def test_paired_share_differences_hold_the_truth() -> None:
    def trial(rng: random.Random) -> Estimate:
        a_successes, a_totals = zip(*(cluster(rng) for _ in range(24)), strict=True)
        b_successes, b_totals = zip(*((h + t // 10, t) for h, t in (cluster(rng) for _ in range(24))), strict=True)
        return paired_share_difference(a_successes, a_totals, b_successes, b_totals)

    assert 0.89 < coverage(trial, 146 / 41 / 40, 200) < 0.99  # E[words // 10] / E[words]


def test_none_seen_is_not_none_ever() -> None:
    estimate = share_interval([0] * 10, [40] * 10)
    assert (estimate.value, estimate.low) == (0.0, 0.0)
    assert estimate.high == pytest.approx(1.96**2 / (400 + 1.96**2), rel=1e-3)  # Wilson
    assert share_interval([40] * 10, [40] * 10).low == pytest.approx(1 - estimate.high)


def test_a_share_without_spread_is_combined_with_one_that_has_some() -> None:
    tuned = share_interval([4, 8, 6], [40, 40, 40])
    difference = paired_share_difference([0, 0, 0], [40, 40, 40], [4, 8, 6], [40, 40, 40])
    none = share_interval([0, 0, 0], [40, 40, 40])
    assert difference.value == pytest.approx(0.15)
    assert difference.high == pytest.approx(tuned.high)
    assert difference.low == pytest.approx(0.15 - math.hypot(tuned.value - tuned.low, none.high))
    both = paired_share_difference([0, 0], [40, 40], [0, 0], [40, 40])
    assert both.low < both.value == 0.0 < both.high


def test_shares_of_nothing_are_unknown() -> None:
    assert share_interval([], []) == Estimate(0.0, 0.0, 1.0)
    assert share_interval([0, 0], [0, 0]) == Estimate(0.0, 0.0, 1.0)
    assert share_interval([1], [4]) == Estimate(0.25, 0.0, 1.0)
    assert paired_share_difference([1], [4], [2], [4]) == Estimate(0.25, -1.0, 1.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8))
def test_share_intervals_stay_within_their_range(counts: list[tuple[int, int]]) -> None:
    successes, totals = [min(a, b) for a, b in counts], [max(a, b) for a, b in counts]
    estimate = share_interval(successes, totals)
    assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0
    difference = paired_share_difference(successes, totals, successes, totals)
    assert -1.0 <= difference.low <= difference.value == 0.0 <= difference.high <= 1.0


def test_distinct_n_by_hand() -> None:
    texts = [["a", "b", "a"], ["a", "b"], []]
    assert distinct_n(texts, 1) == pytest.approx(2 / 5)
    assert distinct_n(texts, 2) == pytest.approx(2 / 3)  # ab, ba, ab: no pair spans two texts
    assert distinct_n(texts, 4) == 0.0
    with pytest.raises(ValueError, match="n is 0"):
        distinct_n(texts, 0)


def test_distinct_n_interval_by_hand() -> None:
    # a a b | a c: 3 of 5; without the first 2/2, without the second 2/3. Mean 5/6, error sqrt(1/2 * 2 * (1/6)^2) = 1/6
    estimate = distinct_n_interval([["a", "a", "b"], ["a", "c"]], 1, level=0.5)
    assert estimate.value == pytest.approx(0.6)
    assert estimate.low == pytest.approx(0.6 - 1 / 6)
    assert estimate.high == pytest.approx(0.6 + 1 / 6)
    assert distinct_n_interval([], 1) == distinct_n_interval([[], []], 1) == Estimate(0.0, 0.0, 1.0)
    assert distinct_n_interval([["a", "a"]], 1) == Estimate(0.5, 0.0, 1.0)


def story(rng: random.Random, vocabulary: int) -> list[str]:
    return [str(int(vocabulary * rng.random() ** 2)) for _ in range(rng.randint(10, 40))]


def test_distinct_n_intervals_hold_its_expectation() -> None:
    rng = random.Random(1)
    samples = [[story(rng, 200) for _ in range(20)] for _ in range(200)]
    truth = sum(distinct_n(texts, 2) for texts in samples) / len(samples)
    held = [e.low <= truth <= e.high for e in (distinct_n_interval(texts, 2) for texts in samples)]
    assert sum(held) / len(held) > 0.90


def test_a_loss_of_diversity_is_seen() -> None:
    rng = random.Random(2)
    reference, tuned = [story(rng, 2000) for _ in range(20)], [story(rng, 50) for _ in range(20)]
    difference = paired_distinct_n_difference(reference, tuned, 1)
    assert difference.value == pytest.approx(distinct_n(tuned, 1) - distinct_n(reference, 1))
    assert difference.high < 0.0
    same = paired_distinct_n_difference(reference, reference, 1)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
