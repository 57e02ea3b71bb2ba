"""A trained run as plain Hugging Face files: its adapter as PEFT writes one, or base and adapter merged.

What is written comes from transformers' and peft's own model, never from the one that trains, whose modules are partly
ours. The folder is written aside and renamed into place: it is whole or not there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from peft import set_peft_model_state_dict
from safetensors import SafetensorError
from torch import Tensor

from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import CheckpointError, ModelError, RunError
from rlhf_engine.exporting.classifier import write_classifiers
from rlhf_engine.exporting.lora_files import base_of, lora_settings, with_adapter
from rlhf_engine.exporting.merged import write_merged
from rlhf_engine.exporting.model_card import loss_told, model_card
from rlhf_engine.exporting.tokenizer import save_tokenizer
from rlhf_engine.files.disk import folder_to_make, fsync_directory, fsync_file, os_error_reason
from rlhf_engine.model_folders.adapter_folder import adapter_of
from rlhf_engine.model_folders.model_files import ADAPTER_WEIGHTS
from rlhf_engine.models.loading import choose_dtype, load_plain, load_skeleton
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.base_model import AS_IT_WAS, BaseChoice, base_fingerprint
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.runs.run_dir import RunDir

Kind = Literal["adapter", "merged"]


@dataclass(frozen=True)
class Exported:
    """What was written: of which run and step, what kind of folder, where, on which base, and its size in bytes.

    dtype: the number format that the run computed the base in; merged weights are written in it, adapters always in
    float32. kept: the share of what the adapter adds to the weights that is left of it in merged ones; None of an
    adapter alone.
    """

    run: str
    step: int
    kind: Kind
    path: Path
    base: str
    dtype: str
    kept: float | None
    bytes: int


def export(
    run_dir: RunDir, target: Path, *, step: int | None = None, merged: bool = False, base: BaseChoice = AS_IT_WAS,
    tell: Callable[[str], None] = lambda text: None,
) -> Exported:
    """Writes the actor at the checkpoint of `step` (None: the newest) into the new folder `target`; of a reward model
    its sequence classifiers (see `classifier`).

    merged: base and adapter in one model, in the number format that the run's base has; else the adapter alone, beside
    which peft loads the base by name. The run is only read. Raises RunError when `target` is taken or the disk refuses,
    CheckpointError when there is no such checkpoint, BaseChangedError when the base is another one now (unless `base`
    accepts that), and ModelError when it cannot be had. tell: takes sentences about
    newer checkpoints that are damaged, and about what rounding took from merged weights.
    """
    target = folder_to_make(target)
    state = checkpoint.state_at(run_dir, step, tell)
    scores = state.config.algorithm.scores_texts
    if not scores:
        state.config.algorithm.require_answers()
    state = replace(state, config=base.placed(state.config))
    base.check(run_dir.name, state.base, base_fingerprint(state.config.model), state.config.model)
    name, revision = base_of(state.config.model)
    kind: Kind = "merged" if merged else "adapter"
    dtype = _dtype(state.config.model)
    with _written_aside(target) as folder:
        kept: float | None = None
        if scores:
            kept = write_classifiers(folder, state, merged=merged, dtype=dtype, run=run_dir.name)
        elif merged:
            kept = _write_merged(folder, state, dtype)
        else:
            _write_adapter(folder, state)
        told = str(dtype).removeprefix("torch.")
        lost = loss_told(kept, told)
        card = model_card(run_dir, state.step, state.config, kind, (name, revision), told, state.numbers, lost)
        (folder / "README.md").write_text(card, encoding="utf-8")
    if lost:
        tell(lost)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Exported(run_dir.name, state.step, kind, target, name, told, kept, size)


# ---------------------------------------------------------------------------------------------------------------------


def _write_adapter(folder: Path, state: TrainingState) -> None:
    """The adapter's two files, and the tokenizer of the base."""
    base, revision = base_of(state.config.model)
    if adapter_of(state.config.model):
        raise ModelError(f"{base} is itself an adapter, and peft puts none on top of another; export the merged model")
    tokenizer, skeleton = load_skeleton(state.config.model)
    tensors = adapter_tensors(state)
    settings = lora_settings(state.config, tensors, skeleton)
    with_adapter(skeleton, settings, tensors, state.config)
    settings.base_model_name_or_path, settings.revision, settings.inference_mode = base, revision, True
    settings.save_pretrained(str(folder))
    safetensors.torch.save_file(dict(tensors), folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    save_tokenizer(tokenizer, folder)


def _write_merged(folder: Path, state: TrainingState, dtype: torch.dtype) -> float:
    """Config, weights, generation config and tokenizer. Returns what `write_merged` does."""
    tokenizer, base, _ = load_plain(state.config.model, dtype)
    tensors = adapter_tensors(state)
    model = with_adapter(base, lora_settings(state.config, tensors, base), tensors, state.config)
    set_peft_model_state_dict(model, dict(tensors))
    kept = write_merged(model, folder)
    save_tokenizer(tokenizer, folder)
    return kept


def adapter_tensors(state: TrainingState) -> dict[str, Tensor]:
    """The actor's adapter in a checkpoint, by the names that peft gives its files. Raises CheckpointError for none."""
    found = {name.removeprefix("actor/").replace(".actor.", "."): tensor.contiguous()
             for name, tensor in state.tensors.items() if name.startswith("actor/")}
    if not found:
        raise CheckpointError(f"The checkpoint of step {state.step} holds no adapter.")
    return found


def _dtype(model: ModelConfig) -> torch.dtype:
    """The number format that the run's base has."""
    there = "cuda" if model.device in ("auto", "cuda") and torch.cuda.is_available() else "cpu"
    return choose_dtype(model.dtype, torch.device(there))


@contextmanager
def _written_aside(target: Path) -> Iterator[Path]:
    """A new folder that becomes `target` if the body ends well, and is gone if not. Raises RunError."""
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        aside.mkdir(parents=True)
        yield aside
        made_as = stat.S_IMODE((aside / "README.md").stat().st_mode)
        for path in aside.rglob("*"):
            if path.is_dir():
                continue
            path.chmod(made_as)  # safetensors makes files for their owner alone
            fsync_file(path)
        for folder in (*(path for path in aside.iterdir() if path.is_dir()), aside):
            fsync_directory(folder)
        folder_to_make(target)
        os.replace(aside, target)  # onto nothing, or onto an empty folder
        fsync_directory(target.parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise RunError(f"{target} could not be written: {os_error_reason(error)}; nothing was left there.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
