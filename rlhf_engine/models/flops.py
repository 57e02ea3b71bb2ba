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
class Lengths:
    """Tokens of prompts with responses, and of responses alone; int64 [batch], on the CPU."""

    whole: Tensor
    response: Tensor


def ppo_step(
    size: ModelSize, lengths: Lengths, updates: list[Tensor], *, actor_learns: bool, kept: int, kept_rows: Tensor
) -> float:
    """Operations of one PPO step: rollout, three models' evaluation, and the updates that were taken.

    updates: the rows of each minibatch. kept: how many forward passes (of actor and critic) over `kept_rows` the first
    update did not have to repeat.
    """
    tokens, pairs = lengths.whole.double(), (lengths.whole * (lengths.whole + 1)).double() / 2
    head = 2.0 * size.head * lengths.response.double()
    every_row = torch.arange(len(tokens))

    def total(values: Tensor, rows: Tensor) -> float:
        return float(values[rows].sum())

    def body(rows: Tensor) -> float:
        return size.forward(total(tokens, rows), total(pairs, rows))

    def back(rows: Tensor) -> float:
        return size.backward(total(tokens, rows), total(pairs, rows))

    # sampled once; then evaluated by reference, actor and critic, of which the last has no use for the head
    work = 4 * body(every_row) + 3 * total(head, every_row)
    for rows in updates:
        work += body(rows) + back(rows)  # the critic
        if actor_learns:
            work += body(rows) + back(rows) + 2 * total(head, rows)
    if kept:
        work -= kept * body(kept_rows) + (total(head, kept_rows) if actor_learns else 0.0)
    return work


def matmul_peak(dtype: torch.dtype, device: torch.device, seconds: float = 0.1) -> float:
    """Operations per second of large square matrix products with the threads torch uses now: the best of a few.

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
    best = float("inf")
    for trial in range(_TRIALS):
        if trial:
            time.sleep(_PAUSE)
        until = time.perf_counter() + seconds / _TRIALS
        while True:
            started = time.perf_counter()
            left @ right
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            ended = time.perf_counter()
            best = min(best, ended - started)
            if ended >= until:
                break
    return 2.0 * size**3 / best
