"""The losses of methods that learn from their own samples, clipped. Pure functions over tensors.

Every result is a sum over the mask divided by `normalizer`, the number of tokens (or responses) of the WHOLE
minibatch, over all its micro-batches and processes. So results of micro-batches simply add up, to the same number
however ragged the split is; an average of averages would weigh tokens of short responses more.

Tensors are [batch, time] with a mask of response tokens, or [batch] with a mask of ones where a response is one action.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_engine.maths.estimators import LOG_RATIO_LIMIT, kl_k3


class PolicyLoss(NamedTuple):
    """Scalars; all but `loss` are detached. Each adds up over micro-batches."""

    loss: Tensor
    clip_fraction: Tensor
    """Share of tokens for which the clipped term was the one that counted."""
    approx_kl: Tensor
    """KL(old || new) by k3, in nats per token (per response for [batch] tensors)."""
    ratio_mean: Tensor


class ValueLoss(NamedTuple):
    """Scalars; `clip_fraction` is detached. Each adds up over micro-batches."""

    loss: Tensor
    clip_fraction: Tensor
    """Share of tokens for which the clipped error was the larger one."""


def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, *, clip_range: float, normalizer: float
) -> PolicyLoss:
    """The clipped surrogate of PPO, negated to be minimised (Schulman et al. 2017, eq. 7).

    log_probs (with gradient), old_log_probs, advantages: float; mask: bool; all [batch, time] or all [batch].
    The log-ratio is clamped to +-20, so that a difference of 100 nats stays finite (and has no gradient).
    Raises ValueError unless normalizer is positive.
    """
    _require_positive(normalizer)
    # Masked before exp: an infinite ratio on padding would turn a zero gradient into NaN.
    log_ratio = torch.where(mask, log_probs - old_log_probs, 0.0).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    advantages = torch.where(mask, advantages, 0.0)
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    ratio = ratio.detach()
    return PolicyLoss(
        loss=torch.maximum(unclipped, clipped).sum() / normalizer,
        clip_fraction=(clipped > unclipped).sum() / normalizer,
        approx_kl=torch.where(mask, kl_k3(old_log_probs, log_probs.detach()), 0.0).sum() / normalizer,
        ratio_mean=torch.where(mask, ratio, 0.0).sum() / normalizer,
    )


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, clip_range: float | None, normalizer: float
) -> ValueLoss:
    """Half the squared error of the critic, the larger of the plain one and the one of a value that moved at most
    clip_range from its rollout value (the reference implementation of Schulman et al. 2017; not in the paper).

    values (with gradient), old_values, returns: float; mask: bool; all [batch, time] or all [batch].
    clip_range: in units of reward; None for the plain squared error. Raises ValueError unless normalizer is positive.
    """
    _require_positive(normalizer)
    values = torch.where(mask, values, 0.0)
    old_values = torch.where(mask, old_values, 0.0)
    returns = torch.where(mask, returns, 0.0)
    unclipped = (values - returns).square()
    if clip_range is None:
        return ValueLoss(0.5 * unclipped.sum() / normalizer, torch.zeros_like(unclipped.sum()).detach())
    # between bounds, not old + a clamped difference: rounding would make a value that may move as it likes another one
    near = values.clamp(old_values - clip_range, old_values + clip_range)
    clipped = (near - returns).square()
    return ValueLoss(
        loss=0.5 * torch.maximum(unclipped, clipped).sum() / normalizer,
        clip_fraction=(clipped > unclipped).sum() / normalizer,
    )


def _require_positive(normalizer: float) -> None:
    if not normalizer > 0:
        raise ValueError(f"normalizer is {normalizer}; it must be the positive number of tokens of the minibatch")
