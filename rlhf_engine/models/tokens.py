"""What a model and its tokenizer have in common: ids that may be sampled, ids that end a text, and room for positions.

The two come from different files, and often do not agree: rows of the model that no token stands for (vocabularies
padded for speed, holes in the tokenizer's ids), and tokens that no row stands for (added to the tokenizer alone).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TokenIds:
    """Which ids mean something to model and tokenizer alike.

    end: every id that ends a text, ascending; empty when there is none. pad: stands on padding; masks, not ids, say
    what is padding. banned: bool [rows of the head], True for ids that are never sampled and are left out of every
    log-probability. rows: ids from here on have no embedding. notices: sentences for the user.
    """

    end: tuple[int, ...]
    pad: int
    banned: Tensor
    rows: int
    notices: tuple[str, ...] = ()


def token_ids(model: Any, tokenizer: Any) -> TokenIds:
    """The ids of a causal language model and its tokenizer.

    Banned is what the tokenizer has no token for, what has no embedding to go on from, and a padding token of its own;
    never an end token.
    """
    head = model.get_output_embeddings().weight.shape[0]
    rows = model.get_input_embeddings().weight.shape[0]
    usable = min(head, rows)
    end, notices = _end_ids(model, tokenizer, usable)
    pad = tokenizer.pad_token_id
    own_padding = pad is not None and 0 <= pad < rows  # one that was added to the tokenizer alone has no row
    banned = torch.ones(head, dtype=torch.bool)
    known = [index for index in _ids_of(tokenizer) if 0 <= index < usable]
    banned[torch.tensor(known, dtype=torch.long)] = False
    if own_padding and pad < head:
        banned[pad] = True
    banned[torch.tensor(end, dtype=torch.long)] = False
    return TokenIds(end, int(pad) if own_padding else (end[0] if end else 0), banned, rows, tuple(notices))


def context_length(model: Any) -> int | None:
    """The most positions, prompt and response together, that the model can tell apart; None where nothing limits them.

    A sliding window is no limit, and neither is the length that a tokenizer names.
    """
    config = model.config.get_text_config()
    declared = [getattr(config, name, None) 
                for name in ("max_position_embeddings", "max_target_positions", "max_seq_len")]
    limits = [value for value in declared if isinstance(value, int) and value > 0]
    limit = min(limits, default=None)
    for name, module in model.named_modules():
        # RoBERTa and its kin count positions from behind the padding id
        is_table = isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]
        if is_table and module.padding_idx is not None and module.num_embeddings == limit:
            return limit - module.padding_idx - 1
    return limit


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids that a decoded text leaves out: special tokens, those that were added as such too."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset(tokenizer.all_special_ids) | {index for index, token in added.items() if token.special}


def token_name(tokenizer: Any, index: int) -> str:
    """A token as the tokenizer writes it, with its id."""
    try:
        return f"{tokenizer.convert_ids_to_tokens(index)!r} (id {index})"
    except (IndexError, KeyError, ValueError, OverflowError):
        return f"with id {index}"


# ---------------------------------------------------------------------------------------------------------------------


def _ids_of(tokenizer: Any) -> set[int]:
    """Every id that the tokenizer has a token for; there may be holes between them."""
    try:
        ids = set(tokenizer.get_vocab().values())
    except NotImplementedError:
        return set(range(len(tokenizer)))
    return ids | set(getattr(tokenizer, "added_tokens_decoder", {}))


def _end_ids(model: Any, tokenizer: Any, usable: int) -> tuple[tuple[int, ...], list[str]]:
    """Every id that ends a text (some models have several), and what is odd about those that were named."""
    own = tokenizer.eos_token_id
    declared, notices = _declared_end_ids(model, tokenizer)
    named = sorted({int(index) for index in [*declared, own] if index is not None})
    end = tuple(index for index in named if 0 <= index < usable)
    if beyond := [token_name(tokenizer, index) for index in named if index not in end]:
        tokens = f"the end token {beyond[0]} has" if len(beyond) == 1 else f"the end tokens {', '.join(beyond)} have"
        notices.append(f"{tokens} no row in the model, which has {usable}: no response can end so")
    if not end:
        notices.append("the model has no end token that it can sample: every response runs to sampling.max_new_tokens")
    return end, notices


def _declared_end_ids(model: Any, tokenizer: Any) -> tuple[list[int], list[str]]:
    """The end ids in the model's files.

    A model saved without a word about them has those that its architecture was first published with; in a vocabulary of
    its own that may be a letter, at which texts must not end.
    """
    generation = getattr(model, "generation_config", None)
    config = model.config.get_text_config()
    declared = getattr(generation, "eos_token_id", None)
    chosen = declared is not None and not getattr(generation, "_from_model_config", False)
    declared = getattr(config, "eos_token_id", None) if declared is None else declared
    ids = [index for index in (declared if isinstance(declared, list) else [declared]) if index is not None]
    if chosen or declared is None or declared != _default_end(config):
        return ids, []
    ordinary = set(tokenizer.get_vocab().values()) - special_ids(tokenizer) - {tokenizer.eos_token_id}
    if not (odd := [index for index in ids if index in ordinary]):
        return ids, []
    names = ", ".join(token_name(tokenizer, index) for index in odd)
    return [index for index in ids if index not in odd], [
        f"{names} ends no text here: {type(config).__name__} names it by default, but for this tokenizer it is an "
        "ordinary token; a generation_config.json with eos_token_id would say otherwise"
    ]


def _default_end(config: Any) -> Any:
    try:
        return getattr(type(config)(), "eos_token_id", None)
    except Exception:  # a config that cannot be made from nothing has no defaults
        return None
