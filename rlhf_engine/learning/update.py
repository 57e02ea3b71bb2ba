"""One adapter's update from a minibatch, in as many micro-batches as memory asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.profiler import record_function

from rlhf_engine.learning.optimizer import AdapterOptimizer
from rlhf_engine.models.memory import MicroBatchLimit


class MinibatchSource(Protocol):
    """What a minibatch is taken from: rows with all that the loss needs to know of them."""

    def part(self, rows: Tensor) -> Any:
        """These rows, ready for a forward pass."""

    def action_count(self, rows: Tensor) -> float:
        """What the loss over these rows is divided by."""


class AdapterUpdate(NamedTuple):
    """How one adapter learns.

    forward(part): what it says of the rows, [rows, width] with gradient. loss(part, output, normalizer): a named tuple
    of scalars that add up over micro-batches, `loss` first. metrics: what each field of that is reported as. each: how
    many responses one row is, of which `limit` says how many go through a pass at once.
    """

    optimizer: AdapterOptimizer
    limit: MicroBatchLimit
    forward: Callable[[Any], Tensor]
    loss: Callable[[Any, Tensor, float], Any]
    metrics: Mapping[str, str]
    each: int = 1

    def step(
        self, rows: Tensor, lesson: MinibatchSource, learning_rate: float, max_norm: float, reused: Tensor | None = None
    ) -> dict[str, float]:
        """One optimizer step from these rows; returns the metrics of it. reused: `forward` of the first micro-batch, as
        it was evaluated. Raises NonFiniteError, with the weights as they were, when the gradient is not finite."""
        unused = [reused]

        def attempt() -> dict[str, float]:
            output = unused.pop() if unused else None  # it serves once: its graph is gone afterwards
            fits = output is not None and len(output) == len(self._portions(rows)[0])
            return self._accumulate(rows, lesson, learning_rate, max_norm, output if fits else None)

        with record_function(f"update: {self.optimizer.name}"):
            return self.limit.fit(attempt)

    def _portions(self, rows: Tensor) -> tuple[Tensor, ...]:
        return micro_batches(rows, max(1, self.limit.size // self.each))

    def _accumulate(
        self, rows: Tensor, lesson: MinibatchSource, learning_rate: float, max_norm: float, reused: Tensor | None
    ) -> dict[str, float]:
        self.optimizer.zero_grad()
        normalizer = lesson.action_count(rows)
        totals: Tensor | float = 0.0
        fields: tuple[str, ...] = ()
        for micro in self._portions(rows):
            part = lesson.part(micro)
            output, reused = reused, None  # of the first micro-batch
            outcome = self.loss(part, self.forward(part) if output is None else output, normalizer)
            outcome.loss.backward()
            fields = outcome._fields
            totals = totals + torch.stack([getattr(outcome, field).detach() for field in fields])
        assert isinstance(totals, Tensor)
        # read at once, for a GPU is waited for here: whether the gradient is finite decides what is done next
        *values, norm = torch.cat([totals, self.optimizer.clip(max_norm).reshape(1)]).tolist()
        self.optimizer.apply(learning_rate, norm)
        found = dict(zip(fields, values, strict=True))
        return {self.metrics[field]: value for field, value in found.items()} | {
            f"grad_norm/{self.optimizer.name}": norm}


def micro_batches(rows: Tensor, most: int) -> tuple[Tensor, ...]:
    """Rows in portions of at most `most`, as equal as can be: a small remainder would take as long as a whole one."""
    portions = math.ceil(len(rows) / most)
    return rows.split(math.ceil(len(rows) / portions))
