"""Endless training batches of fresh stories: told, encoded, sorted by length and padded; no story is used twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import torch

from storyteller_maker.grammar import tell
from storyteller_maker.tokenizer import CONTEXT, END_ID, PAD_ID, spelling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHUNK = 2048  # stories told, sorted and shuffled together
SHARE_FROM_NOTHING = 0.15  # batches that begin with the end token, so that empty prompts work
SHARE_SHIFTED = 0.25  # batches at a random position, so that every position is learned
SHARE_SPELLED = 0.04  # stories with one word spelled in pieces, so that unknown words in prompts do no harm
IGNORED = -100
ROUND_TO = 8


@dataclass(frozen=True)
class Batch:
    """Token ids, the targets they predict, and position ids, all (stories, length)."""

    ids: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor


class Batches:
    """Fresh stories as batches; the seed decides all."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, size: int, seed: int) -> None:
        self.backend = tokenizer.backend_tokenizer
        self.speller = spelling(tokenizer)
        self.size, self.rng = size, Random(seed)
        self.pieces: dict[int, list[int]] = {}
        self.texts: list[str] = []  # the stories of the latest chunk

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from self.chunk()

    def chunk(self) -> list[Batch]:
        """Batches of stories of like length, in random order."""
        self.texts = [tell(self.rng).text for _ in range(CHUNK)]
        rows = [self.spelled([*entry.ids, END_ID]) for entry in self.backend.encode_batch(self.texts)]
        rows = sorted((row for row in rows if len(row) < CONTEXT), key=len)
        groups = [rows[i : i + self.size] for i in range(0, len(rows), self.size)]
        self.rng.shuffle(groups)
        return [self.batch(group) for group in groups]

    def spelled(self, row: list[int]) -> list[int]:
        """Now and then, one word of a story in pieces; negative ids mark pieces, which are read but never predicted."""
        if self.rng.random() >= SHARE_SPELLED:
            return row
        place = self.rng.randrange(len(row) - 1)
        if row[place] not in self.pieces:
            word = self.backend.decode([row[place]])
            self.pieces[row[place]] = [-i for i in self.speller.encode(word).ids]
        return row[:place] + self.pieces[row[place]] + row[place + 1 :]

    def batch(self, rows: list[list[int]]) -> Batch:
        """Pad on the right; pad is never a target."""
        if self.rng.random() < SHARE_FROM_NOTHING:
            rows = [[END_ID, *row] for row in rows]
        length = min(CONTEXT, -(-max(map(len, rows)) // ROUND_TO) * ROUND_TO)
        marked = torch.tensor([row[:length] + [PAD_ID] * (length - len(row)) for row in rows])
        targets = marked.roll(-1, dims=1)
        targets[:, -1] = PAD_ID
        targets[(targets < 0) | (targets == PAD_ID)] = IGNORED
        shift = self.rng.randrange(CONTEXT - length + 1) if self.rng.random() < SHARE_SHIFTED else 0
        positions = torch.arange(shift, shift + length)[None].expand(len(rows), -1).contiguous()
        return Batch(marked.abs(), targets, positions)
