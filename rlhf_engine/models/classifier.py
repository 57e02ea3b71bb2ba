"""A frozen sequence classifier of Hugging Face format: its weights all from its files, and outputs that hang on no
neighbour in the batch."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PretrainedConfig
from transformers.utils import logging as transformers_logging

from rlhf_engine.config.model_names import folder_of
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import ModelError, first_line
from rlhf_engine.model_folders import remote_code
from rlhf_engine.model_folders.adapter_folder import Adapter
from rlhf_engine.model_folders.model_claims import check_config_sizes, check_described_size
from rlhf_engine.model_folders.model_files import folder_in_use, has_tokenizer
from rlhf_engine.model_folders.model_folder import require_fetched, require_model
from rlhf_engine.models.foreign import foreign
from rlhf_engine.models.loading import (
    NO_ADAPTER,
    adapter_named,
    choose_device,
    choose_dtype,
    fetched_for_a_look,
    is_path,
)
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.models.merging import brought_whole, merge, saved_shapes
from rlhf_engine.models.tokens import context_length
from rlhf_engine.models.weights import require_complete, require_finite

WHAT = "sequence classifier"
# what a checkpoint may hold besides, of the tasks that the encoder was trained in before: no classifier reads it
_OF_OTHER_HEADS = re.compile(r"(^|\.)(pooler\.|lm_head\.|cls\.(predictions|seq_relationship)\.|vocab_projector\.|"
                             r"vocab_transform\.|vocab_layer_norm\.|lm_predictions\.|mask_predictions\.|"
                             r"generator_predictions\.|discriminator_predictions\.)")
_NO_LIMIT = 10**6  # what tokenizers say that know of no limit is far above it


@dataclass(frozen=True)
class Encoded:
    """One text as the classifier reads it: token ids, and to which of two texts each belongs, where it can tell."""

    ids: list[int]
    types: list[int] | None = None


@dataclass(frozen=True)
class SequenceClassifier:
    """A classifier in eval mode on its device, without gradients. labels: the names of its outputs, in order. kind:
    what its config says that it was trained for ("regression", "multi_label_classification", …), "" if it does not."""

    model: Any
    tokenizer: Any
    device: torch.device
    labels: tuple[str, ...]
    kind: str
    context: int | None
    """The most tokens that it reads; None where nothing limits them."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def logits(self, rows: Sequence[Encoded], batch_size: int) -> Tensor:
        """Its outputs, float32 [rows, labels] on the CPU, of texts of one token at least. Texts of similar length are
        read together; of which ones does not matter beyond the rounding of sums (1e-5 in float32)."""
        order = sorted(range(len(rows)), key=lambda at: len(rows[at].ids))
        found = torch.empty(len(rows), len(self.labels))
        with self._lock, torch.inference_mode():
            for first in range(0, len(order), batch_size):
                places = order[first:first + batch_size]
                found[places] = self._forward([rows[at] for at in places]).float().cpu()
        return found

    def _forward(self, rows: list[Encoded]) -> Tensor:
        """[rows, labels]. Padded on the right, with a mask, by the token that the model itself calls padding: some look
        for it to find the last token. Where its config names none, by one that no row has."""
        settings = self.model.config.get_text_config()
        named, width = settings.pad_token_id, max(len(row.ids) for row in rows)
        padding = self._free_token(rows) if named is None else named
        ids = [row.ids + [padding] * (width - len(row.ids)) for row in rows]
        mask = [[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows]
        given = {"input_ids": ids, "attention_mask": mask}
        if all(row.types is not None for row in rows):
            given["token_type_ids"] = [(row.types or []) + [0] * (width - len(row.ids)) for row in rows]
        settings.pad_token_id = padding
        try:
            logits: Tensor = self.model(
                **{name: torch.tensor(values, device=self.device) for name, values in given.items()}).logits
        finally:
            settings.pad_token_id = named
        return logits

    def _free_token(self, rows: list[Encoded]) -> int:
        used = {token for row in rows for token in row.ids}
        most = self.model.get_input_embeddings().num_embeddings
        return next((token for token in range(most - 1, -1, -1) if token not in used), 0)


def load_classifier(source: ModelConfig) -> SequenceClassifier:
    """The classifier and its tokenizer. Raises ModelError: one sentence on what was not found, or is no classifier; one
    whose head is not among its weights is refused, for transformers would make up a random one."""
    device = choose_device(source.device)
    dtype = choose_dtype(source.dtype, device)

    def sentence(error: BaseException) -> str:
        if out_of_memory(error):
            return f"out of memory while {source.name!r} was loaded onto {device}"
        if "trust_remote_code" in str(error):
            return remote_code.how_to(source).removeprefix("model.name: ")
        return f"{source.name!r} does not hold a {WHAT} that loads: {first_line(error)}"

    with foreign(sentence):
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        adapter = adapter_named(source, "SEQ_CLS")
        tokenizer, model = _merged(source, adapter, dtype) if adapter else _whole(source, dtype, {})
        require_finite(model)
        model.requires_grad_(False)
        model.to(device).eval()
        return SequenceClassifier(model, tokenizer, device, _labels(model.config), _kind(model.config),
                                  _context(model, tokenizer))


# ---------------------------------------------------------------------------------------------------------------------


def _whole(source: ModelConfig, dtype: torch.dtype, brought: Mapping[str, list[int]]) -> tuple[Any, Any]:
    """Tokenizer and classifier as transformers gives them, on the CPU. brought: the shapes of weights that an adapter
    brings, its head above all, by their names: the files may lack them."""
    name, where = _place(source)
    options = where | remote_code.options(source, name, where)
    check_config_sizes(PretrainedConfig.get_config_dict(name, **options)[0])
    settings = AutoConfig.from_pretrained(name, **options)
    tokenizer = AutoTokenizer.from_pretrained(name, **options)
    auto = AutoModelForSequenceClassification
    trusted = {key: value for key, value in options.items() if key in ("trust_remote_code", "code_revision")}

    def skeleton(labels: int) -> Any:
        described = copy.deepcopy(settings)
        described.num_labels = labels
        with torch.device("meta"):
            return auto.from_config(described, **trusted)

    check_described_size(skeleton(settings.num_labels), folder_in_use(source))
    if brought:
        settings.num_labels = _count_labels(skeleton(1), skeleton(2), brought) or settings.num_labels
    model, info = auto.from_pretrained(name, config=settings, dtype=dtype, use_safetensors=True,
                                       output_loading_info=True, ignore_mismatched_sizes=True,
                                       adapter_kwargs=NO_ADAPTER, **options)
    require_complete(model, _of_this_model(info, brought))
    return tokenizer, model


def _merged(source: ModelConfig, adapter: Adapter, dtype: torch.dtype) -> tuple[Any, Any]:
    """The adapter in its base, added in float32, with the head and the tokenizer that it brings."""
    saved = brought_whole(saved_shapes(adapter))
    try:
        tokenizer, base = _whole(adapter.base, torch.float32, saved)
    except ModelError as error:
        raise ModelError(f"{adapter.folder} holds an adapter, whose model does not load: {_bare(error)}") from error
    try:
        model = merge(adapter, base, dtype).model
    except ModelError as error:
        raise ModelError(_bare(error)) from error
    if has_tokenizer(adapter.folder) and not adapter.beside:
        where = {"local_files_only": True}
        options = where | remote_code.options(source, str(adapter.folder), where)
        tokenizer = AutoTokenizer.from_pretrained(adapter.folder, config=model.config, **options)
    return tokenizer, model


def _count_labels(one: Any, two: Any, brought: Mapping[str, list[int]]) -> int | None:
    """How many labels a head has that an adapter brings; None if it brings none. one, two: the same model with so many
    labels, which tells the weights that have a row for each."""
    sizes = {name: weight.shape for name, weight in two.named_parameters()}
    rows = {brought[name][0] for name, weight in one.named_parameters()
            if weight.shape != sizes[name] and brought.get(name)}
    if len(rows) > 1:
        raise ModelError("the adapter's head has another number of labels in each of its weights")
    return rows.pop() if rows else None


def _bare(error: ModelError) -> str:
    return str(error).removeprefix("model.name: ")


def _place(source: ModelConfig) -> tuple[str, dict[str, Any]]:
    """What to hand to from_pretrained, looked over before any library reads it. Raises ModelError."""
    folder = folder_of(source.name)
    if folder.is_dir() or (folder.is_file() and is_path(source.name)):
        require_model(folder, WHAT)
        return str(folder), {"local_files_only": True}
    if is_path(source.name):
        raise ModelError(f"there is no folder {source.name!r}; give a folder that holds config.json, or a hub name "
                         "such as owner/model")
    try:
        fetched, options = fetched_for_a_look(source)
    except ModelError as error:
        why = str(error).removeprefix("model.name: ").partition("; ")[0]
        raise ModelError(f"{why}; give a local copy, or another classifier") from error
    require_fetched(fetched)
    return source.name, options


def _of_this_model(info: Mapping[str, Any], brought: Mapping[str, list[int]]) -> dict[str, Any]:
    """The loading info, without weights of heads that the encoder had before, and those that an adapter brings."""
    missing = set(info["missing_keys"]) - brought.keys()
    others = {key for key in info["unexpected_keys"] if _OF_OTHER_HEADS.search(key)}
    if missing:
        others = set()  # they may tell what is in the place of what is missing
    return {**info, "missing_keys": missing, "unexpected_keys": set(info["unexpected_keys"]) - others,
            "mismatched_keys": [found for found in info["mismatched_keys"] if found[0] not in brought]}


def _labels(config: Any) -> tuple[str, ...]:
    names = getattr(config, "id2label", None) or {}
    return tuple(str(names.get(place, f"LABEL_{place}")) for place in range(config.num_labels))


def _kind(config: Any) -> str:
    return str(getattr(config, "problem_type", None) or "")


def _context(model: Any, tokenizer: Any) -> int | None:
    limits = (context_length(model), tokenizer.model_max_length)
    return min((int(limit) for limit in limits if limit is not None and 0 < limit < _NO_LIMIT), default=None)
