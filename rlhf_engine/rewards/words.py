"""Cutting text into words, the same way for rewards and for statistics.

A word is a run of letters, digits and combining marks of any script; apostrophes and hyphens inside it belong to it
("don't", "t-rex"), any other character ends it. Scripts written without spaces come out as one word per run.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

_HYPHENS = "\u2010\u2011"
_APOSTROPHES = "\u2019\u02bc\uff07"
_PLAIN = str.maketrans(dict.fromkeys(_HYPHENS, "-") | dict.fromkeys(_APOSTROPHES, "'"))
# what `_pattern` finds in ASCII; that one takes 40 ms to make, which the first frame need not wait for
_ASCII = re.compile(r"[^\W_]+(?:['\-][^\W_]+)*", re.ASCII)


class Word(NamedTuple):
    """A word as it is compared (see `normalize`), and where it stands: text[start:end]."""

    word: str
    start: int
    end: int


def count_words(text: str) -> list[Word]:
    """The words of a text in order, with their character offsets."""
    pattern = _ASCII if text.isascii() else _pattern()
    return [Word(normalize(m.group()), m.start(), m.end()) for m in pattern.finditer(text)]


def normalize(word: str) -> str:
    """The form in which words are compared: case, width and composition of accents and the shape of apostrophes
    and hyphens do not matter."""
    if word.isascii():
        return word.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold()).translate(_PLAIN)


def without_possessive(word: str) -> str:
    """A normalised word without a final 's: "fox's" gives "fox". (So does "it's" give "it": no tokeniser can tell a
    possessive from a contraction. Whoever looks words up should look for the whole word first.)"""
    return word.removesuffix("'s")


@cache
def _pattern() -> re.Pattern[str]:
    # \w lacks combining marks, without which words of Devanagari, or any decomposed accent, would fall apart. ZWNJ and
    # ZWJ stand inside words of Persian and several Indic scripts.
    marks = "".join(chr(c) for c in range(0x300, 0x20000) if unicodedata.category(chr(c)).startswith("M"))
    letter = rf"(?:[^\W_][{marks}\u200c\u200d]*)"
    return re.compile(rf"{letter}+(?:['\-{_APOSTROPHES}{_HYPHENS}]{letter}+)*")
