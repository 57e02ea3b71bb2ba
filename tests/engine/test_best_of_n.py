"""Best-of-n held against every subset, against counting, and against its own sampling."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.maths.best_of_n import best_of_n_at, best_of_n_kl, expected_best, expected_best_without

SCORES = st.lists(st.floats(-50, 50), min_size=1, max_size=9)


@given(SCORES, st.data())
def test_the_expected_best_is_the_mean_over_all_subsets(scores: list[float], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(scores)))
    brute = statistics.fmean(max(chosen) for chosen in itertools.combinations(scores, n))
    assert expected_best(scores, n) == pytest.approx(brute, abs=1e-9)


@given(SCORES)
def test_the_best_of_one_is_the_mean_and_the_best_of_all_the_maximum(scores: list[float]) -> None:
    assert expected_best(scores, 1) == pytest.approx(statistics.fmean(scores), abs=1e-9)
    assert expected_best(scores, len(scores)) == pytest.approx(max(scores), abs=1e-9)


@given(SCORES.filter(lambda scores: len(scores) > 1), st.data())
def test_between_whole_numbers_it_climbs(scores: list[float], data: st.DataObject) -> None:
    n = data.draw(st.floats(1, len(scores)))
    low, high = expected_best(scores, math.floor(n)), expected_best(scores, math.ceil(n))
    assert low - 1e-9 <= expected_best(scores, n) <= high + 1e-9


@given(SCORES.filter(lambda scores: len(scores) > 1), st.data())
def test_each_score_left_out_in_turn(scores: list[float], data: st.DataObject) -> None:
    n = data.draw(st.floats(1, len(scores) - 1))
    ordered = sorted(scores)
    brute = [expected_best(ordered[:i] + ordered[i + 1 :], n) for i in range(len(ordered))]
    assert list(expected_best_without(scores, n)) == pytest.approx(brute, abs=1e-9)


def test_the_kl_is_that_of_the_distribution_of_the_best() -> None:
    """With distinct scores the i-th best of m equally likely responses is kept with probability
    ((i/m)^n - ((i-1)/m)^n), and the KL of that to 1/m goes to the formula as m grows."""
    m = 200_000
    for n in (1, 2, 8, 64):
        kept = [(i / m) ** n - ((i - 1) / m) ** n for i in range(1, m + 1)]
        assert sum(p * math.log(p * m) for p in kept if p > 0) == pytest.approx(best_of_n_kl(n), abs=1e-3)


@given(st.floats(0, 20))
def test_n_at_a_kl_is_the_inverse_of_the_kl_at_n(kl: float) -> None:
    n = best_of_n_at(kl)
    assert n >= 1
    assert best_of_n_kl(n) == pytest.approx(kl, abs=1e-9)


def test_a_kl_of_a_model_gone_astray_is_that_of_the_best_of_more_than_can_be_counted() -> None:
    assert best_of_n_at(5000.0) == math.inf


@pytest.mark.parametrize("n", [0.0, -1.0, math.nan, 4.0])
def test_an_n_that_no_pool_can_tell_of_is_refused(n: float) -> None:
    with pytest.raises(ValueError, match=r"n is"):
        expected_best([1.0, 2.0, 3.0], n)


@pytest.mark.parametrize("kl", [-0.1, math.nan, math.inf])
def test_a_kl_that_best_of_n_cannot_have_is_refused(kl: float) -> None:
    with pytest.raises(ValueError, match=r"kl is"):
        best_of_n_at(kl)
