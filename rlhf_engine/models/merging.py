"""Merges the adapter that a fine-tuning left into the model it was trained on.

A weight of half precision takes what is added to it only in steps of its last digit, and what is less than half a step
is lost: of an adapter that moves the weights by a thousandth, bfloat16 keeps about half. So that is measured.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from peft import PeftConfig, PeftModel, PeftModelForSequenceClassification, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from torch import Tensor

from rlhf_engine.errors import ModelError, short
from rlhf_engine.model_folders.adapter_folder import Adapter
from rlhf_engine.model_folders.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_json
from rlhf_engine.models.expressions import matching
from rlhf_engine.models.foreign import foreign

_PREFIX = "base_model.model."
_PROBE = 8  # ids that are asked before and after


class Merged(NamedTuple):
    """kept: the share of what the adapter adds to the weights that rounding leaves; 1 of adapters that are not LoRA."""

    model: Any
    kept: float


def merge(adapter: Adapter, base: Any, dtype: torch.dtype) -> Merged:
    """`base` (in float32) with the adapter in its weights, in `dtype`. Raises ModelError when it is no adapter for it.

    PEFT itself only warns of weights that are missing, and passes over those that it has no place for.
    """
    def does_not_fit(error: BaseException) -> str:
        return f"model.name: the adapter in {adapter.folder} does not fit {adapter.base.name}: {_reason(error)}"

    try:
        with foreign(does_not_fit), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings = _settings(adapter)
            saved = saved_shapes(adapter)
            _check_settings(settings, saved, base)
            _make_room(base, saved)
            # a classifier's head is trained whole, whether or not the settings say so
            kind = PeftModelForSequenceClassification if settings.task_type == "SEQ_CLS" else PeftModel
            peft = kind(base, settings)
            _load(adapter, peft, saved)
            kept = share_kept(peft, dtype)
            return Merged(_merged(peft.eval()).to(dtype), kept)
    except ModelError as error:
        if str(error).startswith("model.name"):
            raise
        raise ModelError(f"model.name: the adapter in {adapter.folder} does not go into {adapter.base.name}: {error}"
                         ) from error


@torch.no_grad()
def share_kept(peft: Any, dtype: torch.dtype) -> float:
    """Of what the LoRA adapters of peft's model add to its weights, the share that is left once these are rounded to
    `dtype`: ⟨after − before, added⟩ / ⟨added, added⟩ over all adapted weights; 1 if nothing is added."""
    added, left = 0.0, 0.0
    for module in peft.modules():
        weight = getattr(module.get_base_layer(), "weight", None) if isinstance(module, LoraLayer) else None
        if weight is not None and not any(module.use_dora.values()):  # DoRA scales the whole weight as well
            delta = module.get_delta_weight(*module.active_adapters).float()
            added += float(delta.square().sum(dtype=torch.float64))
            after = (weight + delta.to(weight.dtype)).to(dtype)  # as it is merged
            left += float(((after.float() - weight.float()) * delta).sum(dtype=torch.float64))
    return left / added if added else 1.0


def _reason(error: BaseException) -> str:
    """What went wrong, in what peft and torch say of it."""
    if isinstance(error, KeyError):  # peft looks weights up by name
        return f"it lacks {short(str(error.args[0])) if error.args else 'a weight'}"
    lines = [line.strip() for line in str(error).split("\n") if line.strip()] or [type(error).__name__]
    # torch: errors in ...:, then which
    return short(lines[1] if lines[0].endswith(":") and lines[1:] else lines[0], 200)


def _settings(adapter: Adapter) -> PeftConfig:
    try:
        return PeftConfig.from_pretrained(str(adapter.folder))
    except Exception as error:
        kind = read_json(adapter.folder / ADAPTER_CONFIG).get("peft_type")
        raise ModelError(f"peft cannot read its {ADAPTER_CONFIG}, of the kind {short(str(kind))}: "
                         f"{_reason(error)}") from error


def _check_settings(settings: Any, saved: dict[str, list[int]], base: Any) -> None:
    """Raises ModelError for expressions that do not end, and ranks that no weight of it has."""
    patterns = {name: getattr(settings, name, None) or {} for name in ("rank_pattern", "alpha_pattern")}
    keys = [key for pattern in patterns.values() if isinstance(pattern, dict) for key in pattern]
    whole = [value for name in ("target_modules", "exclude_modules")
             if isinstance(value := getattr(settings, name, None), str)]
    named = getattr(settings, "layers_pattern", None) or []
    layers = [named] if isinstance(named, str) else list(named) if isinstance(named, list) else []
    expressions = [*whole, *(rf"(.*\.)?({key}).*" for key in keys), *(rf".*\.{layer}\.(\d+)\..*" for layer in layers)]
    if expressions:  # as peft holds them against names
        try:
            matching(expressions, [name for name, _ in base.named_modules()])
        except ModelError as error:
            raise ModelError(f"one of its expressions, {short(expressions[0])}, {error}") from error
    longest = max((side for shape in saved.values() for side in shape), default=0)
    ranks = patterns["rank_pattern"].values() if isinstance(patterns["rank_pattern"], dict) else ()
    for rank in (getattr(settings, "r", None), *ranks):
        if isinstance(rank, int) and rank > longest:
            raise ModelError(f"its rank is {short(f'{rank:,}')}, and no weight in it has more than {longest:,} rows")


def saved_shapes(adapter: Adapter) -> dict[str, list[int]]:
    """The shapes of an adapter's weights, by their names in its file."""
    with safe_open(adapter.folder / ADAPTER_WEIGHTS, framework="pt") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def brought_whole(saved: dict[str, list[int]]) -> dict[str, list[int]]:
    """What of `saved_shapes` may stand in the place of a weight of the model, by the names that it has there."""
    return {name.removeprefix(_PREFIX).replace(".modules_to_save.", "."): shape for name, shape in saved.items()}


