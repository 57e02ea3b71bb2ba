"""How much of the gain of best-of-n a model reaches at its KL, and how surely. No torch.

`Pool` is by prompt, the scores of the reference's responses to it. A prompt weighs as much as it was answered.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np
from numpy.typing import NDArray

from rlhf_engine.evaluation.frontier import CurvePoint, Frontier, Standing, n_text
from rlhf_engine.events import Sample
from rlhf_engine.maths.best_of_n import best_of_n_at, best_of_n_kl, expected_best, expected_best_without
from rlhf_engine.maths.statistics import Estimate, mean_interval

Pool = Mapping[str, Sequence[float]]

_LEAST, _USUAL = 16, 64  # to a prompt, however little the KL asks for: a curve of 64 ends at a KL of 3 nats
_LEAST_PROMPTS = 4
_TIMES = 16


@dataclass(frozen=True)
class Plan:
    """Which prompts, how many responses of the reference to each, and the most that fewer prompts would allow."""

    prompts: tuple[str, ...]
    each: int
    most: int


def plan_pool(prompts: Sequence[str], kls: Sequence[float], bound: int) -> Plan:
    """What to draw so that best-of-n can be told at those of the `kls` (nats) that `bound` responses in all allow.

    Many times n to each prompt, as far as there is room for all of them: m responses hold only m/n independent bests of
    n, and an error in their mean shifts the share of every side alike. Where twice n is too much for all prompts, fewer
    are asked, evenly from all.
    """
    found = list(dict.fromkeys(prompts))
    fewest = min(_LEAST_PROMPTS, len(found), max(1, bound // 2))
    most = max(1, bound // fewest)
    wanted = [best_of_n_at(kl) for kl in kls if math.isfinite(kl) and kl > 0]
    reached = max((n for n in wanted if n <= most - 1), default=1.0)
    usual = min(_USUAL, max(_LEAST, bound // len(found)))
    room = min(math.ceil(_TIMES * reached), bound // len(found))
    each = min(most, max(usual, math.ceil(2 * reached), room))
    count = max(fewest, min(len(found), bound // each))
    return Plan(tuple(found[index * len(found) // count] for index in range(count)), each, most)


def frontier_of(
    sides: Sequence[Sequence[Sample] | None], labels: Sequence[str], pool: Pool, most: int,
    other_reference: Sequence[bool] | None = None,
) -> Frontier:
    """All sides against one pool. sides: scored responses; None for the reference. most: how many responses to a
    prompt there could have been. other_reference: that side's KL is to another model than the pool is of."""
    asked = next(side for side in sides if side is not None)
    all_prompts = len({sample.prompt for sample in asked})
    counts = Counter(sample.prompt for sample in asked if sample.prompt in pool)
    weights = {prompt: count / counts.total() for prompt, count in counts.items()}
    responses = min(len(pool[prompt]) for prompt in weights)
    found = Frontier(responses=responses, prompts=len(weights), all_prompts=all_prompts)
    if not all(math.isfinite(score) for prompt in weights for score in pool[prompt]):
        return Frontier(why="best-of-n: some scores of the reference's responses are no finite numbers")
    against = _Against(pool, weights, responses, max(most, responses))
    others = other_reference or [False] * len(sides)
    standings = tuple(None if side is None else against.standing(label, side, other)
                      for side, label, other in zip(sides, labels, others, strict=True))
    ns = [float(2**power) for power in range(responses.bit_length()) if 2**power < responses] + [float(responses)]
    curve = tuple(CurvePoint(n, best_of_n_kl(n), against.best(n)) for n in ns)
    return Frontier(standings, curve, found.responses, found.prompts, found.all_prompts)


@dataclass(frozen=True)
class _Against:
    """One pool, with the weight of each prompt; `responses` is the size of the smallest part."""

    pool: Pool
    weights: Mapping[str, float]
    responses: int
    most: int

    def best(self, n: float) -> float:
        return math.fsum(weight * expected_best(self.pool[prompt], n) for prompt, weight in self.weights.items())

    def standing(self, label: str, samples: Sequence[Sample], other_reference: bool) -> Standing:
        here = [sample for sample in samples if sample.prompt in self.weights]
        scores = [math.nan if sample.score is None else sample.score for sample in here]
        kls = [math.nan if sample.kl is None else sample.kl for sample in here]
        kl, score = fmean(kls), fmean(scores)

        def untold(why: str, n: float | None = None, n_at_kl: float | None = None) -> Standing:
            return Standing(label, kl, score, n, n_at_kl, None, why)

        if other_reference:
            return untold("not held against best-of-n: its reference is another model than the first one's")
        if not (math.isfinite(kl) and math.isfinite(score)):
            return untold("not held against best-of-n: its scores or KLs are no finite numbers")
        equal = self._n_at(score)
        if kl <= 0:
            return untold(f"not held against best-of-n: that gains nothing at a KL of {kl:.3g} nats", equal)
        n = best_of_n_at(kl)
        if n > self.responses - 1:
            return untold(f"its KL of {kl:.2f} nats is that of best-of-{n_text(n)}, beyond what {self.most} responses "
                          "per prompt can tell; a larger pool tells more", equal, n)
        share = self._share(scores, kls, n)
        if share is None:
            return untold(f"not held against best-of-n: the reference's responses to a prompt score so much alike that "
                          f"best-of-{n_text(n)}, at its KL, has no gain that can be told from 0", equal, n)
        return Standing(label, kl, score, equal, n, share)

    def _n_at(self, score: float) -> float | None:
        if not self.best(1.0) < score < self.best(float(self.responses)):
            return None
        low, high = 0.0, math.log(self.responses)
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.best(math.exp(middle)) < score else (low, middle)
        return math.exp((low + high) / 2)

    def _share(self, scores: Sequence[float], kls: Sequence[float], n: float) -> Estimate | None:
        """(score - reference) / (best of n - reference), by the delta method; None where the gain may be 0.

        What varies are the side's responses, whose score and KL (and with it n) vary together, and the pool's, whose
        part is a jackknife within each prompt: the prompts are those they are. Responses that reference and side drew
        from the same noise count as independent: too wide, if anything.
        """
        kl, score, reference = fmean(kls), fmean(scores), self.best(1.0)
        gain, reached = self.best(n) - reference, score - reference
        of_best, of_share = 0.0, 0.0  # variances
        per_gain = reached / gain / gain if gain > 0 else 0.0
        for prompt, weight in self.weights.items():
            means = expected_best_without(self.pool[prompt], 1.0)
            gains = expected_best_without(self.pool[prompt], n) - means
            of_best += weight**2 * _jackknifed(gains)
            if gain > 0:
                of_share += weight**2 * _jackknifed(-means / gain - per_gain * gains)
        z = NormalDist().inv_cdf(0.975)
        if gain <= 1e-9 * max(1.0, abs(reference)) or gain <= z * math.sqrt(of_best):
            return None
        high = min(kl * 1.01, best_of_n_kl(float(self.responses)))
        low = kl * 0.99
        slope = (self.best(best_of_n_at(high)) - self.best(best_of_n_at(low))) / (high - low)
        of_side = mean_interval([s / gain - per_gain * slope * k for s, k in zip(scores, kls, strict=True)])
        reach = math.hypot(of_side.value - of_side.low, z * math.sqrt(of_share))
        return Estimate(reached / gain, reached / gain - reach, reached / gain + reach)


def _jackknifed(without: NDArray[np.float64]) -> float:
    """The variance of a statistic that is without[i] with the i-th value left out."""
    return float((len(without) - 1) * np.var(without))
