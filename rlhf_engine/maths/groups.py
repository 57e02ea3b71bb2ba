"""What groups of responses to one prompt learn by, without a critic: advantages, and GRPO's loss. Pure functions.

scores: float [batch]; rows of one group stand together, `size` of them. Advantages have the same shape.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rlhf_engine.maths.estimators import LOG_RATIO_LIMIT, ROUNDING, kl_k3

Scale = Literal["group", "batch", "none"]

STD_FLOOR = 1e-4
"""Added to a standard deviation before dividing by it, as GRPO's implementations do."""


def group_advantages(scores: Tensor, size: int, *, scale: Scale) -> Tensor:
    """Score minus the mean of its group, divided by a standard deviation (divisor n - 1, plus `STD_FLOOR`).

    scale: "group" divides by that of the group (Shao et al. 2024, "DeepSeekMath", section 4.1), "batch" by that of all
    scores, "none" not at all (Liu et al. 2025, "Understanding R1-Zero-like training", Dr. GRPO: dividing favours
    prompts whose scores hardly differ). Groups of equal scores give exactly 0. Raises ValueError unless the batch is
    whole groups of 2 or more.
    """
    groups = _grouped(scores, size)
    centred = _centred(groups)
    if scale == "group":
        centred = centred / (centred.square().sum(1, keepdim=True) / (size - 1)).sqrt().add(STD_FLOOR)
    elif scale == "batch":
        centred = centred / (scores.std() + STD_FLOOR)
    return centred.flatten()


def leave_one_out_advantages(rewards: Tensor, size: int) -> Tensor:
    """Reward minus the mean of the others of its group (Kool et al. 2019; Ahmadian et al. 2024, "Back to basics",
    eq. 8): unbiased, for that baseline has not seen the response. Raises ValueError unless the batch is whole groups
    of 2 or more."""
    return _centred(_grouped(rewards, size)).flatten() * (size / (size - 1))


def equal_groups(scores: Tensor, size: int) -> Tensor:
    """bool [batch / size]: groups whose scores are all equal but for rounding, from which nothing can be learnt."""
    groups = _grouped(scores, size)
    return _spread_is_rounding(groups - groups[:, :1], groups)


def best_and_worst(scores: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The places in `scores` of each group's best and of its worst response, the first of equal ones; int64
    [batch / size] each. Raises ValueError as `group_advantages` does."""
    groups = _grouped(scores, size)
    first = torch.arange(0, len(scores), size, device=scores.device)
    return first + groups.argmax(1), first + groups.argmin(1)


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
    if not token_count > 0:
        raise ValueError(f"token_count is {token_count}; it must be the positive number of tokens of the minibatch")
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


def _grouped(scores: Tensor, size: int) -> Tensor:
    if size < 2 or len(scores) % size or not len(scores):
        raise ValueError(f"{len(scores)} scores are no whole groups of {size}; a group has two responses or more")
    return scores.reshape(-1, size)


def _centred(groups: Tensor) -> Tensor:
    """Each score minus its group's mean; of differences from one of them, so that equal scores give exactly 0."""
    shifted = groups - groups[:, :1]
    equal = _spread_is_rounding(shifted, groups).unsqueeze(1)
    return torch.where(equal, 0.0, shifted - shifted.mean(1, keepdim=True))


def _spread_is_rounding(shifted: Tensor, groups: Tensor) -> Tensor:
    return shifted.abs().amax(1) <= ROUNDING * groups.abs().amax(1)
