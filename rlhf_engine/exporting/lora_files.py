"""What an exported adapter says of itself, and whether it goes onto its base as peft would put it there."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from rlhf_engine.config.model_names import STORYTELLER, folder_of
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.storyteller import MODEL_DIR


def base_of(config: ModelConfig) -> tuple[str, str | None]:
    """The base as plain transformers finds it: a whole path or a hub name, and the revision of the latter."""
    if config.name == STORYTELLER:
        return str(MODEL_DIR), None
    folder = folder_of(config.name)
    return (str(folder.absolute()), None) if folder.is_dir() else (config.name, config.revision)


def lora_settings(
    config: RunConfig, tensors: Mapping[str, Tensor], model: Any, *, task: str = "CAUSAL_LM",
    whole: Sequence[str] = (),
) -> LoraConfig:
    """The settings under which peft puts exactly these tensors on `model`. task: what peft calls the kind of model;
    whole: modules that are saved as they are (its `modules_to_save`)."""
    adapted = sorted({name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors
                      if ".lora_" in name})
    modules = dict(model.named_modules())
    if gone := [name for name in adapted if name not in modules]:
        raise ModelError(f"model.name: {config.model.name!r} is not the model that was trained: it has no {gone[0]}")
    # as people write them, if that means the same modules: other programs may know nothing else
    leaves = sorted({name.rpartition(".")[2] for name in adapted})
    meant = {name for name in modules if name.rpartition(".")[2] in leaves}
    return LoraConfig(
        r=config.lora.rank, lora_alpha=config.lora.alpha, lora_dropout=config.lora.dropout,
        target_modules=leaves if meant == set(adapted) else adapted,
        fan_in_fan_out=any(isinstance(modules[name], Conv1D) for name in adapted), task_type=task,
        modules_to_save=list(whole) or None,
    )


def with_adapter(base: Any, settings: LoraConfig, tensors: Mapping[str, Tensor], config: RunConfig) -> Any:
    """The base with a fresh adapter. Raises ModelError unless that takes these tensors, all of them and no others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers in ways that are on their way out
        model = get_peft_model(base, settings)
    takes = {name: tensor.shape for name, tensor in get_peft_model_state_dict(model).items()}
    if takes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise ModelError(f"model.name: {config.model.name!r} is not the model that was trained: the adapter does not "
                         "fit its modules")
    return model
