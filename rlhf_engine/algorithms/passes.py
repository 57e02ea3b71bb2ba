"""Forward passes over a rollout: once to evaluate all of it, and, of the rows that are learned from first, kept for
their update, while the weights are still those that sampled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.profiler import record_function

from rlhf_engine.models.rollout import Rollout

Forward = Callable[[Tensor, Tensor, int], tuple[Tensor, ...]]
"""(ids, mask, width) of some rows -> tensors [rows, width], of which the first may be learned through."""


class ReusedRows(NamedTuple):
    """The rows that are learned from first, and whose passes (by the name of what is evaluated) keep their gradient:
    evaluation and update are one pass then."""

    rows: Tensor
    keep: Collection[str]


def evaluate(
    rollout: Rollout, forwards: Mapping[str, Forward], micro_batch_size: int, reused: ReusedRows | None = None
) -> tuple[dict[str, tuple[Tensor, ...]], dict[str, Tensor]]:
    """Each of `forwards` over the whole rollout.

    Returns its outputs by name, each [batch, time] without gradient, zero on columns beyond a group's; and by name the
    first output of the reused rows, [rows, width] with its gradient.
    """
    mask = rollout.response_mask
    whole: dict[str, tuple[Tensor, ...]] = {}
    kept: dict[str, Tensor] = {}
    for rows in _groups(len(rollout), micro_batch_size, reused):
        ids, row_mask, response_mask = rollout.batch(rows)
        width, there = response_mask.shape[1], rollout.on_device(rows)
        keep = reused.keep if reused is not None and rows is reused.rows else ()
        for name, forward in forwards.items():
            with torch.set_grad_enabled(name in keep), record_function(f"score: {name}"):
                outputs = forward(ids, row_mask, width)
            if name in keep:
                kept[name] = outputs[0]
            if name not in whole:
                whole[name] = tuple(torch.zeros(mask.shape, device=mask.device) for _ in outputs)
            for all_rows, output in zip(whole[name], outputs, strict=True):
                all_rows[there, :width] = output.detach()
    return whole, kept


def _groups(count: int, size: int, reused: ReusedRows | None) -> list[Tensor]:
    """All rows in groups; the reused rows are one of them."""
    if reused is None:
        return list(torch.arange(count).split(size))
    others = torch.ones(count, dtype=torch.bool)
    others[reused.rows] = False
    rest = others.nonzero().squeeze(1)
    return [reused.rows, *(rest.split(size) if len(rest) else ())]
