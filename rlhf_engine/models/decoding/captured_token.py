"""A whole token as one CUDA graph: the model, its head, the choice, which rows have ended, and where all that is kept.

A GPU runs a small model's kernels faster than Python can ask for them. A graph is captured once a shape (Nvidia, "CUDA
Programming Guide", CUDA graphs) and replayed with one call. It always works on the tensors that it was captured with.
So all that changes from token to token stands in tensors of its own, and a counter among them says where: between two
tokens nothing is copied. It reads the whole of a cache of fixed length, for its sizes are part of it: what is not
filled yet, the model's own mask leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import StaticCache
from transformers.cache_utils import StaticLayer

from rlhf_engine.errors import ModelError, first_line
from rlhf_engine.models.choice import Choice, DrawnAhead, Noise, Token

Capture = Callable[[Callable[[], None], Callable[[], None]], Callable[[], None]]
"""(what to do, what to do before each time that it is tried) -> what does it again, on the same tensors."""

Forward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(ids [rows, 1], positions [rows, 1], mask [rows, length]) -> hidden states [rows, hidden], by way of the cache."""

_WARM_UP = 2  # calls before the capture: libraries make their workspaces in the first ones


def capture_graph(run: Callable[[], None], rewind: Callable[[], None]) -> Callable[[], None]:
    """`run` as one CUDA graph."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            rewind()
            run()
        rewind()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # other threads may use the device meanwhile: theirs are none of this capture's business
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        run()
    return graph.replay


class _Layer(StaticLayer):
    """Of a cache whose layers share one counter, which they leave to whoever feeds the model: transformers' count for
    themselves, three operations a layer and token. Takes one column at a time."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put these states [rows, heads, 1, size] where the counter stands, and return all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        column = self.cumulative_length.view(1)
        self.keys.index_copy_(2, column, key_states)
        self.values.index_copy_(2, column, value_states)
        return self.keys, self.values


def fixed_cache(config: Any, length: int, column: Tensor) -> StaticCache:
    """An empty cache of so many columns for a model of that config. column: int64 [], where the next states go, counted
    up by the caller. Raises ModelError."""
    try:
        cache = StaticCache(config=config, max_cache_len=length)
    except Exception as error:  # models with layers of other kinds
        raise ModelError(f"there is no cache of fixed length for the model: {first_line(error)}") from error
    if any(type(layer) is not StaticLayer for layer in cache.layers):
        raise ModelError("the model's cache does not keep all positions")
    cache.layers = [_Layer(length) for _ in cache.layers]
    for layer in cache.layers:
        layer.cumulative_length = column
    return cache


@dataclass
class _State:
    """What a graph reads and writes. column: int64 [], of the cache, where the last token goes. ids: int64 [rows, 1],
    of that token; open_rows: bool [rows], after it; mask: int64 [rows, length]; before: int64 [rows, 1], position of a
    row's token less its column. noise: [length, rows, …], by the column of the token before, or [rows, …] of the next
    token alone. chosen: int64, likelihoods: float32, [length, rows] of what came after the token of each column;
    hidden: [rows, hidden], after the last one."""

    column: Tensor
    ids: Tensor
    open_rows: Tensor
    mask: Tensor
    before: Tensor
    noise: Tensor
    chosen: Tensor
    likelihoods: Tensor
    hidden: Tensor


class CapturedToken:
    """One token after another in one shape and one way to choose. What it gives stands in its own tensors, which the
    next rollout writes to."""

    def __init__(
        self, forward: Forward, cache: StaticCache, column: Tensor, choice: Choice, noise: Noise, shape: torch.Size,
        capture: Capture,
    ) -> None:
        """forward: reads one token a row into `cache`, whose counter is `column` and stands behind the prompts that are
        in it; see `fixed_cache`. noise: as that of rollouts is. shape: (rows, length)."""
        (rows, length), device = shape, column.device
        self.cache, self._noise, numbers = cache, noise, noise(0)
        self._state = _State(
            column=column,
            ids=torch.zeros(rows, 1, dtype=torch.long, device=device),
            open_rows=torch.ones(rows, dtype=torch.bool, device=device),
            mask=torch.ones(rows, length, dtype=torch.long, device=device),
            before=torch.zeros(rows, 1, dtype=torch.long, device=device),
            noise=numbers.expand(length, *numbers.shape).clone() if isinstance(noise, DrawnAhead) else numbers,
            chosen=torch.zeros(length, rows, dtype=torch.long, device=device),
            likelihoods=torch.ones(length, rows, device=device),
            hidden=torch.empty(0),
        )
        state, width, ahead = self._state, column.clone(), isinstance(noise, DrawnAhead)
        self._tokens = [Token(chosen, likelihood, state.open_rows) for chosen, likelihood in
                        zip(state.chosen.unbind(), state.likelihoods.unbind(), strict=True)]
        self._last: Token | None = None
        self._column = 0  # the same as the counter on the device, which would have to be waited for

        def rewind() -> None:
            column.copy_(width)

        self._replay = capture(partial(_next_token, state, forward, choice, ahead), rewind)

    @property
    def rows(self) -> int:
        """How many rows it decodes."""
        return len(self._state.ids)

    @property
    def hidden(self) -> Tensor:
        """The states [rows, hidden] that the last token was chosen from."""
        return self._state.hidden

    @property
    def nbytes(self) -> int:
        """Bytes of the cache."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.cache.layers if layer.is_initialized)

    def begin(self, mask: Tensor, noise: Noise) -> None:
        """Another rollout, with the prompts of `mask` [rows, prompt time] in the cache. noise: of all of it; the first
        token, number 0, is chosen elsewhere."""
        state, width = self._state, mask.shape[1]
        state.mask.fill_(1)
        state.mask[:, :width] = mask
        state.before.copy_(mask.sum(dim=1, keepdim=True) - width)
        state.column.fill_(width)
        self._column, self._last = width, None
        if isinstance(noise, DrawnAhead):
            state.noise[width : width + len(noise.numbers) - 1] = noise.numbers[1:]
        self._noise = noise

    def __call__(self, last: Token) -> Token:
        """The token after `last`. Its open rows are those of the moment: true until it is called again."""
        if last is not self._last:  # what it gave itself is there already
            self._state.ids.copy_(last.chosen.unsqueeze(1))
            self._state.open_rows.copy_(last.open_rows)
        if not isinstance(self._noise, DrawnAhead):
            self._noise.draw(self._state.noise)
        self._replay()
        self._last = self._tokens[self._column]
        self._column += 1
        return self._last


def _next_token(state: _State, forward: Forward, choice: Choice, ahead: bool) -> None:
    """What is captured. ahead: the noise of all tokens is there."""
    column = state.column.view(1)
    state.hidden = forward(state.ids, state.before + column, state.mask)
    noise = state.noise.index_select(0, column).squeeze(0) if ahead else state.noise
    token = choice(state.hidden, state.open_rows, noise)
    state.chosen.index_copy_(0, column, token.chosen.unsqueeze(0))
    state.likelihoods.index_copy_(0, column, token.likelihood.unsqueeze(0))
    state.ids.copy_(token.chosen.unsqueeze(1))
    state.open_rows.copy_(token.open_rows)
    column.add_(1)
