"""Best-of-n: what the reference reaches when the best of n of its responses is kept, at which KL. Pure functions.

No training is in it, so it is the measure of training: at equal KL, a trained policy hardly gets a better score
(Stiennon et al. 2020, section 4.3; Gao et al. 2022, "Scaling laws for reward model overoptimization", section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def best_of_n_kl(n: float) -> float:
    """KL(best of n || reference) = log n - (n - 1) / n, nats per response (Stiennon et al. 2020, appendix G.3).

    Exact where no two responses have the same score; with ties it is an upper bound (Beirami et al. 2024, theorem 1).
    Raises ValueError for n below 1.
    """
    _require_count(n)
    return math.log(n) - (n - 1.0) / n


def best_of_n_at(kl: float) -> float:
    """The n whose `best_of_n_kl` is `kl`, nats; a real number of 1 or more, infinite where no float holds it. Raises
    ValueError unless kl is finite and not negative."""
    if not (math.isfinite(kl) and kl >= 0.0):
        raise ValueError(f"kl is {kl}; it must be a finite number of nats, 0 or more")
    low, high = 0.0, kl + 1.0  # of log n: log n - 1 < KL < log n
    for _ in range(100):
        middle = (low + high) / 2
        # 1/n - 1 = expm1(-log n): near n = 1 the KL is a difference of nearly equal numbers
        low, high = (middle, high) if middle + math.expm1(-middle) < kl else (low, middle)
    try:
        return math.exp((low + high) / 2)
    except OverflowError:
        return math.inf


def expected_best(scores: Sequence[float], n: float) -> float:
    """The expected best of n of these scores drawn without replacement: exact, from all subsets at once, and so
    unbiased for the best of n new responses (Nakano et al. 2021, "WebGPT", appendix I, of the maximum).

    n may be any real number from 1 to len(scores); between whole numbers binomials go on as gamma functions do. Raises
    ValueError for others.
    """
    return float(_chances(len(scores), n) @ np.sort(np.asarray(scores, dtype=np.float64)))


def expected_best_without(scores: Sequence[float], n: float) -> NDArray[np.float64]:
    """`expected_best` with each of the scores left out in turn, float64 [len(scores)] from the lowest to the highest:
    what a jackknife takes. Raises ValueError unless n is from 1 to len(scores) - 1."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    chances = _chances(len(ordered) - 1, n)
    # those below the one left out keep their rank, those above move down by one
    below = np.concatenate([[0.0], np.cumsum(chances * ordered[:-1])])
    above = np.concatenate([np.cumsum((chances * ordered[1:])[::-1])[::-1], [0.0]])
    return below + above


def _chances(count: int, n: float) -> NDArray[np.float64]:
    """The probability that the i-th lowest of `count` is the best of n of them."""
    _require_count(n)
    if n > count:
        raise ValueError(f"n is {n:g}; the best of so many cannot be told from {count} scores")
    # P(best is among the lowest i) = C(i, n) / C(count, n), 0 below n
    below = np.zeros(count + 1)
    for i in range(count + 1):
        if i >= n:
            below[i] = math.exp(_log_binomial(i, n) - _log_binomial(count, n))
    return np.diff(below)


def _log_binomial(count: float, n: float) -> float:
    return math.lgamma(count + 1) - math.lgamma(n + 1) - math.lgamma(count - n + 1)


def _require_count(n: float) -> None:
    if not n >= 1.0:
        raise ValueError(f"n is {n:g}; best-of-n takes the best of one response or more")
