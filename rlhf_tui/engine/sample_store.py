"""The samples that the workbench remembers, and in which order it lists them. No widget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from rlhf_engine.events import Sample

KEPT_SAMPLES = 2000
KEPT_TOKENS = 50_000
"""Tokens of the newest samples whose traces are remembered: at seven numbers a token about 25 MB."""


def _ranked(number: Callable[[Sample], float | None], sign: int = 1) -> Callable[[Sample], float]:
    """A key that sorts the largest first (with `sign` -1 the least), and what is no number, or has none, last."""
    def key(sample: Sample) -> float:
        found = number(sample)
        return math.inf if found is None or math.isnan(found) else -sign * found

    return key


ORDERS: dict[str, Callable[[Sample], float] | None] = {
    "newest first": None,
    "highest score first": _ranked(lambda sample: sample.score),
    "lowest score first": _ranked(lambda sample: sample.score, -1),
    "highest log-ratio first": _ranked(lambda sample: sample.kl),
}


class SampleStore:
    """Newest first; those that came while the list holds still wait."""

    def __init__(self) -> None:
        self.taken: list[Sample] = []
        self.waiting: list[Sample] = []

    def add(self, samples: Iterable[Sample]) -> None:
        """Take in samples, oldest first; they wait."""
        self.waiting = [*reversed(list(samples)), *self.waiting]
        split = min(len(self.waiting), KEPT_SAMPLES)
        kept = _without_old_traces([*self.waiting, *self.taken][:KEPT_SAMPLES])
        self.waiting, self.taken = kept[:split], kept[split:]

    def take_waiting(self) -> None:
        """Those that waited wait no longer."""
        self.taken, self.waiting = [*self.waiting, *self.taken], []

    def cut(self, step: int) -> None:
        """Forget the samples of steps after `step`."""
        self.taken, self.waiting = ([sample for sample in kept if sample.step <= step]
                                    for kept in (self.taken, self.waiting))

    def clear(self) -> None:
        """Forget all."""
        self.taken, self.waiting = [], []


def listed(samples: Iterable[Sample], words: str, order: str) -> list[Sample]:
    """The samples whose prompt or response holds all `words`, in any case, in an order of ORDERS."""
    wanted, rank = words.lower().split(), ORDERS[order]
    found = [sample for sample in samples
             if all(word in f"{sample.prompt} {sample.response}".lower() for word in wanted)]
    return sorted(found, key=rank) if rank else found


def _without_old_traces(samples: list[Sample]) -> list[Sample]:
    tokens, kept = 0, []
    for sample in samples:
        if sample.trace is not None:
            tokens += len(sample.trace.texts)
            if tokens > KEPT_TOKENS:
                sample = replace(sample, trace=None)
        kept.append(sample)
    return kept
