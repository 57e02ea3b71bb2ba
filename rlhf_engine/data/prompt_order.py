"""Which rows a step takes: epochs over all of them, one after another, known from seed and step alone."""

from __future__ import annotations

import random
from functools import lru_cache


def rows_for_step(rows: int, step: int, count: int, seed: int, *, shuffle: bool = True) -> list[int]:
    """The places, from 0, of the `count` rows of the step after `step` finished ones.

    Every epoch (pass over the rows) is a fresh shuffle; steps cut the endless row of epochs into equal pieces, so each
    row is used equally often. Nothing is remembered between steps: a resumed run takes the same rows.
    """
    first = step * count
    epochs = range(first // rows, (first + count - 1) // rows + 1)
    order = [row for epoch in epochs for row in (_shuffled(rows, f"{seed}/{epoch}") if shuffle else range(rows))]
    start = first - epochs.start * rows
    return order[start:start + count]


@lru_cache(maxsize=2)  # the epoch under way, and one that begins within the step
def _shuffled(rows: int, seed: str) -> tuple[int, ...]:
    order = list(range(rows))
    random.Random(seed).shuffle(order)
    return tuple(order)
