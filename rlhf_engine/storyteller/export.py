"""Write a model and its tokenizer as a plain Hugging Face folder, in half precision and readable by all."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .tokenizer import END_ID, PAD_ID

if TYPE_CHECKING:
    from transformers import GPTNeoForCausalLM, PreTrainedTokenizerFast


def export(
    model: GPTNeoForCausalLM,
    values: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
) -> None:
    """Save `model` with these weights; other files in the folder stay as they are."""
    clone = copy.deepcopy(model)
    clone.load_state_dict(values, strict=False)
    clone.tie_weights()
    clone.generation_config.update(bos_token_id=END_ID, eos_token_id=END_ID, pad_token_id=PAD_ID, do_sample=True)
    folder.mkdir(parents=True, exist_ok=True)
    clone.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def install(source: Path, folder: Path) -> None:
    """Copy the files of a model into the package's model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        shutil.copyfile(path, folder / path.name)
        (folder / path.name).chmod(0o644)
