"""Which linear modules get adapters: what `lora.target_modules` means for one model, as full module names.

Written as peft's users write it: the last part of a name (`q_proj`) or more of it, `all-linear`, or a regular
expression that matches whole names. Only modules that text passes through count, and never the output head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from rlhf_engine.errors import ModelError
from rlhf_engine.models.expressions import matching

ALL_LINEAR = "all-linear"
_SHOWN = 40
# where kernels multiply with the weights of out_proj past the module, so that peft puts no adapters there
_WITH_MAMBA = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})


def choose_targets(model: Any, linear: Sequence[str], wanted: Iterable[str]) -> list[str]:
    """Full names of the modules to adapt, in the model's order.

    linear: those that text passes through (see `TextPass`). wanted: as set by the user; nothing: the attention
    projections, whatever the architecture calls them, or all where nothing is called attention. Raises ModelError
    naming what does not fit, and what would.
    """
    wanted = list(wanted)
    if not wanted:
        return _attention_projections(model, linear)
    found = {name for target in wanted for name in _matching(model, linear, target)}
    return [name for name in linear if name in found]


def _attention_projections(model: Any, linear: Sequence[str]) -> list[str]:
    names = [name for name in linear
             if any("attn" in part or "attention" in part for part in name.lower().split("."))]
    return names or _all_linear(model, linear)


def _all_linear(model: Any, linear: Sequence[str]) -> list[str]:
    of_mamba = getattr(model.config, "model_type", "") in _WITH_MAMBA
    return [name for name in linear if not (of_mamba and name.endswith(".out_proj"))]


def _matching(model: Any, linear: Sequence[str], target: str) -> list[str]:
    if target.lower() == ALL_LINEAR:
        return _all_linear(model, linear)
    there = dict(model.named_modules())
    of_that_name = [name for name in there if name == target or name.endswith(f".{target}")]
    found = [name for name in linear if name in of_that_name]
    head = model.get_output_embeddings()
    if any(there[name] is head for name in of_that_name):
        raise ModelError("lora.target_modules: the output head cannot be adapted, for log-probs are taken past it")
    if found:
        return found
    if of_that_name:
        why = "is no linear module that text passes through in"
    elif re.search(r"[][*+?(){}|^$\\]", target):
        try:
            (found,) = matching([target], linear)
        except ModelError as error:
            raise ModelError(f"lora.target_modules: {target!r} {error}, and no module of {type(model).__name__} has "
                             "that name") from error
        if found:
            return found
        why = "as a regular expression matches no whole name of a linear module of"
    else:
        why = "does not fit"
    raise ModelError(f"lora.target_modules: {target} {why} {type(model).__name__}; its linear modules are "
                     f"{leaves(linear)}, or {ALL_LINEAR} for all of them")


def leaves(linear: Iterable[str]) -> str:
    """The last parts of module names, each once."""
    names = sorted({name.rpartition(".")[2] for name in linear})
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
