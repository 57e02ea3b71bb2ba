"""Advantages without a critic: a response against the others to its prompt, or of its batch. Pure functions.

scores: float [batch]; rows of one group stand together, `size` of them. Results have the same shape.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Scale = Literal["group", "batch", "none"]

STD_FLOOR = 1e-4
"""Added to a standard deviation before dividing by it, as GRPO's implementations do."""
_ROUNDING = 16 * torch.finfo(torch.float32).eps


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
    return shifted.abs().amax(1) <= _ROUNDING * groups.abs().amax(1)
