"""Adapter and base in one weight."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from rlhf_engine.errors import ModelError, first_line
from rlhf_engine.models.merging import share_kept


@torch.no_grad()
def write_merged(model: Any, folder: Path) -> float:
    """The base of peft's `model` with the adapter merged in, in the number format that the base has.

    Returns what of the adapter is left there (see `share_kept`). Raises ModelError for numbers that are not finite, and
    OSError.
    """
    try:
        kept = share_kept(model, model.dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = model.merge_and_unload(safe_merge=True)
        whole.save_pretrained(folder)
    except ValueError as error:  # weights that are not finite, or settings that transformers will not write
        raise ModelError(f"base and adapter could not be merged: {first_line(error)}") from error
    return kept
