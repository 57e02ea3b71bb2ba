"""Intervals for comparing two models on paired samples. Plain Python, deterministic.

The unit of sampling is the response: words of one response depend on each other, so no interval here treats them as
separate observations. Every statistic gets its interval the same way, by the jackknife over responses (Efron & Stein
1981) and Student's t: leave each response out in turn and see how far the statistic moves. For a mean this is exactly
the textbook interval.

Tried and dropped: the bootstrap. Resampling with replacement repeats responses, repeated responses repeat n-grams, and
the share of distinct n-grams falls so far that the interval can miss the very value it is drawn around.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

Words = Sequence[str]

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A statistic and its confidence interval. An interval that reaches as far as it can (to infinity, or to 0 and 1
    for a share) says that there was too little data to tell."""

    value: float
    low: float
    high: float


def mean_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean and its t interval. One value gives an infinite interval. Raises ValueError for none."""
    if not values:
        raise ValueError("there are no values to take a mean of")
    total, n = math.fsum(values), len(values)
    without = [(total - value) / (n - 1) for value in values] if n > 1 else []
    return _jackknife(total / n, without, level)


def paired_difference_interval(reference: Sequence[float], tuned: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean of tuned[i] - reference[i] and its t interval. Raises ValueError for none, or unequal lengths."""
    return mean_interval([b - a for a, b in zip(reference, tuned, strict=True)], level)


def share_interval(successes: Sequence[int], totals: Sequence[int], level: float = 0.95) -> Estimate:
    """The share sum(successes) / sum(totals) and its interval; the i-th response has successes[i] of totals[i] words.

    Within 0 and 1; the share of no words is 0, with the interval [0, 1]. When every response has the same share (0,
    say) there is no spread to measure; then Wilson's interval (1927) over words stands in, as if they were
    independent: too narrow, if anything, but honest that none seen does not mean none ever.
    Raises ValueError for unequal lengths.
    """
    return _share(successes, totals, level).interval(level)


