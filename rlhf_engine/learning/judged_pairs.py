"""Pairs that a reward model learns from: both responses as ids, which of them are ties, and by how much one is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from rlhf_engine.data.batch import PairBatch
from rlhf_engine.data.labelled_pairs import TIE
from rlhf_engine.data.rows import Rows
from rlhf_engine.errors import ConfigError, short
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.models.written import written


@dataclass(frozen=True)
class JudgedPart:
    """Some pairs, ready for a forward pass. ids, mask, response_mask: [2 * pairs, time], all chosen responses and then
    all rejected ones; tie: bool [pairs], margin: [pairs]; rows: which responses of the rollout these are. All on its
    device."""

    ids: Tensor
    mask: Tensor
    response_mask: Tensor
    tie: Tensor
    margin: Tensor
    rows: Tensor

    @property
    def width(self) -> int:
        """Response columns."""
        return self.response_mask.shape[1]


@dataclass(frozen=True)
class JudgedPairs:
    """A minibatch of pairs: rows 2 i and 2 i + 1 of `rollout` are the chosen and the rejected response of pair i.

    tie: bool [pairs]; margin: float [pairs], raw score; both on the CPU. said: [responses, time + 1], what the head
    said before and after each token in the latest update, filled while it is taken.
    """

    rollout: Rollout
    tie: Tensor
    margin: Tensor
    said: Tensor = field(init=False)

    def __post_init__(self) -> None:
        rows, time = self.rollout.response_mask.shape
        object.__setattr__(self, "said", torch.zeros(rows, time + 1, device=self.rollout.response_mask.device))

    def __len__(self) -> int:
        return len(self.tie)

    @classmethod
    def of(cls, policy: Policy, batch: PairBatch, margin: float, margin_column: str | None) -> JudgedPairs:
        """The pairs of `batch` as `policy` reads them, with a margin of that number where their column says none."""
        count = len(batch.prompts)
        responses = [response for pair in zip(batch.chosen, batch.rejected, strict=True) for response in pair]
        rollout = written(policy, [prompt for prompt in batch.prompts for _ in range(2)], responses,
                          [False] * len(responses))
        # no end token is read, but a response that was all there is of it is not shown as one that was cut
        ended = [done for pair in zip(*batch.ended, strict=True) for done in pair]
        rollout = replace(rollout, finished=torch.tensor(ended).to(policy.device, non_blocking=True))
        ties = [bool(value) for value in batch.columns.get(TIE, [None] * count)]
        margins = [margin if value is None else float(value)
                   for value in (batch.columns[margin_column] if margin_column else [None] * count)]
        return cls(rollout, torch.tensor(ties), torch.tensor(margins))

    @property
    def decided(self) -> float:
        """Pairs that are no ties."""
        return float((~self.tie).sum())

    def action_count(self, rows: Tensor) -> float:
        """Pairs: what the loss of a minibatch is divided by."""
        return float(len(rows))

    def part(self, rows: Tensor) -> JudgedPart:
        """These pairs, without columns that are padding in all of them."""
        responses = torch.cat([2 * rows, 2 * rows + 1])
        ids, mask, response_mask = self.rollout.batch(responses)
        tie, margin, there = map(self.rollout.on_device, (self.tie[rows], self.margin[rows], responses))
        return JudgedPart(ids, mask, response_mask, tie, margin, there)


def require_margins(rows: Rows, margin_column: str | None) -> None:
    """Raises ConfigError, one sentence, for margins that are no numbers."""
    if margin_column is None:
        return
    if margin_column not in rows.columns:
        raise ConfigError(f"algorithm.margin_column: the data has no column {margin_column!r}, but "
                          f"{short(', '.join(rows.columns), 200) or 'no others than its texts'}")
    for number, value in enumerate(rows.columns[margin_column], 1):
        if value is not None and not _is_margin(value):
            raise ConfigError(f"algorithm.margin_column: the {margin_column!r} of row {number} is "
                              f"{short(repr(value), 40)}; a margin is a number from 0, or empty")


def _is_margin(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def drawn_with_replacement(count: int, seed: int) -> Sequence[int]:
    """`count` of `count` places, some of them more than once (the bootstrap: Efron 1979)."""
    return torch.randint(count, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
