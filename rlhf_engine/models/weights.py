"""Are a loaded model's weights those of its files, all of them, and numbers? Random ones would be trained on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch

from rlhf_engine.errors import ModelError, short

_NAMED = 3
# buffers that older files hold and newer code computes: nothing in them was learnt
_COMPUTED = re.compile(r"(^|\.)((attn|attention)\.bias|masked_bias|inv_freq|position_ids|embed_positions\.weights|"
                       r"causal_mask|rotary_emb\.(cos|sin)_cached|_extra_state)$")
_WRAPPERS = {
    "_orig_mod.": "torch.compile puts it there; save the module inside, model._orig_mod",
    "module.": "DataParallel and DistributedDataParallel put it there; save the module inside, model.module",
    "_fsdp_wrapped_module.": "FSDP puts it there; save the full state dict of the module inside",
    "base_model.model.": "peft puts it there; save the merged model, model.merge_and_unload()",
    "pretrained_model.": "a model with a value head puts it there; save its pretrained_model",
}


def require_complete(model: Any, info: Mapping[str, Any]) -> None:
    """info: the loading info of `from_pretrained`. Raises ModelError naming weights that the files lack, or have for
    another model, or in another size."""
    kind = type(model).__name__
    missing = set(info["missing_keys"])
    unexpected = {key for key in info["unexpected_keys"] if not _COMPUTED.search(key)}
    if info["mismatched_keys"]:
        name, there, wanted = min(info["mismatched_keys"])
        raise ModelError(f"the weights are of another size than its config.json says: {name} is {_shape(there)} in the "
                         f"file and {_shape(wanted)} in {kind}" + _more(len(info["mismatched_keys"]) - 1))
    if not missing and not unexpected:
        return
    hint = _prefix_hint(model, missing, unexpected)
    if missing:
        has = f", and hold what it has no use for: {_names(unexpected)}" if unexpected and not hint else ""
        raise ModelError(f"the weights of {kind} are incomplete: the files lack {_names(missing)}{has}"
                         f"{hint or _saved_as(model)}")
    raise ModelError(f"the files hold weights that {kind} has no use for: {_names(unexpected)}"
                     f"{hint or _saved_as(model)}")


@torch.no_grad()
def require_finite(model: Any) -> None:
    """Raises ModelError naming the first weight that holds NaN or infinite numbers."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not all(bound.isfinite() for bound in parameter.aminmax()):
            half = parameter.dtype == torch.float16 and not parameter.isnan().any()
            why = "; float16 ends at 65,504, so take model.dtype=bfloat16 or float32" if half else ""
            raise ModelError(f"the weights are not all finite: {name} holds NaN or infinite numbers{why}")


def _prefix_hint(model: Any, missing: Collection[str], unexpected: Collection[str]) -> str:
    """What to do when the weights are there, but under names that begin otherwise."""
    own = set(model.state_dict())
    for prefix in {key[: match.end()] for key in unexpected for match in re.finditer(r"\.", key)}:
        bare = {key.removeprefix(prefix) for key in unexpected if key.startswith(prefix)}
        # what transformers takes off by itself may be missing here too
        base = f"{model.base_model_prefix}."
        if bare and all(key in own or base + key in own for key in bare) and len(bare) * 2 > len(missing):
            why = next((why for start, why in _WRAPPERS.items() if prefix.endswith(start)), "save it without")
            return f"; they are there under names that begin with {prefix} ({why})"
    return ""


def _saved_as(model: Any) -> str:
    saved = [name for name in getattr(model.config, "architectures", None) or [] if name != type(model).__name__]
    return f"; it was saved as {', '.join(saved)}" if saved else ""


def _names(keys: Collection[str]) -> str:
    return ", ".join(short(key, 200) for key in sorted(keys)[:_NAMED]) + _more(len(keys) - _NAMED)


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _shape(size: Any) -> str:
    return " x ".join(str(number) for number in size)
