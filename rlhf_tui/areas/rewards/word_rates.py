"""How often the entries of two word lists stand in texts, found by the reward's own matcher. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rlhf_engine.rewards.word_matcher import Entry, WordMatcher
from rlhf_engine.words import words_of
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.estimates import LESS, MORE, UNCLEAR
from rlhf_tui.widgets.figures import level

NEWEST = 96
"""Responses that count as what the tuned model says now; those before show in the course alone."""
_SPELLS = 12
_SPELL_RESPONSES = 8
_SURE = 1.96


@dataclass(frozen=True)
class Uses:
    """How often each entry stands in `responses` texts of `words` words."""

    responses: int = 0
    words: int = 0
    by_entry: Mapping[Entry, int] = field(default_factory=dict)

    def rate(self, entry: Entry) -> float:
        """Uses per 100 words; NaN where there are no words."""
        return 100 * self.by_entry.get(entry, 0) / self.words if self.words else math.nan


@dataclass(frozen=True)
class Rates:
    """What is known of both models. spells: the held responses of training in equal parts, oldest first."""

    reference: Uses = Uses()
    tuned: Uses = Uses()
    spells: tuple[Uses, ...] = ()


class WordCounter:
    """Counts for one pair of lists; it remembers what it counted, so that only new texts cost time.

    The texts have passed `clean_text`, so the entries are cleaned as well: what was unprintable is it on both sides.
    """

    def __init__(self, liked: Sequence[str], disliked: Sequence[str]) -> None:
        self.lists = (list(liked), list(disliked))
        self._matcher = WordMatcher(map(clean_line, liked), map(clean_line, disliked))
        self._known: dict[str, Uses] = {}

    def count(self, texts: Iterable[str]) -> Uses:
        """The uses in all `texts` together."""
        return together([self._one(text) for text in texts])

    def rates(self, newest_first: Sequence[str], reference: Sequence[str]) -> Rates:
        """Of the reference's texts, and of training's, of which the NEWEST stand for the tuned model."""
        course = [self._one(text) for text in reversed(newest_first)]
        found = Rates(self.count(reference), together(course[-NEWEST:]), tuple(map(together, _spells(course))))
        wanted = {*newest_first, *reference}
        self._known = {text: uses for text, uses in self._known.items() if text in wanted}
        return found

    def _one(self, text: str) -> Uses:
        if text not in self._known:
            words = words_of(text)
            self._known[text] = Uses(1, len(words), Counter(match.entry for match in self._matcher.matches(words)))
        return self._known[text]


def entry_of(word: str) -> Entry:
    """A list entry as the matcher reports it."""
    return tuple(words_of(clean_line(word)))


def together(parts: Sequence[Uses]) -> Uses:
    """All uses of `parts`."""
    total: Counter[Entry] = Counter()
    for part in parts:
        total.update(part.by_entry)
    return Uses(sum(part.responses for part in parts), sum(part.words for part in parts), total)


def change(rates: Rates, entry: Entry) -> str:
    """▲ or ▼ where tuned says the entry surely more, or less, often than the reference; ≈ if not; "" if unknown.

    By the score test of two Poisson rates at 95 %, which takes uses for independent of each other.
    """
    words = rates.reference.words + rates.tuned.words
    if not rates.reference.words or not rates.tuned.words:
        return ""
    tuned = rates.tuned.by_entry.get(entry, 0)
    uses = tuned + rates.reference.by_entry.get(entry, 0)
    share = rates.tuned.words / words
    surplus = tuned - uses * share
    if abs(surplus) - 0.5 <= _SURE * math.sqrt(uses * share * (1 - share)):
        return UNCLEAR
    return MORE if surplus > 0 else LESS


def course(rates: Rates, entry: Entry) -> str:
    """The rate in each spell as a bar of one cell, the highest full; empty before there are two spells."""
    values = [spell.rate(entry) for spell in rates.spells]
    top = max((value for value in values if math.isfinite(value)), default=0.0)
    if len(values) < 2:
        return ""
    return "".join(level(value / top if top else 0.0) if math.isfinite(value) else " " for value in values)


def _spells(course: Sequence[Uses]) -> list[Sequence[Uses]]:
    number = min(_SPELLS, len(course) // _SPELL_RESPONSES)
    if number < 2:
        return []
    ends = [round(len(course) * part / number) for part in range(number + 1)]
    return [course[first:last] for first, last in pairwise(ends)]