def paired_share_difference(
    reference_successes: Sequence[int],
    reference_totals: Sequence[int],
    tuned_successes: Sequence[int],
    tuned_totals: Sequence[int],
    level: float = 0.95,
) -> Estimate:
    """The tuned share minus the reference share, response i of one paired with response i of the other.

    Within -1 and 1. Where a share has no spread (see `share_interval`) it cannot vary with the other, and the two
    intervals are combined as independent ones (Newcombe 1998, method 10).
    Raises ValueError for unequal lengths.
    """
    reference = _share(reference_successes, reference_totals, level)
    tuned = _share(tuned_successes, tuned_totals, level)
    return _difference(reference, tuned, level)


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's r of first[i] with second[i], -1 to 1; None where one of them does not vary, or numbers are too large.
    Raises ValueError for unequal lengths."""
    pairs, n = list(zip(first, second, strict=True)), len(first)
    if n < 2 or not all(map(math.isfinite, (*first, *second))):
        return None
    a, b = math.fsum(first) / n, math.fsum(second) / n
    try:
        scale = math.sqrt(math.fsum((x - a) ** 2 for x in first)) * math.sqrt(math.fsum((y - b) ** 2 for y in second))
    except OverflowError:
        return None
    spread = max(abs(x - a) for x in first) * max(abs(y - b) for y in second)
    # what is left of equal numbers by rounding is no spread
    level = _ROUNDING * max(map(abs, (*first, 1e-300))) * max(map(abs, (*second, 1e-300)))
    if not (math.isfinite(scale) and scale > 0 and spread > level):
        return None
    return max(-1.0, min(1.0, math.fsum((x - a) * (y - b) for x, y in pairs) / scale))


def distinct_n(texts: Sequence[Words], n: int) -> float:
    """Share of different n-grams among all n-grams of all texts (Li et al. 2016, distinct-n); 0 if there are none.

    It falls as texts get longer or more numerous: compare only equal numbers of texts of like length.
    Raises ValueError for n below 1.
    """
    return _distinct(texts, n).value


def distinct_n_interval(texts: Sequence[Words], n: int, level: float = 0.95) -> Estimate:
    """`distinct_n` and its interval within 0 and 1, for samples of this many texts."""
    return _distinct(texts, n).interval(level)


def paired_distinct_n_difference(
    reference: Sequence[Words], tuned: Sequence[Words], n: int, level: float = 0.95
) -> Estimate:
    """distinct_n of tuned minus that of reference, text i paired with text i. Raises ValueError for unequal lengths."""
    return _difference(_distinct(reference, n), _distinct(tuned, n), level)


@dataclass(frozen=True)
class _Ratio:
    """A share of pooled counts, what it would be without each response, and what to say if that tells nothing."""

    value: float
    without: list[float]
    spreadless: Estimate

    @property
    def has_no_spread(self) -> bool:
        return len(self.without) > 1 and max(self.without) - min(self.without) < _ROUNDING

    def interval(self, level: float) -> Estimate:
        if self.has_no_spread:
            return self.spreadless
        return _clipped(_jackknife(self.value, self.without, level), 0.0, 1.0)


def _share(successes: Sequence[int], totals: Sequence[int], level: float) -> _Ratio:
    hits, trials = sum(successes), sum(totals)
    without = [_ratio(hits - s, trials - t) for s, t in zip(successes, totals, strict=True)]
    return _Ratio(_ratio(hits, trials), without if len(without) > 1 else [], wilson_interval(hits, trials, level))


def _distinct(texts: Sequence[Words], n: int) -> _Ratio:
    if n < 1:
        raise ValueError(f"n is {n}; n-grams have at least one word")
    grams = [Counter(_ngrams(words, n)) for words in texts]
    holders = Counter(gram for counts in grams for gram in counts)
    total = sum(counts.total() for counts in grams)
    # Leaving a text out takes away the n-grams that no other text has.
    own = [sum(holders[gram] == 1 for gram in counts) for counts in grams]
    without = [_ratio(len(holders) - o, total - counts.total()) for o, counts in zip(own, grams, strict=True)]
    value = _ratio(len(holders), total)
    exact = Estimate(value, value, value) if total else Estimate(value, 0.0, 1.0)
    return _Ratio(value, without if len(without) > 1 else [], exact)


def _difference(reference: _Ratio, tuned: _Ratio, level: float) -> Estimate:
    value = tuned.value - reference.value
    without = [b - a for a, b in zip(reference.without, tuned.without, strict=True)]
    if reference.has_no_spread or tuned.has_no_spread:
        a, b = reference.interval(level), tuned.interval(level)
        down = math.hypot(b.value - b.low, a.high - a.value)
        up = math.hypot(b.high - b.value, a.value - a.low)
        return _clipped(Estimate(value, value - down, value + up), -1.0, 1.0)
    return _clipped(_jackknife(value, without, level), -1.0, 1.0)


def _jackknife(value: float, without: Sequence[float], level: float) -> Estimate:
    """value with a t interval; without[i] is the statistic with response i left out (fewer than two: infinite)."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; it must be between 0 and 1")
    n = len(without)
    if n < 2:
        return Estimate(value, -math.inf, math.inf)
    centre = math.fsum(without) / n
    error = math.sqrt((n - 1) / n * math.fsum((w - centre) ** 2 for w in without))
    reach = _student_t(n - 1, level) * error
    return Estimate(value, value - reach, value + reach)


def wilson_interval(hits: float, trials: int, level: float = 0.95) -> Estimate:
    """The share of `hits` in `trials` that are independent of each other, and its interval by Wilson (1927), sound also
    for few of them and for shares of 0 and 1; half a hit is a tie. The share of none is 0, with the interval [0, 1]."""
    if trials == 0:
        return Estimate(0.0, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, spread = hits / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    reach = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return _clipped(Estimate(share, min(share, middle - reach), max(share, middle + reach)), 0.0, 1.0)


@lru_cache(maxsize=256)
def _student_t(freedom: int, level: float) -> float:
    """The t with P(|T| < t) = level, by bisection of the exact series in the angle atan(t / sqrt(freedom))
    (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4)."""
    if freedom > 1000:  # here the first correction to the normal quantile (26.7.5) is right to six digits
        z = NormalDist().inv_cdf(0.5 + level / 2)
        return z + (z**3 + z) / (4 * freedom)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, freedom) < level else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _t_within(angle: float, freedom: int) -> float:
    """P(|T| < sqrt(freedom) * tan(angle)) for Student's T."""
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def _ngrams(words: Words, n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _clipped(estimate: Estimate, low: float, high: float) -> Estimate:
    return Estimate(estimate.value, max(low, estimate.low), min(high, estimate.high))
