"""A cache of keys and values that has room for what is to come.

transformers' own grows by copying all that it holds for every token, which costs a small model a third of its time.
This one answers the same: what it holds is a view of as many columns as are filled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class _RoomyLayer(DynamicLayer):
    """Of one layer of the model; [batch, heads, time, size]."""

    keys: Any
    values: Any

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._keys = self._values = torch.empty(0)
        self._view: Tensor | None = None
        """The keys as this layer gave them last: what is another tensor by now is no view of `_keys` any more."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Empty tensors on the device. transformers copies them there from the CPU, which waits for a GPU at each layer
        of a pass."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states.new_empty(0), value_states.new_empty(0)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append, and return all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        filled = 0 if self.keys.numel() == 0 else self.keys.shape[-2]
        columns = filled + key_states.shape[-2]
        if self.keys is not self._view or columns > self._keys.shape[-2]:
            room = max(self._room, columns)
            self._keys = _roomy(key_states, self.keys, filled, room)
            self._values = _roomy(value_states, self.values, filled, room)
        self._keys.narrow(-2, filled, columns - filled).copy_(key_states)
        self._values.narrow(-2, filled, columns - filled).copy_(value_states)
        self.keys = self._view = self._keys.narrow(-2, 0, columns)
        self.values = self._values.narrow(-2, 0, columns)
        return self.keys, self.values


def _roomy(new: Tensor, held: Tensor, filled: int, room: int) -> Tensor:
    whole = new.new_empty(*new.shape[:-2], room, new.shape[-1])
    if filled:
        whole.narrow(-2, 0, filled).copy_(held)
    return whole


def roomy_cache(config: Any, columns: int) -> DynamicCache:
    """An empty cache for a model of that config, with room for so many columns; layers that keep a window only, or
    anything else than keys and values, are transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [_RoomyLayer(columns) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def rows_can_be_taken(cache: DynamicCache) -> bool:
    """Whether `take_rows` knows all that it holds."""
    return all(isinstance(layer, _RoomyLayer | DynamicSlidingWindowLayer) for layer in cache.layers)


def take_rows(cache: DynamicCache, rows: Tensor) -> None:
    """The cache holds these rows, int64 [n], of those that it held; one may come several times."""
    for layer in cache.layers:
        if layer.is_initialized:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
