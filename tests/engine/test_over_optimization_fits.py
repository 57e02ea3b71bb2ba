"""Fits of Gao et al. (2022), held against coefficients chosen by hand, and best-of-n by proxy against all subsets."""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.maths.over_optimization import FEWEST, Form, best_by_proxy, fit_gold, peak_of
from rlhf_engine.maths.statistics import correlation

DISTANCES = [0.0, 0.2, 0.5, 0.9, 1.3, 1.8, 2.2, 2.6, 3.0]


def test_points_of_an_rl_curve_give_its_coefficients_and_peak_back() -> None:
    scores = [1.0 + d * (2.0 - 1.5 * math.log(d)) if d else 1.0 for d in DISTANCES]
    fit = fit_gold("rl", DISTANCES, scores)
    assert (fit.start, fit.alpha, fit.beta) == pytest.approx((1.0, 2.0, 1.5))
    assert fit.peak is not None
    assert fit.peak.value == pytest.approx(math.exp(2.0 / 1.5 - 1))  # 1.3956: R' = alpha - beta ln d - beta = 0
    assert (fit.peak.low, fit.peak.high) == pytest.approx((fit.peak.value, fit.peak.value))
    assert fit.at(0.0) == pytest.approx(1.0)
    assert fit.at(1.0) == pytest.approx(3.0)  # ln 1 = 0
    assert fit.deviation == pytest.approx(0, abs=1e-9)


def test_points_of_a_best_of_n_curve_give_its_coefficients_and_peak_back() -> None:
    fit = fit_gold("best_of_n", DISTANCES, [-2.0 + d * (3.0 - 0.5 * d) for d in DISTANCES])
    assert (fit.start, fit.alpha, fit.beta) == pytest.approx((-2.0, 3.0, 0.5))
    assert fit.peak is not None
    assert fit.peak.value == pytest.approx(3.0)  # alpha / (2 beta)
    assert fit.at(3.0) == pytest.approx(2.5)


def test_the_fit_is_the_least_squares_one() -> None:
    scores = [0.1, 0.9, 1.4, 1.1, 2.0, 1.2, 1.9, 1.0, 1.3]
    for form in ("rl", "best_of_n"):
        fit = fit_gold(form, DISTANCES, scores)  # type: ignore[arg-type]
        terms = [(1.0, d, -(d * math.log(d) if d else 0.0) if form == "rl" else -d * d) for d in DISTANCES]
        off = [y - fit.at(d) for d, y in zip(DISTANCES, scores, strict=True)]
        for column in zip(*terms, strict=True):  # residuals of least squares are orthogonal to all columns
            assert math.fsum(map(math.prod, zip(column, off, strict=True))) == pytest.approx(0, abs=1e-9)
        assert fit.deviation == pytest.approx(math.sqrt(math.fsum(value**2 for value in off) / (len(off) - 3)))


def test_noise_widens_the_interval_of_the_peak_and_it_holds_the_value() -> None:
    def peak(noise: float) -> tuple[float, float, float]:
        wobble = itertools.cycle((1, -1, -1, 1, 1, -1, 1))
        distances = [place / 10 for place in range(40)]
        curve = [d * (2.0 - 1.5 * math.log(d)) if d else 0.0 for d in distances]
        fit = fit_gold("rl", distances, [score + noise * next(wobble) for score in curve])
        assert fit.peak is not None
        return fit.peak.low, fit.peak.value, fit.peak.high

    narrow, wide = peak(0.05), peak(0.2)
    for low, value, high in (narrow, wide):
        assert low < value < high
        assert low < math.exp(1 / 3) < high
    assert wide[2] - wide[0] > 3 * (narrow[2] - narrow[0])


@pytest.mark.parametrize(("form", "alpha", "beta"), [("rl", 1.0, 0.0), ("rl", 1.0, -1.0), ("best_of_n", 1.0, -0.1),
                                                     ("best_of_n", -1.0, 1.0), ("rl", 1e4, 1.0)])
def test_a_curve_that_never_turns_has_no_peak(form: Form, alpha: float, beta: float) -> None:
    assert peak_of(form, alpha, beta) is None


@given(st.floats(-5, 5), st.floats(0.01, 5))
def test_nowhere_is_a_curve_higher_than_at_its_peak(alpha: float, beta: float) -> None:
    peak = peak_of("rl", alpha, beta)
    if peak is not None and 1e-6 < peak < 1e6:
        highest = peak * (alpha - beta * math.log(peak))
        assert all(highest >= d * (alpha - beta * math.log(d)) for d in (peak * 0.9, peak * 1.1, peak / 3, peak * 3))


@pytest.mark.parametrize(("distances", "word"), [(DISTANCES[:FEWEST - 1], "too few"), ([1.0] * 20, "too few"),
                                                 ([-0.1, *DISTANCES[1:]], "negative"),
                                                 ([math.nan, *DISTANCES[1:]], "finite")])
def test_what_no_fit_can_be_made_of_is_refused(distances: list[float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        fit_gold("rl", distances, [1.0] * len(distances))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), min_size=1, max_size=6), st.data())
def test_best_by_proxy_is_the_mean_over_all_subsets(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(pairs)))
    bests = []
    for subset in itertools.combinations(pairs, n):
        highest = max(proxy for proxy, _ in subset)
        bests.append(fmean(gold for proxy, gold in subset if proxy == highest))
    found = best_by_proxy([proxy for proxy, _ in pairs], [gold for _, gold in pairs], n)
    assert found == pytest.approx(fmean(bests), abs=1e-9)


def test_best_by_proxy_of_itself_is_best_of_n() -> None:
    assert best_by_proxy([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], 2) == pytest.approx((2 + 4 + 4) / 3)
    assert best_by_proxy([1.0, 2.0, 4.0], [9.0, 0.0, 3.0], 3) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="4"):
        best_by_proxy([1.0, 2.0, 4.0], [9.0, 0.0, 3.0], 4)


def test_correlation_by_hand() -> None:
    assert correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert correlation([1, 2, 3], [-2.0, -4.0, -6.0]) == pytest.approx(-1.0)
    assert correlation([0.1 + 0.2, 0.3, 0.3], [1, 2, 3]) is None  # equal but for rounding
    assert correlation([1.0, 2.0], [5, 5]) is None
    assert correlation([1.0], [2.0]) is None
    assert correlation([1e308, -1e308], [1, 2]) in (None, pytest.approx(-1.0))
