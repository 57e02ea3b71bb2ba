"""A recorded decoding step as one CUDA graph: a GPU runs a small model's kernels faster than Python can ask for them.

A graph is captured once (Nvidia, "CUDA Programming Guide", CUDA graphs) and replayed with one call. It always works on
the tensors that it was captured with, so the caller's are copied into these first, and reads the whole cache, for its
sizes are part of it: what is not filled yet, the model's own mask leaves out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx

_WARM_UP = 2  # calls before the capture: libraries make their workspaces in the first ones


class CapturedStep:
    """Stands in for a recorded step on a CUDA device; one a shape."""

    def __init__(
        self, module: fx.GraphModule, inputs: tuple[Tensor, Tensor, Tensor], rewind: Callable[[], None]
    ) -> None:
        """inputs: ids and positions int64 [batch, 1], mask int64 [batch, length]. Calls `module` some times, each time
        after `rewind`, which empties the column that a call fills."""
        self._ids, self._positions, self._mask = (tensor.clone() for tensor in inputs)
        length = inputs[2].shape[1]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                rewind()
                module.forward(self._ids, self._positions, self._mask, length)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # other threads may use the device meanwhile: theirs are none of this capture's business
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._hidden: Tensor = module.forward(self._ids, self._positions, self._mask, length)

    def begin(self, mask: Tensor) -> None:
        """Take the mask of another rollout."""
        self._mask.copy_(mask)

    def __call__(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Hidden states [batch, hidden], valid until the next call."""
        self._ids.copy_(ids)
        self._positions.copy_(positions)
        self._graph.replay()
        return self._hidden
