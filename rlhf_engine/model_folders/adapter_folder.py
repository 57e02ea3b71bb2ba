"""Folders that hold an adapter instead of a model, as fine-tuning with PEFT leaves them. No torch here.

`model.name` may name one: the adapter is then merged into the model it was trained on, and that is the base. So may
`model` of a reward of kind "classifier", one that was trained as a sequence classifier.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf_engine.config.model_names import folder_of
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import ModelError, short
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.model_folders.model_files import ADAPTER_CONFIG, CONFIG, folder_in_use, read_json, weight_files
from rlhf_engine.model_folders.model_folder import require_adapter

Task = Literal["CAUSAL_LM", "SEQ_CLS"]
"""What an adapter was trained for, as PEFT calls it."""
_WHAT = {"CAUSAL_LM": "a causal language model", "SEQ_CLS": "a sequence classifier"}
_NO_SEQUENCE = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT",
                "CARTRIDGE")

WELL_KEPT = 0.95
"""Of a smaller share that rounding leaves of a merged adapter a person is told."""


@dataclass(frozen=True)
class Adapter:
    """An adapter, the model it goes on, and whether that lies in the same folder."""

    folder: Path
    base: ModelConfig
    beside: bool


def adapter_of(config: ModelConfig, task: Task = "CAUSAL_LM") -> Adapter | None:
    """The adapter that `config` names, if it is one, and is on this machine.

    Raises ModelError for one that cannot be merged into a model of that task, or whose base is not plain.
    """
    folder = folder_in_use(config)
    if folder is None or not os.path.isfile(folder / ADAPTER_CONFIG):
        return None
    try:
        return _adapter_in(folder, config, task)
    except OSError as error:
        raise ModelError(f"model.name: {folder} cannot be read: {os_error_reason(error)}") from error
    except ModelError as error:
        raise ModelError(f"model.name: {error}") from error


def _adapter_in(folder: Path, config: ModelConfig, wanted: Task) -> Adapter:
    require_adapter(folder)
    settings = read_json(folder / ADAPTER_CONFIG)
    if reason := _no_use(settings, wanted):
        raise ModelError(f"{folder} holds {reason}")
    name, whole = settings.get("base_model_name_or_path"), bool(weight_files(folder))
    if not isinstance(name, str) or not name:
        raise ModelError(f"{folder} holds an adapter that does not say which base model it is for; set "
                         f"base_model_name_or_path in its {ADAPTER_CONFIG} to that model's folder or hub name")
    base = _base(folder, name)
    beside = base is not None and base.samefile(folder)
    if whole and not beside:
        raise ModelError(f"{folder} holds a whole model and an adapter for {name} too, so it is not plain whether the "
                         f"one is in the other already; take away the adapter's files (adapter_*), or {CONFIG} and the "
                         "model's weights")
    if base is not None and not beside and (base / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{folder} holds an adapter for another adapter, {base}; merge that one first")
    revision = settings.get("revision")
    found = {"name": str(base) if base else name,
             "revision": revision if base is None and isinstance(revision, str) else None}
    return Adapter(folder, config.model_copy(update=found), beside)


def _no_use(settings: dict[str, Any], wanted: Task) -> str:
    """What it is instead of an adapter that can be merged into a model of that task; empty if it is one."""
    kind, task = str(settings.get("peft_type")), settings.get("task_type")
    trained = json.dumps(settings.get("auto_mapping") or {})
    another = "Classification" in trained or "QuestionAnswering" in trained
    if task not in (None, wanted) or (task is None and wanted == "SEQ_CLS") or (another and wanted == "CAUSAL_LM"):
        what = short(str(task or "another kind of model"))
        return f"an adapter for {what}, not for {_WHAT[wanted]} ({wanted})"
    if kind in _NO_SEQUENCE:
        return f"an adapter of the kind {kind}, which adds to the prompt and cannot be merged into weights"
    if settings.get("megatron_config"):  # with it, PEFT imports the module that another setting names
        return "an adapter for Megatron, which would run code that it names"
    for setting in ("layer_replication", "alora_invocation_tokens"):
        if settings.get(setting):
            return f"an adapter with {setting}, which cannot be merged into weights"
    return ""


def _base(folder: Path, name: str) -> Path | None:
    """The base's folder, if it is one. A relative one is looked for from the adapter's own folder upwards, so that it
    does not matter where the program is started, and then from there; None for a hub name.
    """
    named = folder_of(name)
    if named.is_absolute():
        if not os.path.isdir(named):
            raise ModelError(f"{folder} holds an adapter for {short(name, 400)}, and there is no such folder; set "
                             f"base_model_name_or_path in its {ADAPTER_CONFIG} to where that model is")
        return named
    whole = folder.absolute()
    places = [place / named for place in (whole, *whole.parents, Path.cwd())]
    found = next((place for place in places if os.path.isfile(place / CONFIG)), None)
    if found is None and (name.startswith(".") or name.count("/") > 1 or os.sep == name[-1:]):
        raise ModelError(f"{folder} holds an adapter for {short(name, 400)}, and no such folder is near; set "
                         f"base_model_name_or_path in its {ADAPTER_CONFIG} to where that model is")
    return found
