"""Which prompts a step takes: shuffled epochs over the list, one after another, known from seed and step alone."""

from __future__ import annotations

import random


def prompts_for_step(prompts: list[str], step: int, count: int, seed: int) -> list[str]:
    """The `count` prompts of the step after `step` finished ones.

    Every epoch (pass over the list) is a fresh shuffle; steps cut the endless row of epochs into equal pieces, so each
    prompt is used equally often. Nothing is remembered between steps: a resumed run takes the same prompts.
    """
    first = step * count
    epochs = range(first // len(prompts), (first + count - 1) // len(prompts) + 1)
    row = [prompt for epoch in epochs for prompt in _shuffled(prompts, f"{seed}/{epoch}")]
    start = first - epochs.start * len(prompts)
    return row[start:start + count]


def _shuffled(prompts: list[str], seed: str) -> list[str]:
    order = list(prompts)
    random.Random(seed).shuffle(order)
    return order
