"""How much arithmetic a step is, by formula, and how much this machine can do: their quotient is the matmul share.

A product of [n, k] and [k, m] counts 2 n k m operations. Counted are the products with the model's weights and those of
attention; sums, norms, activations and the adapters (a few percent) are not, so the share is a lower bound.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_TRIALS, _PAUSE = 4, 0.02  # of the peak; seconds between them


@dataclass(frozen=True)
class ModelSize:
    """What the formula needs: weights multiplied with in the body per token, and in the head; layers and width."""

    body: int
    head: int
    layers: int
    width: int

    @classmethod
    def of_model(cls, model: Any, of_text: Collection[int] | None = None) -> ModelSize:
        """Counts the frozen matrices of a causal language model; embeddings are looked up, not multiplied with.

        of_text: `id` of the parameters that text passes through, where those are not all (see `TextPass`).
        """
        head = model.get_output_embeddings().weight
        embeddings = {id(head)} | {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        matrices = [p for p in model.parameters() if p.dim() == 2 and not p.requires_grad
                    and (of_text is None or id(p) in of_text)]
        config = model.config.get_text_config()
        return cls(
            body=sum(p.numel() for p in matrices if id(p) not in embeddings),
            head=head.numel(),
            layers=getattr(config, "num_hidden_layers", 0),  # some know none; attention is the smaller part
            width=head.shape[1],
        )

    def forward(self, tokens: float, pairs: float) -> float:
        """Operations of a forward pass through the body. pairs: how many (token, token it attends to) there are."""
        return 2.0 * tokens * self.body + 4.0 * pairs * self.layers * self.width

    def backward(self, tokens: float, pairs: float) -> float:
        """Operations of the backward pass. The weights are frozen, so there are gradients of activations only: as many
        products as forward, in attention twice as many, for both its factors have gradients."""
        return 2.0 * tokens * self.body + 8.0 * pairs * self.layers * self.width


@dataclass(frozen=True)
class BatchCost:
    """Operations of passes over rows of a batch. whole, response: tokens of prompts with responses, and of responses
    alone, which are those that the head is asked about; int64 [batch], on the CPU."""

    size: ModelSize
    whole: Tensor
    response: Tensor

    def forward(self, rows: Tensor | None, *, head: bool) -> float:
        """Of a forward pass over `rows` (None: over all), with the language model's head or without."""
        return self.size.forward(*self._sums(rows)) + head * self._head(rows)

    def backward(self, rows: Tensor | None, *, head: bool) -> float:
        """Of a backward pass."""
        return self.size.backward(*self._sums(rows)) + head * self._head(rows)

    def _sums(self, rows: Tensor | None) -> tuple[float, float]:
        whole = self.whole if rows is None else self.whole[rows]
        return float(whole.sum()), float((whole * (whole + 1)).double().sum() / 2)

    def _head(self, rows: Tensor | None) -> float:
        response = self.response if rows is None else self.response[rows]
        return 2.0 * self.size.head * float(response.sum())


def matmul_peak(dtype: torch.dtype, device: torch.device, seconds: float = 0.2) -> float:
    """Operations per second of large matrix products with the threads torch uses now: the best of a few, of square
    matrices and of fewer rows, which some libraries are faster at, with the right one as it lies and transposed.

    They are done in short trials with pauses between them, for others may use the machine just then; who does not pause
    is also sooner made to wait. Still it is only a lower bound: who measures more later should take that.
    On a device whose memory others have filled the matrices are smaller, and so may be what is found.
    """
    size = 1024 if device.type == "cpu" else 8192
    while True:
        try:
            return _product_speed(size, dtype, device, seconds)
        except torch.OutOfMemoryError:
            size //= 2
            if not size:
                raise


def _product_speed(size: int, dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    own = torch.Generator(device).manual_seed(0)  # a run's own random numbers are not to be touched
    left, right = (torch.rand(size, size, generator=own, device=device, dtype=dtype) for _ in range(2))
    pairs = [(rows, matrix) for rows in (left, left[:max(1, size // 4)]) for matrix in (right, right.t())]
    best = 0.0
    for trial in range(_TRIALS):
        if trial:
            time.sleep(_PAUSE)
        for rows, matrix in pairs:
            until = time.perf_counter() + seconds / _TRIALS / len(pairs)
            while True:
                started = time.perf_counter()
                rows @ matrix
                if device.type != "cpu":
                    torch.accelerator.synchronize(device)
                ended = time.perf_counter()
                best = max(best, 2.0 * len(rows) * size**2 / (ended - started))
                if ended >= until:
                    break
    return best
