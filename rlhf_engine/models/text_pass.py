"""What of a model takes part when it reads text: its output head, and the linear modules between.

A model that also sees or hears brings towers of its own, a decoder cut out of a translator brings attention to an
encoder that is not there. Names do not tell them apart from architecture to architecture; a pass over two tokens does.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_engine.errors import ModelError, first_line
from rlhf_engine.models.token_log_probs import HeadTransform

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


@dataclass(frozen=True)
class TextPass:
    """What a pass over text showed."""

    head_transform: HeadTransform
    linear: tuple[str, ...]
    """Names of the linear modules that text passes through, without the output head."""
    parameters: frozenset[int]
    """`id` of every parameter of the modules that text passes through."""


@torch.no_grad()
def read_text(model: Any) -> TextPass:
    """Have a causal language model read two tokens and watch it.

    Raises ModelError, one sentence, if it cannot be served: no plain linear head at the end, logits changed after it in
    a way unknown here, or no pass over text alone.
    """
    kind = type(model).__name__
    try:
        head = model.get_output_embeddings()
        if not _is_plain_head(head):
            raise ModelError(f"{kind} ends in no plain linear head over its vocabulary, which log-probs are taken from")
        ids = torch.tensor([[0, 1]], device=model.device)
        with _watching(model) as called:
            logits = model(input_ids=ids, **accepted(model, use_cache=False)).logits
        body = body_of(model)
        hidden = hidden_states(body(input_ids=ids, **accepted(body, use_cache=False)))
        plain = head(hidden).float()
        transform = next((one for one in _head_transforms(model) if _same(one.apply(plain.clone()), logits)), None)
    except ModelError:
        raise
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # models raise whatever their authors thought of
        raise ModelError(f"{kind} does not read text alone as a causal language model does "
                         f"({type(error).__name__}: {first_line(error)})") from error
    if transform is None:
        raise ModelError(
            f"{kind} does more between its hidden states and its logits than this engine knows of: "
            "a plain linear head, a scale and a soft cap are supported"
        )
    linear = [name for name, module in model.named_modules() if is_linear(module) and module is not head]
    patterns = {_pattern(name) for name, module in model.named_modules() if id(module) in called}
    # an expert that these two tokens were not sent to is as much a part as its siblings
    return TextPass(
        transform,
        tuple(name for name in linear if _pattern(name) in patterns),
        frozenset(id(p) for name, p in model.named_parameters() if _pattern(name.rpartition(".")[0]) in patterns),
    )


def body_of(model: Any) -> Any:
    """The part of a causal language model that ends in hidden states: all but the head."""
    body = model.base_model
    if body is not model:
        return body
    # a class with a prefix that none of its modules has
    inside = model.get_decoder()
    if inside is model:
        inside = next((child for child in model.children() if isinstance(child, PreTrainedModel)), model)
    return body_of(inside) if inside is not model and inside.get_output_embeddings() is not None else inside


def hidden_states(output: Any) -> Tensor:
    """The last hidden states [batch, time, hidden] of what a model's body returns."""
    hidden: Tensor = output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0]
    return hidden


def accepted(module: nn.Module, **options: Any) -> dict[str, Any]:
    """Those of `options` that the module's forward takes by name."""
    names = takes(module)
    return {name: value for name, value in options.items() if name in names}


def takes(module: nn.Module) -> frozenset[str]:
    """The names of the arguments of a module's forward; of a mere wrapper's, those of the module inside."""
    parameters = inspect.signature(module.forward).parameters
    inner = [child for child in module.children() if not isinstance(child, nn.ModuleList)]
    if set(parameters) <= {"args", "kwargs"} and len(inner) == 1:
        return takes(inner[0])
    return frozenset(parameters)


def is_linear(module: nn.Module) -> bool:
    """True for what an adapter of two low-rank matrices can be put beside."""
    return isinstance(module, nn.Linear | Conv1D)


def _is_plain_head(head: Any) -> bool:
    weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
    return isinstance(weight, Tensor) and weight.dim() == 2 and (bias is None or isinstance(bias, Tensor))


@contextmanager
def _watching(model: nn.Module) -> Iterator[set[int]]:
    """`id` of every module called inside; of linear ones, those that answered as such (some routers do not)."""
    called: set[int] = set()

    def note(module: nn.Module, _: Any, output: Any) -> None:
        out = getattr(module, "out_features", None) or getattr(module, "nf", None)
        if not is_linear(module) or (isinstance(output, Tensor) and output.shape[-1] == out):
            called.add(id(module))

    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def _pattern(name: str) -> str:
    """A module's name with every number of a layer or an expert blotted out."""
    return _NUMBER.sub("*", name)


def _head_transforms(model: Any) -> Iterator[HeadTransform]:
    """What a model may do to its logits after the head: as its config says, or nothing, for some that also see do not
    do as their text part's config says."""
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    softcap = getattr(config, "final_logit_softcapping", None)
    yield HeadTransform(scale=scale, softcap=float(softcap) if softcap else None)
    yield HeadTransform()


def _same(ours: Tensor, theirs: Tensor) -> bool:
    """Up to rounding in half precision; what is not finite is told by a later check, in better words."""
    return ours.shape == theirs.shape and torch.allclose(ours, theirs.float(), rtol=1e-2, atol=1e-2, equal_nan=True)
