"""How a gold score follows the proxy that is optimized: the two forms of Gao, Schulman & Hilton (2022, "Scaling laws
for reward model overoptimization"), by least squares. Pure functions.

d is √KL(policy || reference), KL in nats per response. The paper sets the reference's score to 0; here it is the third
coefficient, for that of a run is known from its first steps alone, which are as noisy as all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlhf_engine.maths.statistics import Estimate

Form = Literal["rl", "best_of_n"]
FEWEST = 8
"""Points of different d that a fit is made of at the least: three coefficients through fewer say little."""
_RESAMPLES = 1000
_LEVEL = 0.95


@dataclass(frozen=True)
class Fit:
    """R(d) = start + d (alpha − beta ln d) of form "rl" (equation 2 of the paper), start + d (alpha − beta d) of form
    "best_of_n" (equation 1).

    peak: the d above 0 at which that is highest, with a 95 % interval (the percentiles of 1000 resamplings of the
    residuals; it ends in infinity where some of them have no peak); None where the curve has none, for it rises without
    end. deviation: of the points around the curve.
    """

    form: Form
    start: float
    alpha: float
    beta: float
    peak: Estimate | None
    deviation: float

    def at(self, d: float) -> float:
        """The score at d."""
        return self.start + float(np.dot(_terms(self.form, np.array([d]))[0], (self.alpha, self.beta)))


def fit_gold(form: Form, distances: Sequence[float], scores: Sequence[float]) -> Fit:
    """The least-squares fit of the scores at these d (0 or more). Raises ValueError for fewer than `FEWEST` different
    d, numbers that are not finite, or d that do not tell the coefficients apart."""
    d, y = np.asarray(distances, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if not (np.isfinite(d).all() and np.isfinite(y).all() and (d >= 0).all()):
        raise ValueError("distances must be finite and not negative, and scores finite")
    if len(d) != len(y):
        raise ValueError(f"{len(d)} distances for {len(y)} scores")
    if len(np.unique(d)) < FEWEST:
        raise ValueError(f"{len(np.unique(d))} different KLs are too few for a fit of three coefficients; it takes "
                         f"{FEWEST}")
    design = np.column_stack([np.ones_like(d), _terms(form, d)])
    if np.linalg.matrix_rank(design) < 3:
        raise ValueError("the KLs are too close to one another for a fit")
    solve = np.asarray(np.linalg.pinv(design), dtype=np.float64)
    start, alpha, beta = solve @ y
    fitted = np.asarray(design @ np.array([start, alpha, beta]), dtype=np.float64)
    residuals = (y - fitted) * math.sqrt(len(d) / (len(d) - 3))  # their own spread is smaller by the coefficients
    deviation = float(np.sqrt(np.mean(residuals**2)))
    return Fit(form, float(start), float(alpha), float(beta), _interval(form, solve, fitted, residuals), deviation)


def peak_of(form: Form, alpha: float, beta: float) -> float | None:
    """The d above 0 at which d (alpha − beta ln d), or d (alpha − beta d), is highest: e^(alpha / beta − 1), or
    alpha / (2 beta). None where it is nowhere: without end at beta of 0 or below, at 0 itself, or beyond all floats."""
    if not beta > 0:
        return None
    try:
        found = math.exp(alpha / beta - 1) if form == "rl" else alpha / (2 * beta)
    except OverflowError:
        return None
    return found if 0 < found < math.inf else None


def best_by_proxy(proxy: Sequence[float], gold: Sequence[float], n: int) -> float:
    """The expected gold score of the response whose proxy is the best of n, drawn from these without replacement:
    exact, over all subsets at once; of responses whose proxies are equal each is as likely to be taken.

    Raises ValueError unless 1 <= n <= len(proxy) == len(gold).
    """
    if len(proxy) != len(gold):
        raise ValueError(f"{len(proxy)} proxy scores for {len(gold)} gold ones")
    if not 1 <= n <= len(proxy):
        raise ValueError(f"n is {n}; the best of so many cannot be told from {len(proxy)} responses")
    order = np.argsort(np.asarray(proxy, dtype=np.float64), kind="stable")
    ranked, scores = np.asarray(proxy, dtype=np.float64)[order], np.asarray(gold, dtype=np.float64)[order]
    _, place, count = np.unique(ranked, return_inverse=True, return_counts=True)
    level = np.bincount(place, weights=scores) / count  # the mean gold of those that tie
    return float(_chances(len(ranked), n) @ level[place])


# ---------------------------------------------------------------------------------------------------------------------


def _terms(form: Form, d: NDArray[np.float64]) -> NDArray[np.float64]:
    """[points, 2]: what alpha and beta are multiplied by. d ln d goes to 0 with d."""
    second = np.where(d > 0, d * np.log(np.where(d > 0, d, 1.0)), 0.0) if form == "rl" else d * d
    return np.column_stack([d, -second])


def _interval(
    form: Form, solve: NDArray[np.float64], fitted: NDArray[np.float64], residuals: NDArray[np.float64]
) -> Estimate | None:
    _, alpha, beta = solve @ fitted
    value = peak_of(form, float(alpha), float(beta))
    if value is None:
        return None
    draws = np.random.default_rng(0)  # equal points give equal intervals
    # the coefficients are linear in the scores: each resample is one more column
    drawn = residuals[draws.integers(0, len(residuals), size=(len(residuals), _RESAMPLES))]
    coefficients = solve @ (fitted[:, None] + drawn)
    found = sorted(_or_end(form, float(a), float(b)) for a, b in coefficients[1:].T)
    tail = (1 - _LEVEL) / 2
    low, high = (found[round(share * (_RESAMPLES - 1))] for share in (tail, 1 - tail))
    return Estimate(value, low, high)


def _or_end(form: Form, alpha: float, beta: float) -> float:
    """The peak; where there is none, the end at which the curve is highest."""
    found = peak_of(form, alpha, beta)
    return found if found is not None else 0.0 if beta > 0 and alpha <= 0 else math.inf


def _chances(count: int, n: int) -> NDArray[np.float64]:
    """The probability that the i-th lowest of `count` is the best of n of them: C(i − 1, n − 1) / C(count, n)."""
    whole = math.lgamma(count + 1) - math.lgamma(n + 1) - math.lgamma(count - n + 1)
    return np.array([0.0 if i < n else math.exp(math.lgamma(i) - math.lgamma(n) - math.lgamma(i - n + 1) - whole)
                     for i in range(1, count + 1)])