def _tables(base: Any) -> dict[str, Tensor]:
    """Embedding and head, by their names in the model."""
    tables = (base.get_input_embeddings(), base.get_output_embeddings())
    return {f"{name}.weight": module.weight for name, module in base.named_modules() if module in tables}


def _rows(base: Any, saved: dict[str, list[int]]) -> dict[str, int]:
    """How many rows the adapter has for embedding and head, where it brings them whole."""
    names = brought_whole(saved)
    return {name: names[name][0] for name in _tables(base) if name in names}


def _make_room(base: Any, saved: dict[str, list[int]]) -> None:
    """Gives the base rows for the tokens that fine-tuning added, which must bring a weight for each."""
    brought = _rows(base, saved)
    rows = set(brought.values())
    if not rows or rows == {base.get_input_embeddings().weight.shape[0]}:
        return
    tied = _tied(base)
    if len(rows) > 1 or len(brought) < (1 if tied else len(_tables(base))):
        raise ModelError("it adds tokens, and does not bring both embedding and head for them")
    base.resize_token_embeddings(rows.pop(), mean_resizing=False)


def _tied(model: Any) -> bool:
    head = model.get_output_embeddings()  # a classifier has none
    return head is not None and head.weight is model.get_input_embeddings().weight


def _load(adapter: Adapter, peft: PeftModel, saved: dict[str, list[int]]) -> None:
    renamed = getattr(peft.get_base_model(), "_checkpoint_conversion_mapping", None)
    found = peft.load_adapter(str(adapter.folder), "default", torch_device="cpu", key_mapping=renamed)
    missing = set(found.missing_keys)
    if not renamed:
        missing |= set(get_peft_model_state_dict(peft, save_embedding_layers=False)) - set(saved)
    # peft saves a table that was made larger twice, once by a name that it passes over
    unexpected = sorted(name for name in found.unexpected_keys if ".modules_to_save." not in name)
    for what, names in (("the model has no place for its", unexpected), ("it lacks", sorted(missing))):
        if names:
            raise ModelError(f"{what} {short(names[0], 200)}" + (f" and {len(names) - 1} more" if names[1:] else ""))


@torch.no_grad()
def _merged(peft: PeftModel) -> Any:
    if not hasattr(peft.base_model, "merge_and_unload"):
        raise ModelError(f"adapters of the kind {peft.peft_config['default'].peft_type.value} have no merged form")
    ids = torch.arange(min(_PROBE, peft.get_base_model().get_input_embeddings().weight.shape[0]))[None]
    before = peft(input_ids=ids, use_cache=False).logits
    model = peft.merge_and_unload(safe_merge=True)
    after = model(input_ids=ids, use_cache=False).logits
    if not torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
        raise ModelError("merged, it answers otherwise")
    model.requires_grad_(False)
    if model.get_output_embeddings() is not None and not _tied(model):
        model.config.tie_word_embeddings = False  # PEFT trains an embedding apart from the head it was tied to
    return model
