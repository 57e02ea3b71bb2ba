"""Adapter and base in one weight, and how much of the adapter is left of it there.

A weight of half precision takes what is added to it only in steps of its last digit, and what is less than half a step
is lost. The adapters of a short run, or of a low learning rate, are as small as that: of one that moves the weights by
a thousandth, bfloat16 keeps about half. So it is measured, and told.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from rlhf_engine.errors import ModelError, first_line


@torch.no_grad()
def write_merged(model: Any, folder: Path) -> float:
    """The base of peft's `model` with the adapter merged in, in the number format that the base has.

    Returns the share of what the adapter adds that rounding has left: ⟨after − before, added⟩ / ⟨added, added⟩ over all
    adapted weights, 1 if nothing is added. Raises ModelError for numbers that are not finite, and OSError.
    """
    added, left = 0.0, 0.0
    try:
        for module in model.modules():
            if isinstance(module, LoraLayer):
                delta, base = module.get_delta_weight(*module.active_adapters), module.get_base_layer()
                before = base.weight.data
                module.merge(safe_merge=True)  # into other memory
                moved = base.weight.data.float() - before.float()
                added += float(delta.square().sum(dtype=torch.float64))
                left += float((moved * delta).sum(dtype=torch.float64))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that all is merged already
            whole = model.merge_and_unload()
        whole.save_pretrained(folder)
    except ValueError as error:  # weights that are not finite, or settings that transformers will not write
        raise ModelError(f"base and adapter could not be merged: {first_line(error)}") from error
    return left / added if added else 1.0
