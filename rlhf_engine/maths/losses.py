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


class GroupLoss(NamedTuple):
    """Scalars; all but `loss` are detached. Each adds up over micro-batches."""

    loss: Tensor
    clip_low: Tensor
    """Share of tokens whose ratio is below 1 - clip_low, with an advantage below 0: without gradient."""
    clip_high: Tensor
    """Share of tokens whose ratio is above 1 + clip_high, with an advantage above 0: without gradient."""
    kl: Tensor
    """KL to the reference by k3, nats per token; 0 without one."""
    ratio_mean: Tensor


def group_policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    reference_log_probs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    weights: Tensor,
    clip_low: float,
    clip_high: float,
    kl_coef: float,
    sequence_ratio: bool,
    token_count: float,
) -> GroupLoss:
    """GRPO's surrogate with its KL penalty, negated to be minimised (Shao et al. 2024, eq. 3).

    log_probs (with gradient), old_log_probs, reference_log_probs: float [batch, time]; advantages: float [batch];
    mask: bool [batch, time]. The ratio is clipped to 1 - clip_low .. 1 + clip_high (two bounds: Yu et al. 2025, DAPO,
    eq. 10). sequence_ratio: one ratio for all tokens of a response, exp of its mean log-ratio (Zheng et al. 2025,
    GSPO, eq. 7). weights: [batch], what each token of a response counts in the sum, all normalization included; 0
    leaves a response out. token_count: tokens of the whole minibatch, for the shares and means that are reported.
    """
    _require_positive(token_count)
    log_ratio = torch.where(mask, log_probs - old_log_probs, 0.0)
    if sequence_ratio:
        log_ratio = log_ratio.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)
    ratio = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    advantages = advantages.unsqueeze(1)
    kept = torch.minimum(advantages * ratio, advantages * ratio.clamp(1.0 - clip_low, 1.0 + clip_high))
    per_token = -kept.expand(mask.shape)
    kl = torch.zeros_like(per_token)
    if reference_log_probs is not None:
        # k3 of the tokens as the actor gives them now: its gradient pulls back wherever they were sampled from
        kl = kl_k3(torch.where(mask, log_probs, 0.0), torch.where(mask, reference_log_probs, 0.0))
        per_token = per_token + kl_coef * kl
    loss = (torch.where(mask, per_token, 0.0).sum(1) * weights).sum()
    fixed = ratio.detach()
    low, high = (fixed < 1.0 - clip_low) & (advantages < 0), (fixed > 1.0 + clip_high) & (advantages > 0)
    return GroupLoss(
        loss=loss,
        clip_low=(low & mask).sum() / token_count,
        clip_high=(high & mask).sum() / token_count,
        kl=torch.where(mask, kl.detach(), 0.0).sum() / token_count,
        ratio_mean=torch.where(mask, fixed, 0.0).sum() / token_count,
    )


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
