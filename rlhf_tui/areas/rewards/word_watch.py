"""Counts the words of the lab's lists in what both models wrote, beside the screen and whenever there is more of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from rlhf_engine.evaluation.compare import Pair
from rlhf_engine.events import Sample
from rlhf_tui.areas.rewards.word_rates import NEWEST, Rates, WordCounter, entry_of
from rlhf_tui.engine.latest import Latest

Lists = tuple[list[str], list[str]]


@dataclass(frozen=True)
class Count:
    """What was counted, and the first and last step of the newest responses; zeros where they are of no step."""

    rates: Rates
    first_step: int = 0
    last_step: int = 0


class WordWatch:
    """`done` is called with each count, in a thread of its own."""

    def __init__(self, done: Callable[[Count], object]) -> None:
        self._counter: WordCounter | None = None
        self._jobs: Latest[Count] = Latest("word counts", done)

    def count(self, liked: Sequence[str], disliked: Sequence[str], samples: Sequence[Sample], pairs: Sequence[Pair],
              *, tuned: bool) -> None:
        """Count in the samples of training, newest first, and in the reference's side of the pairs.

        tuned: let the other side of the pairs speak for the tuned model where there are no samples.
        """
        texts = [sample.response for sample in samples]
        if tuned and not texts:
            texts = [pair.tuned.response for pair in pairs]
        # a list as it is being written may hold what no word can match
        lists = ([word for word in liked if entry_of(word)], [word for word in disliked if entry_of(word)])
        steps = [sample.step for sample in samples[:NEWEST]]
        reference = [pair.reference.response for pair in pairs]
        self._jobs.ask(partial(self._count, lists, texts, reference, min(steps, default=0), max(steps, default=0)))

    def close(self) -> None:
        """Count no more."""
        self._jobs.close()

    def _count(self, lists: Lists, texts: list[str], reference: list[str], first: int, last: int) -> Count:
        if self._counter is None or self._counter.lists != lists:
            self._counter = WordCounter(*lists)
        return Count(self._counter.rates(texts, reference), first, last)
