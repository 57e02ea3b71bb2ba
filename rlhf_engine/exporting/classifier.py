"""A reward model as plain Hugging Face files: a sequence classifier with one label, as PEFT saves one, or merged.

An ensemble is a folder of them, `member-1` and so on. Beside them `reward_model.json` says what their raw scores mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from peft import set_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from rlhf_engine.errors import CheckpointError, ModelError, first_line
from rlhf_engine.exporting.lora_files import base_of, lora_settings, with_adapter
from rlhf_engine.exporting.merged import write_merged
from rlhf_engine.exporting.tokenizer import save_tokenizer
from rlhf_engine.files.json_text import to_json
from rlhf_engine.model_folders.adapter_folder import adapter_of
from rlhf_engine.model_folders.model_files import ADAPTER_WEIGHTS
from rlhf_engine.models.loading import load_plain, load_skeleton
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.runs.reward_versions import ABOUT

FORMAT = 1
_HEAD = "score"
_PREFIX = "base_model.model."


def write_classifiers(
    folder: Path, state: TrainingState, *, merged: bool, dtype: torch.dtype, run: str
) -> float | None:
    """The members' classifiers with a tokenizer each, and what is to be known of their scores.

    Returns the least share of an adapter that is left in merged weights (see `write_merged`), or None. Raises
    ModelError where transformers has no sequence classifier of this architecture, and CheckpointError for a checkpoint
    without members.
    """
    if (reads := getattr(state.config.algorithm, "reads", "last")) != "last":
        raise ModelError(f"it was trained with algorithm.reads = {reads}, and sequence classifiers read the last "
                         "token; a [[rewards]] of kind preference uses it as it lies in the run")
    heads = state.config.algorithm.needs.heads
    names = ["."] if len(heads) == 1 else [f"member-{number}" for number in range(1, len(heads) + 1)]
    base, revision = base_of(state.config.model)
    if not merged and adapter_of(state.config.model):
        raise ModelError(f"{base} is itself an adapter, and peft puts none on top of another; export the merged model")
    shares = list[float]()
    for name, (head, adapter) in zip(names, heads, strict=True):
        own = folder / name
        own.mkdir(exist_ok=True)
        tensors = classifier_tensors(state, head, adapter)
        if merged:
            tokenizer, kept = _write_merged(own, state, tensors, dtype)
            shares.append(kept)
        else:
            tokenizer, causal = load_skeleton(state.config.model)
            with torch.device("meta"):
                model = _classifier(causal, tokenizer)
            settings = lora_settings(state.config, tensors, model, task="SEQ_CLS", whole=[_HEAD])
            with_adapter(model, settings, tensors, state.config)
            settings.base_model_name_or_path, settings.revision, settings.inference_mode = base, revision, True
            settings.save_pretrained(str(own))
            safetensors.torch.save_file(tensors, own / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        save_tokenizer(tokenizer, own)
    about = {
        "format": FORMAT, "run": run, "step": state.step, "members": names, "merged": merged,
        "center": state.numbers["center"], "scale": state.numbers["scale"],
        "base_fingerprint": state.base.hex if state.base else None,
        "chat_template": state.config.data.chat_template, "system": state.config.data.system,
        "rank": state.config.lora.rank, "alpha": state.config.lora.alpha,
    }
    (folder / ABOUT).write_text(to_json(about, indent=2) + "\n", encoding="utf-8")
    return min(shares, default=None)


def classifier_tensors(state: TrainingState, head: str, adapter: str) -> dict[str, Tensor]:
    """A member's adapter and head in a checkpoint, by the names that peft gives its files. Raises CheckpointError."""
    found = {name.removeprefix(f"{adapter}/"): tensor.contiguous()
             for name, tensor in state.tensors.items() if name.startswith(f"{adapter}/")}
    weight = found.pop(f"{head}_head.weight", None)
    if weight is None or not found:
        raise CheckpointError(f"The checkpoint of step {state.step} holds no adapter {adapter} with a head.")
    return {name.replace(f".{adapter}.", "."): tensor for name, tensor in found.items()} | {
        f"{_PREFIX}{_HEAD}.weight": weight}


# ---------------------------------------------------------------------------------------------------------------------


def _classifier(causal: Any, tokenizer: Any) -> Any:
    """transformers' sequence classifier beside a causal language model, with one label and fresh weights."""
    config = causal.config
    config.num_labels, config.problem_type = 1, "regression"
    if config.pad_token_id is None:  # of a batch the last token that is no padding is read
        config.pad_token_id = tokenizer.pad_token_id
    try:
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    except ValueError as error:
        raise ModelError(f"transformers has no sequence classifier of {type(causal).__name__} "
                         f"({first_line(error)})") from error
    if not isinstance(getattr(model, _HEAD, None), torch.nn.Linear):
        raise ModelError(f"{type(model).__name__} has no head that is called {_HEAD}, as a reward model's is")
    return model


def _write_merged(
    folder: Path, state: TrainingState, tensors: dict[str, Tensor], dtype: torch.dtype
) -> tuple[Any, float]:
    tokenizer, causal, _ = load_plain(state.config.model, dtype)
    model = _classifier(causal, tokenizer).to(dtype)
    missing = set(model.load_state_dict(causal.state_dict(), strict=False).missing_keys)
    if missing - {f"{_HEAD}.weight"}:
        raise ModelError(f"{type(model).__name__} has weights that {type(causal).__name__} lacks: {min(missing)}")
    peft = with_adapter(model, lora_settings(state.config, tensors, model, task="SEQ_CLS", whole=[_HEAD]), tensors,
                        state.config)
    set_peft_model_state_dict(peft, dict(tensors))
    return tokenizer, write_merged(peft, folder)
