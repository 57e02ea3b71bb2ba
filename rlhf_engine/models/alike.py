"""When two ways to compute the same are taken to agree."""

from __future__ import annotations

import torch
from torch import Tensor


def answers_alike(answer: Tensor, expected: Tensor) -> bool:
    """Up to rounding: merged weights, another order of sums, fewer roundings between."""
    scale = expected.float().abs().max()
    bound = 1e-4 if expected.dtype == torch.float32 else 5e-2
    return bool((answer.float() - expected.float()).abs().max() <= bound * scale)
