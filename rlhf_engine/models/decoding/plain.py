"""Decoding as transformers does it: a forward pass per token, with a cache of keys and values that grows."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache


class Model(Protocol):
    """What decoders ask a `Policy` for."""

    base: Any
    why_uncached: str

    def forward(self, ids: Tensor, mask: Tensor, cache: Any = None, *, width: int | None = None) -> Tensor:
        """See `Policy.forward`."""
        ...


class Decoder(Protocol):
    """Feeds prompts, then one token a row at a time, to the policy in the role it plays."""

    def start(self, ids: Tensor, mask: Tensor, new_tokens: int) -> Tensor:
        """Read left-padded prompts, ids and mask [batch, time]; at most `new_tokens` calls of `step` will follow.

        Returns the hidden states [batch, hidden] that the first token is chosen from.
        """
        ...

    def step(self, chosen: Tensor) -> Tensor:
        """Append chosen ids int64 [batch]; returns the hidden states [batch, hidden] of the next choice."""
        ...


class PlainDecoder:
    """A `Decoder` for every model that caches keys and values."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.base.config)
        self._mask = torch.empty(0)

    def start(self, ids: Tensor, mask: Tensor, new_tokens: int) -> Tensor:
        """See `Decoder`."""
        self._cache, self._mask = DynamicCache(config=self._model.base.config), mask
        return self._model.forward(ids, mask, self._cache)[:, -1]

    def step(self, chosen: Tensor) -> Tensor:
        """See `Decoder`."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(chosen), 1)], dim=1)
        return self._model.forward(chosen.unsqueeze(1), self._mask, self._cache)[:, -1]
