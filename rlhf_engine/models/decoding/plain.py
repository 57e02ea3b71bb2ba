"""Decoding as transformers does it: a forward pass per token, with a cache of keys and values that grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from rlhf_engine.models.choice import Choice, Noise, Token
from rlhf_engine.models.decoding.roomy_cache import roomy_cache, rows_can_be_taken, take_rows


class Model(Protocol):
    """What decoders ask a `Policy` for."""

    base: Any
    why_uncached: str

    def forward(self, ids: Tensor, mask: Tensor, cache: Any = None, *, width: int | None = None) -> Tensor:
        """See `Policy.forward`."""
        ...


class Decoder(Protocol):
    """Feeds prompts, then one token a row at a time, to the policy in the role it plays."""

    def start(
        self, ids: Tensor, mask: Tensor, new_tokens: int, choice: Choice | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Read left-padded prompts, ids and mask [batch, time]; at most `new_tokens` more tokens will follow.

        Returns the hidden states [batch, hidden] that the first token is chosen from. choice, noise: how those after it
        will be, and with which random numbers, for decoders that do both at once.
        """
        ...

    def step(self, chosen: Tensor) -> Tensor:
        """Append chosen ids int64 [batch]; returns the hidden states [batch, hidden] of the next choice."""
        ...

    def token(self, last: Token, noise: Callable[[], Tensor], choice: Choice) -> Token:
        """Append the last token and choose the next. noise: of that one, which those who have it already do not ask
        for. The result holds until the next call; its ids and likelihoods until the next `start`."""
        ...

    def keep(self, rows: Tensor) -> bool:
        """Go on with these rows, int64 [n], of the batch alone, where that is faster; False where it is not done."""
        ...


class PlainDecoder:
    """A `Decoder` for every model that caches keys and values."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.cache = roomy_cache(model.base.config, 0)
        """Of what was read so far."""
        self._mask = torch.empty(0)
        self._columns = 0

    def start(
        self, ids: Tensor, mask: Tensor, new_tokens: int, choice: Choice | None = None, noise: Noise | None = None
    ) -> Tensor:
        """See `Decoder`. A prompt that comes several times is read once."""
        self._columns = ids.shape[1]
        self.cache = roomy_cache(self._model.base.config, self._columns + new_tokens)
        self._mask = torch.cat([mask, mask.new_ones(len(ids), new_tokens)], dim=1)
        different, place = torch.unique(torch.where(mask, ids, -1), dim=0, return_inverse=True)
        if len(different) == len(ids) or not rows_can_be_taken(self.cache):
            return self._model.forward(ids, mask, self.cache)[:, -1]
        first = torch.full_like(place[: len(different)], len(ids)).scatter_reduce_(
            0, place, torch.arange(len(ids), device=ids.device), "amin")
        hidden = self._model.forward(ids[first], mask[first], self.cache)[:, -1]
        take_rows(self.cache, place)
        return hidden[place]

    def step(self, chosen: Tensor) -> Tensor:
        """See `Decoder`."""
        self._columns += 1
        return self._model.forward(chosen.unsqueeze(1), self._mask[:, : self._columns], self.cache)[:, -1]

    def token(self, last: Token, noise: Callable[[], Tensor], choice: Choice) -> Token:
        """See `Decoder`."""
        return choice(self.step(last.chosen), last.open_rows, noise())

    def keep(self, rows: Tensor) -> bool:
        """See `Decoder`."""
        if not rows_can_be_taken(self.cache):
            return False
        self._mask = self._mask[rows]
        take_rows(self.cache, rows)
        return True
