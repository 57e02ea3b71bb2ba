"""Finds the entries of two word lists in a text, as a reward of such lists scores them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rlhf_engine.errors import ConfigError
from rlhf_engine.words import without_possessive, words_of

Entry = tuple[str, ...]
"""A list entry as its normalised words: ("fox",), ("polar", "bear")."""


class Match(NamedTuple):
    """A list entry found in a text: words[first:last] of the text stand for it."""

    entry: Entry
    liked: bool
    first: int
    last: int


class WordMatcher:
    """Two lists of words and phrases, to be found in texts.

    Words match whatever their case and whatever punctuation touches them, with or without a possessive 's; other
    endings do not ("dog" is not "dogs"). An entry may be a phrase, whose words must follow each other; the longest
    entry wins and each word of the text counts once. An entry on both lists counts as liked.

    Blank entries are skipped. Raises ConfigError for one of punctuation alone.
    """

    def __init__(self, liked: Iterable[str], disliked: Iterable[str]) -> None:
        self._is_liked = dict.fromkeys(_entries(disliked), False) | dict.fromkeys(_entries(liked), True)
        self._lengths: dict[str, list[int]] = {}
        """Of the entries that begin with a word, the longest first."""
        for entry in self._is_liked:
            self._lengths.setdefault(entry[0], []).append(len(entry))
        self._lengths = {word: sorted(set(lengths), reverse=True) for word, lengths in self._lengths.items()}

    def matches(self, words: Sequence[str]) -> list[Match]:
        """Entries found in the words of a text (see `words_of`) from left to right, the longest at each place, none
        overlapping."""
        matches: list[Match] = []
        first = 0
        # most words begin no entry: they are passed over at once
        for place in [at for at, word in enumerate(words) if word in self._lengths or word.endswith("'s")]:
            if place >= first and (match := self._match_at(words, place)):
                matches.append(match)
                first = match.last
        return matches

    def _match_at(self, words: Sequence[str], first: int) -> Match | None:
        word = words[first]
        lengths = self._lengths.get(word, [])
        if (bare := without_possessive(word)) != word and 1 not in lengths and 1 in self._lengths.get(bare, ()):
            lengths = [*lengths, 1]
        for length in lengths:
            last = first + length
            if last > len(words):
                continue
            whole = tuple(words[first:last])
            for entry in (whole, (*whole[:-1], without_possessive(whole[-1]))):
                if entry in self._is_liked:
                    return Match(entry, self._is_liked[entry], first, last)
        return None


def _entries(texts: Iterable[str]) -> Iterator[Entry]:
    for text in texts:
        entry = tuple(words_of(text))
        if entry:
            yield entry
        elif text.strip():
            raise ConfigError(
                f"The word list entry {text!r} has no letter, digit or emoji, so no word can ever match it.")
