"""What torch compiles of a model's layers: norms, rotary embeddings, and what gated layers do between their products.

Beside the products they are most of what a layer does. Each is found by what transformers' modules have in common, not
by a list of models; what is not found stays as it is.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaMLP

from rlhf_engine.models.compiled import Compiled

_ROTARY = "apply_rotary_pos_emb"
"""(queries, keys, cosines, sines, …) -> queries and keys, turned by their positions: so called in most models."""


def compile_modules(model: nn.Module) -> list[Compiled]:
    """Change a frozen model in place: norms of transformers' own, rotary embeddings, and the activation of gated layers
    with its product are compiled; once a class. What was compiled for other models is compiled anew when they ask."""
    torch.compiler.reset()  # of each function torch keeps eight versions, for all models that a process ever had
    norms: dict[type[nn.Module], Compiled] = {}
    rotary: dict[Callable[..., Any], Compiled] = {}
    gated = Compiled("gated layers", _activate_and_multiply, rows=(1, 2), learns=(1, 2))
    for module in model.modules():
        kind = type(module)
        if _is_norm(module):
            if kind not in norms:
                norms[kind] = Compiled(kind.__name__, kind.forward, rows=(1,), learns=(1,))
            module.__dict__["forward"] = _by_rows(module, norms[kind])
        elif function := _rotary_of(kind):
            if function not in rotary:
                rotary[function] = Compiled("rotary embeddings", function, learns=(0, 1))
            module.__dict__["forward"] = types.MethodType(_with_rotary(kind, rotary[function]), module)
        elif _is_gated(kind):
            module.__dict__["forward"] = partial(_feed_forward, module, gated)
    return [*norms.values(), *rotary.values(), gated]


def _is_norm(module: nn.Module) -> bool:
    """Whether it is a norm over the last dimension that Python spells out: torch's own are one kernel."""
    kind = type(module)
    if not kind.__name__.endswith("Norm") or kind.__module__.startswith("torch.") or [*module.children()]:
        return False
    return len(inspect.signature(kind.forward).parameters) == 2


def _by_rows(module: nn.Module, norm: Compiled) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        found: Tensor = norm(module, states.reshape(-1, states.shape[-1]))
        return found.view(states.shape)

    return forward


def _is_gated(kind: type[nn.Module]) -> bool:
    """Whether its forward is, operation by operation, down(activation(gate(x)) * up(x)) (Shazeer 2020)."""
    code, known = getattr(kind.forward, "__code__", None), LlamaMLP.forward.__code__
    return code is not None and (code.co_code, code.co_names) == (known.co_code, known.co_names)


def _feed_forward(module: Any, gated: Compiled, x: Tensor) -> Tensor:
    gate, up = module.gate_proj(x), module.up_proj(x)
    width = gate.shape[-1]
    product: Tensor = gated(module.act_fn, gate.reshape(-1, width), up.reshape(-1, width))
    found: Tensor = module.down_proj(product.view(gate.shape))
    return found


def _activate_and_multiply(activation: nn.Module, gate: Tensor, up: Tensor) -> Tensor:
    product: Tensor = activation(gate) * up
    return product


def _rotary_of(kind: type[nn.Module]) -> Callable[..., Any] | None:
    """The function of that name which its forward calls."""
    forward = kind.forward
    if not isinstance(forward, types.FunctionType) or _ROTARY not in forward.__code__.co_names:
        return None
    found = forward.__globals__.get(_ROTARY)
    names = [*inspect.signature(found).parameters][:4] if found is not None else []
    return found if names == ["q", "k", "cos", "sin"] else None


def _with_rotary(kind: type[nn.Module], rotary: Compiled) -> types.FunctionType:
    """Its forward with that function in place of its own, for one model and not for the whole class."""
    forward = kind.forward
    assert isinstance(forward, types.FunctionType), "only of such functions is it known what they call"
    names = {**forward.__globals__, _ROTARY: rotary}
    own = types.FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    own.__kwdefaults__ = forward.__kwdefaults__
    return own
