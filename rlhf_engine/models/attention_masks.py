"""Attention masks that are made without a look at them.

transformers leaves a mask out where nothing is padded, so that torch may take a faster kernel. To know that, it reads a
number from the mask in every pass: on a CUDA device the CPU then waits until all is done that was asked for before, and
the device waits for what comes after. What is sampled is padded nearly always, so there the mask is always made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask


def never_read_masks() -> None:
    """From now on, in this process, for all models that attend by torch's `scaled_dot_product_attention`."""
    AttentionMaskInterface.register("sdpa", _mask)


def _mask(
    *args: Any, attention_mask: Tensor | None = None, allow_is_causal_skip: bool = True,
    device: torch.device | str = "cpu", **options: Any,
) -> Tensor | None:
    """As `sdpa_mask`: bool [batch, 1, queries, keys], or None where nothing has to be left out, which on a GPU is only
    so where nobody spoke of padding."""
    reads = attention_mask is not None and torch.device(device).type == "cuda"
    mask: Tensor | None = sdpa_mask(*args, attention_mask=attention_mask, device=device,
                                    allow_is_causal_skip=allow_is_causal_skip and not reads, **options)
    return mask
