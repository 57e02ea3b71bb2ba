"""Rows of a minibatch as batches for a forward pass: one a sequence, or several packed into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_engine.algorithms.text_rows import TextRow
from rlhf_engine.errors import first_line
from rlhf_engine.models.model_check import BOUNDS
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.token_log_probs import TokenLogProbs

_LOOKED_AT = 48  # tokens of the packed sequence that shows whether a model can be packed for


@dataclass(frozen=True)
class TextPart:
    """Some sequences, padded on the right. ids: int64 [sequences, time]; mask: bool, likewise, of what is no padding,
    or None where `positions`, int64, say where a text begins. learned: int64 [tokens], the places of the tokens that
    are learned, counted through all sequences: none is a sequence's first.

    rows: the rows that they hold, by their places in the minibatch, in the order of `ids`; counts: how many tokens of
    each are learned.
    """

    ids: Tensor
    mask: Tensor | None
    positions: Tensor | None
    learned: Tensor
    rows: list[int]
    counts: list[int]


class TextLesson:
    """A minibatch of rows, in sequences: see `update.MinibatchSource`."""

    def __init__(self, rows: Sequence[TextRow], policy: Policy, room: int | None = None) -> None:
        """room: tokens of a sequence that rows are packed into; None: each row is a sequence of its own."""
        self.rows, self._policy, self._packs = rows, policy, room is not None
        self.sequences = [[at] for at in range(len(rows))] if room is None else packed([len(r.ids) for r in rows], room)

    @property
    def all(self) -> Tensor:
        """Every sequence."""
        return torch.arange(len(self.sequences))

    def action_count(self, rows: Tensor) -> float:
        """Tokens that are learned of these sequences."""
        return float(sum(self.rows[at].count for chosen in rows.tolist() for at in self.sequences[chosen]))

    def part(self, rows: Tensor) -> TextPart:
        """These sequences, ready for a forward pass."""
        sequences = [self.sequences[chosen] for chosen in rows.tolist()]
        width = max(sum(len(self.rows[at].ids) for at in places) for places in sequences)
        shape = (len(sequences), width)
        ids = torch.full(shape, self._policy.pad_id, dtype=torch.long)
        learned, mask = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        positions = torch.zeros(shape, dtype=torch.long)
        for index, places in enumerate(sequences):
            start = 0
            for row in (self.rows[at] for at in places):
                end = start + len(row.ids)
                ids[index, start:end] = torch.tensor(row.ids)
                learned[index, start:end] = torch.tensor(row.learned)
                positions[index, start:end] = torch.arange(end - start)
                mask[index, start:end] = True
                start = end
        # which are learned is found here, where their numbers are known: a GPU would have to be asked how many they are
        ids, mask, positions, learned = (each.to(self._policy.device, non_blocking=True) for each in
                                         (ids, mask, positions, learned.flatten().nonzero().squeeze(1)))
        there = [at for places in sequences for at in places]
        return TextPart(ids, None if self._packs else mask, positions if self._packs else None, learned, there,
                        [self.rows[at].count for at in there])


def packed(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Which rows share a sequence of at most `room` tokens: each goes into the first that it fits into, longest first.
    A row that is longer has one of its own."""
    sequences: list[list[int]] = []
    left: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        fits = next((index for index, space in enumerate(left) if lengths[at] <= space), None)
        if fits is None:
            fits = len(sequences)
            sequences.append([])
            left.append(room)
        sequences[fits].append(at)
        left[fits] -= lengths[at]
    return sequences


def learned_log_probs(policy: Policy, part: TextPart) -> TokenLogProbs:
    """What the actor says of the tokens that are learned, one after another: [tokens] each."""
    with policy.as_role("actor"):
        if part.positions is not None:
            hidden = policy.forward_packed(part.ids, part.positions)
        else:
            assert part.mask is not None
            hidden = policy.forward(part.ids, part.mask)
    before = hidden.flatten(0, 1).index_select(0, part.learned - 1)
    return policy.chosen_log_probs(before, part.ids.take(part.learned), 1.0, with_entropy=True)


@torch.no_grad()
def why_not_packed(policy: Policy) -> str:
    """Why texts cannot be packed for this model, in words; empty where packed texts read as they do alone."""
    if not policy.takes_positions:
        return "it takes no positions, by which one text is told from the next"
    usable = (~policy.banned).nonzero().squeeze(1).cpu() if policy.banned is not None else torch.arange(policy.pad_id)
    chosen = usable[torch.randint(len(usable), (_LOOKED_AT * 2,), generator=torch.Generator().manual_seed(0))].tolist()
    room = min(_LOOKED_AT, policy.max_positions or _LOOKED_AT)
    lengths = [length for length in (room // 2, room // 3, room // 6) if length > 1]
    rows = [TextRow("", [], chosen[at:at + length], [False] + [True] * (length - 1))
            for at, length in enumerate(lengths)]
    try:
        alone, together = (_by_row(policy, TextLesson(rows, policy, space)) for space in (None, room))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # models raise whatever their authors thought of
        return f"a packed batch ends in {type(error).__name__} ({first_line(error)})"
    apart = (alone - together).square().mean().sqrt().item() / max(1.0, alone.std().item())
    return "" if apart <= BOUNDS[policy.dtype] else "texts that are packed read otherwise than alone"


def _by_row(policy: Policy, lesson: TextLesson) -> Tensor:
    part = lesson.part(lesson.all)
    found = learned_log_probs(policy, part).log_probs.split(part.counts)
    return torch.cat([found[part.rows.index(at)] for at in range(len(lesson.rows))])

