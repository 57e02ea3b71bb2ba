"""Decoding without a cache: all of prompt and response is read again for every token.

For models whose cache is another than that of keys and values, or does not give what the model itself would answer.
Slower by about as many times as a response has tokens, and right.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_engine.models.choice import Choice, Noise, Token
from rlhf_engine.models.decoding.plain import Decoder, Model, PlainDecoder


class UncachedDecoder:
    """A `Decoder` for every model that reads padded prompts as it reads them unpadded."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._ids = self._mask = torch.empty(0)

    def start(
        self, ids: Tensor, mask: Tensor, new_tokens: int, choice: Choice | None = None, noise: Noise | None = None
    ) -> Tensor:
        """See `Decoder`."""
        self._ids, self._mask = ids, mask
        return self._model.forward(ids, mask)[:, -1]

    def step(self, chosen: Tensor) -> Tensor:
        """See `Decoder`."""
        self._ids = torch.cat([self._ids, chosen.unsqueeze(1)], dim=1)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(chosen), 1)], dim=1)
        return self._model.forward(self._ids, self._mask)[:, -1]

    def token(self, last: Token, noise: Callable[[], Tensor], choice: Choice) -> Token:
        """See `Decoder`."""
        return choice(self.step(last.chosen), last.open_rows, noise())

    def keep(self, rows: Tensor) -> bool:
        """See `Decoder`."""
        self._ids, self._mask = self._ids[rows], self._mask[rows]
        return True


def plain_decoder(model: Model) -> Decoder:
    """The decoder that asks transformers anew for every token: with a cache, where that answers as the model does."""
    return UncachedDecoder(model) if model.why_uncached else PlainDecoder(model)
