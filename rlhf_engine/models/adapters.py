"""LoRA adapters on a model's linear modules, put there by peft."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import transformers_weight_conversion
from torch import nn
from transformers.pytorch_utils import Conv1D

from rlhf_engine.config.sections import LoraConfig as LoraSettings
from rlhf_engine.errors import ModelError, first_line
from rlhf_engine.models.target_modules import choose_targets, leaves


def add_adapters(model: Any, lora: LoraSettings, linear: Sequence[str], names: Sequence[str]) -> PeftModel:
    """Put fresh adapters of these names (at least one) on the modules that `lora.target_modules` means.

    linear: the modules that text passes through. Weights are drawn from torch's own generator, one adapter after the
    other. Raises ModelError naming what cannot be adapted.
    """
    targets = choose_targets(model, linear, lora.target_modules)
    transposed = any(isinstance(module, Conv1D) for module in model.modules())  # GPT-2 stores its matrices so
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
    )
    first, *others = names
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft asks transformers in ways that are on their way out
            with _names_as_they_are():
                peft = get_peft_model(model, settings, adapter_name=first)
                for name in others:
                    peft.add_adapter(name, settings)
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"lora.target_modules: peft puts no adapters on these modules of {type(model).__name__} "
                         f"({first_line(error)}); its linear modules are {leaves(linear)}") from error
    adapted = {name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    if adapted != set(targets):
        raise ModelError(f"lora.target_modules: peft puts adapters on other modules of {type(model).__name__} than "
                         f"those meant: {', '.join(sorted(adapted ^ set(targets))[:3])}")
    return peft


def weights_of(model: nn.Module, adapter: str) -> dict[str, nn.Parameter]:
    """The weights of one adapter, by peft's names for them, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters()
            if f".{adapter}." in name.partition(".lora_")[2]}


@contextmanager
def _names_as_they_are() -> Iterator[None]:
    """peft takes names inside for those of this very model. Else it reads some as those that mixtures of experts had
    before transformers 5, and adapts all experts for a module that is none."""
    before = transformers_weight_conversion.convert_peft_config_for_transformers
    transformers_weight_conversion.convert_peft_config_for_transformers = lambda *_, **__: None
    try:
        yield
    finally:
        transformers_weight_conversion.convert_peft_config_for_transformers = before
