"""The Bradley-Terry loss of a reward model, and how far its probabilities can be believed. Pure functions.

A reward model gives each response a score r; P(first preferred) = σ(r_first − r_second) (Bradley & Terry 1952), and the
loss is −log of the probability of what was said (Ouyang et al. 2022, eq. 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlhf_engine.maths.statistics import Estimate, share_interval

CALIBRATION_EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the bins of predicted probability: of the response that a model favours, which is 0.5 at least."""


class RewardModelLoss(NamedTuple):
    """Scalars, sums over pairs / normalizer; all but `loss` are detached. `accuracy` and `margin` are sums over decided
    pairs / `decided` (nothing is right or wrong about a tie)."""

    loss: Tensor
    accuracy: Tensor
    margin: Tensor
    mean_reward: Tensor


class CalibrationBin(NamedTuple):
    """Pairs whose favoured response was given a probability from `low` up to `high`: their mean prediction, the share
    of them in which it was preferred, and how many there are."""

    low: float
    high: float
    predicted: float
    observed: float
    pairs: int


def pair_losses(
    gap: Tensor, tie: Tensor, margin: Tensor | float = 0.0, *, label_smoothing: float = 0.0
) -> Tensor:
    """What each pair costs, nats. gap: r_chosen − r_rejected [pairs]; tie: bool [pairs]; margin: [pairs] or a number.

    −log σ(gap − margin) (Touvron et al. 2023, "Llama 2", eq. 2); with label_smoothing ε a share ε of the pairs is
    taken to be the wrong way round. A tie counts by half weight each way, ½ (−log σ(gap) − log σ(−gap)), whose least is
    log 2 at equal scores; it has no margin. Raises ValueError for smoothing outside 0 to 0.5.
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}; it goes from 0 to below 0.5")
    wanted = torch.where(tie, torch.zeros_like(gap), torch.as_tensor(margin, dtype=gap.dtype, device=gap.device))
    right = torch.where(tie, torch.full_like(gap, 0.5), torch.full_like(gap, 1.0 - label_smoothing))
    return -right * logsigmoid(gap - wanted) - (1 - right) * logsigmoid(-gap - wanted)


def reward_model_loss(
    chosen: Tensor,
    rejected: Tensor,
    tie: Tensor,
    margin: Tensor | float = 0.0,
    *,
    label_smoothing: float = 0.0,
    center_coefficient: float = 0.0,
    normalizer: float,
    decided: float,
) -> RewardModelLoss:
    """The loss of some pairs as their share of a minibatch of `normalizer` pairs, of which `decided` are no ties.

    chosen, rejected: scores with gradient, float [pairs]. See `pair_losses`; besides, center_coefficient times the
    square of the sum of both scores keeps scores around 0 (Eisenstein et al. 2023, "Helping or herding?", eq. 2).
    Results of micro-batches simply add up. Raises ValueError unless normalizer is positive.
    """
    if not normalizer > 0:
        raise ValueError(f"normalizer is {normalizer}; it must be the positive number of pairs of the minibatch")
    losses = pair_losses(chosen - rejected, tie, margin, label_smoothing=label_smoothing)
    if center_coefficient:
        losses = losses + center_coefficient * (chosen + rejected).square()
    better, worse = chosen.detach(), rejected.detach()
    share = torch.where(tie, 0.0, 1.0) / max(decided, 1.0)
    return RewardModelLoss(
        losses.sum() / normalizer, (share * told_apart(better - worse)).sum(), (share * (better - worse)).sum(),
        (better + worse).sum() / (2 * normalizer))


def told_apart(gap: Tensor) -> Tensor:
    """1 where the chosen response has the higher score, ½ where both are equal, else 0; [pairs] -> [pairs]."""
    return (gap > 0).to(gap.dtype) + 0.5 * (gap == 0)


def accuracy_interval(gaps: Sequence[float]) -> Estimate:
    """The share of decided pairs that are told apart, by `told_apart`, and its 95 % interval over pairs."""
    return share_interval([2 * (gap > 0) + (gap == 0) for gap in gaps], [2] * len(gaps))


def calibration(gaps: Sequence[float], ties: Sequence[bool]) -> tuple[float, list[CalibrationBin]]:
    """How far σ(gap) is a probability: the expected calibration error (Guo et al. 2017, eq. 3) and its bins.

    gaps: r_chosen − r_rejected. The favoured response of a pair is that with the higher score, and its probability
    σ(|gap|); it was preferred where that is the chosen one, and by half in a tie. Bins without a pair are left out.
    """
    places = torch.tensor(gaps, dtype=torch.float64)
    predicted = torch.sigmoid(places.abs())
    observed = torch.where(torch.tensor(ties, dtype=torch.bool), 0.5, told_apart(places))
    edges = torch.tensor(CALIBRATION_EDGES[1:-1], dtype=torch.float64)
    which = torch.bucketize(predicted, edges, right=True)
    bins, error = list[CalibrationBin](), 0.0
    for at, (low, high) in enumerate(pairwise(CALIBRATION_EDGES)):
        inside = which == at
        if count := int(inside.sum()):
            mean, share = float(predicted[inside].mean()), float(observed[inside].mean())
            bins.append(CalibrationBin(low, high, mean, share, count))
            error += count / len(gaps) * abs(mean - share)
    return error, bins
