"""A reward made of two word lists, with brakes against the ways a policy learns to cheat on them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from rlhf_engine.errors import ConfigError
from rlhf_engine.events import Span
from rlhf_engine.rewards.base import Score
from rlhf_engine.words import Word, count_words, without_possessive

Entry = tuple[str, ...]
"""A list entry as its normalised words: ("fox",), ("polar", "bear")."""


class Match(NamedTuple):
    """A list entry found in a text: words[first:last] of the text stand for it."""

    entry: Entry
    liked: bool
    first: int
    last: int


class WordListReward:
    """Adds for liked words, subtracts for disliked ones.

    Words match whatever their case and whatever punctuation touches them, with or without a possessive 's; other
    endings do not ("dog" is not "dogs"). An entry may be a phrase, whose words must follow each other; the longest
    entry wins and each word of the text counts once. An entry on both lists counts as liked. Parts:

    liked     +liked_bonus for each use of a liked word
    disliked  -disliked_penalty for each use of a disliked word
    distinct  +distinct_bonus for each different liked word
    short     -short_penalty if the response has at most short_words words
    excess    -excess_penalty for each use of a liked word above max(excess_min, floor(excess_share * words))
    repeat    -repeat_penalty for each use of one liked word beyond repeat_limit
    adjacent  -adjacent_penalty for each pair of liked words with no other word between them

    Blank entries are skipped. Raises ConfigError for one of punctuation alone.
    """

    def __init__(
        self,
        name: str,
        liked: Iterable[str],
        disliked: Iterable[str],
        *,
        liked_bonus: float = 1.2,
        disliked_penalty: float = 0.8,
        distinct_bonus: float = 0.5,
        short_penalty: float = 1.0,
        short_words: int = 4,
        excess_penalty: float = 0.5,
        excess_min: int = 5,
        excess_share: float = 0.15,
        repeat_penalty: float = 0.0,
        repeat_limit: int = 4,
        adjacent_penalty: float = 0.0,
    ) -> None:
        self.name = name
        self.liked_bonus = liked_bonus
        self.disliked_penalty = disliked_penalty
        self.distinct_bonus = distinct_bonus
        self.short_penalty = short_penalty
        self.short_words = short_words
        self.excess_penalty = excess_penalty
        self.excess_min = excess_min
        self.excess_share = excess_share
        self.repeat_penalty = repeat_penalty
        self.repeat_limit = repeat_limit
        self.adjacent_penalty = adjacent_penalty
        self._is_liked = dict.fromkeys(_entries(disliked), False) | dict.fromkeys(_entries(liked), True)
        self._lengths: dict[str, list[int]] = {}
        """Of the entries that begin with a word, the longest first."""
        for entry in self._is_liked:
            self._lengths.setdefault(entry[0], []).append(len(entry))
        self._lengths = {word: sorted(set(lengths), reverse=True) for word, lengths in self._lengths.items()}

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        """One Score per response, with a Span for each match; the prompts do not matter."""
        return [self._score_one(response) for response in responses]

    def matches(self, text: str) -> list[Match]:
        """The entries found in a text, as they are scored: from left to right, the longest at each place."""
        return self._matches(count_words(text))

    def _score_one(self, response: str) -> Score:
        words = count_words(response)
        matches = self._matches(words)
        parts = self._parts(len(words), matches)
        spans = tuple(
            Span(words[m.first].start, words[m.last - 1].end, "liked" if m.liked else "disliked") for m in matches
        )
        return Score(math.fsum(parts.values()), parts, spans)

    def _parts(self, word_count: int, matches: list[Match]) -> dict[str, float]:
        liked = [m for m in matches if m.liked]
        uses = Counter(m.entry for m in liked)
        # The nudge keeps floor(0.29 * 100) at 29, which binary fractions would make 28.
        allowed = max(self.excess_min, math.floor(self.excess_share * word_count + 1e-9))
        excess = max(0, len(liked) - allowed)
        repeats = sum(max(0, n - self.repeat_limit) for n in uses.values())
        adjacent = sum(a.liked and b.liked and a.last == b.first for a, b in pairwise(matches))
        parts = {
            "liked": self.liked_bonus * len(liked),
            "disliked": -self.disliked_penalty * (len(matches) - len(liked)),
            "distinct": self.distinct_bonus * len(uses),
            "short": -self.short_penalty * (word_count <= self.short_words),
            "excess": -self.excess_penalty * excess,
            "repeat": -self.repeat_penalty * repeats,
            "adjacent": -self.adjacent_penalty * adjacent,
        }
        return {part: value + 0.0 for part, value in parts.items()}  # + 0.0 turns -0.0, odd to read, into 0.0

    def _matches(self, words: list[Word]) -> list[Match]:
        """Entries found from left to right, the longest at each place, none overlapping."""
        matches: list[Match] = []
        first = 0
        while first < len(words):
            match = self._match_at(words, first)
            if match is None:
                first += 1
            else:
                matches.append(match)
                first = match.last
        return matches

    def _match_at(self, words: list[Word], first: int) -> Match | None:
        word = words[first].word
        lengths = self._lengths.get(word, [])
        if (bare := without_possessive(word)) != word and 1 not in lengths and 1 in self._lengths.get(bare, ()):
            lengths = [*lengths, 1]
        for length in lengths:
            last = first + length
            if last > len(words):
                continue
            whole = tuple(w.word for w in words[first:last])
            for entry in (whole, (*whole[:-1], without_possessive(whole[-1]))):
                if entry in self._is_liked:
                    return Match(entry, self._is_liked[entry], first, last)
        return None


def _entries(texts: Iterable[str]) -> Iterator[Entry]:
    for text in texts:
        entry = tuple(w.word for w in count_words(text))
        if entry:
            yield entry
        elif text.strip():
            raise ConfigError(
                f"The word list entry {text!r} has no letter, digit or emoji, so no word can ever match it.")
