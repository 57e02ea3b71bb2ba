"""Cutting text into words, the same way for rewards and for statistics, along the lines of Unicode's word boundaries
(UAX #29).

A word is a run of letters, digits and combining marks of any script; apostrophes and hyphens inside it belong to it
("don't", "t-rex"), any other character ends it. Where words have no spaces between them, no list of words of ours says
where one ends: of Han, Hiragana, Thai, Lao, Khmer and Myanmar each character (with its marks) is a word, and an entry
of several characters is found as a phrase is, wherever they follow each other. Katakana, as in UAX #29, makes one word
a run. In Korean, particles belong to the word that they are attached to, as endings do elsewhere. An emoji is a word.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import NamedTuple

_HYPHENS = "\u2010\u2011"
_APOSTROPHES = "\u2018\u2019\u02bb\u02bc\u05f3\uff07"
_GERSHAYIM = "\u05f4"
_PLAIN = str.maketrans(dict.fromkeys(_HYPHENS, "-") | dict.fromkeys(_APOSTROPHES, "'"))
# characters that only say how others are drawn, as ranges: soft hyphen, joiners, direction marks, variation selectors.
# Those that stand inside words; a zero-width space ends one.
_INVISIBLE = ("\u00ad", "\u034f", "\u061c", "\u180b-\u180f", "\u200c-\u200f", "\u202a-\u202e", "\u2060-\u2064",
              "\u2066-\u2069", "\ufe00-\ufe0f", "\ufeff", "\U000e0100-\U000e01ef")
_SKIN_TONES = "\U0001f3fb-\U0001f3ff"
_IGNORED = dict.fromkeys(code for span in (*_INVISIBLE, _SKIN_TONES) for code in range(ord(span[0]), ord(span[-1]) + 1))
_DOTTED_I = "i\u0307"  # what İ becomes when its case is folded

_HAN_AND_HIRAGANA = ("\u3005\u3007\u3021-\u3029\u303b\u3041-\u3096\u309d-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
                     "\U0001b001-\U0001b11f\U0001b132\U0001b150-\U0001b152\U0001f200\U00020000-\U0003ffff")
# Thai and Lao, Myanmar, Khmer, Tai Le to New Tai Lue, Tai Tham, Myanmar's extensions, Tai Viet
_SOUTH_EAST_ASIAN = ((0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF),
                     (0xA9E0, 0xA9FF), (0xAA60, 0xAADF))
_STACKING = "\u1039\u17d2\u1a60"  # put the next letter below the last one
_KATAKANA = "\u3031-\u3035\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001b000\U0001b164-\U0001b167"

_PICTURES = ("\u231a\u231b\u23e9-\u23f3\u23f8-\u23fa\u2600-\u275a\u2761-\u2767\u2795-\u2797\u27a1\u27b0\u27bf\u2b1b"
             "\u2b1c\u2b50\u2b55\U0001f000-\U0001f1e5\U0001f201-\U0001f3fa\U0001f400-\U0001faff")
# symbols, unless a selector makes pictures of them
_SYMBOLS = ("\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u25ff\u2934\u2935\u2b05-\u2b07"
            "\u3030\u303d\u3297\u3299")
_FLAG_LETTERS = "\U0001f1e6-\U0001f1ff"
# what `_patterns` find in ASCII; those take 40 ms to make, which the first frame need not wait for
_ASCII = re.compile(r"[^\W_]+(?:['\-][^\W_]+)*", re.ASCII)


def words_of(text: str) -> list[str]:
    """The words of a text in order, in the form in which they are compared (see `normalize`)."""
    if text.isascii():
        return _ASCII.findall(text.lower())
    return [normalize(word) for word in _pattern(text).findall(text)]


def word_places(text: str) -> list[tuple[int, int]]:
    """Where each of `words_of` stands: text[start:end]."""
    return [found.span() for found in _pattern(text).finditer(text)]


def _pattern(text: str) -> re.Pattern[str]:
    if text.isascii():
        return _ASCII
    patterns = _patterns()
    return patterns.all_scripts if patterns.unlike_letters.search(text) else patterns.letters


def normalize(word: str) -> str:
    """The form in which words are compared: case, width and composition of accents, the shape of apostrophes and
    hyphens, invisible characters and the colour of hands do not matter."""
    return word.lower() if word.isascii() else _folded(word)


@lru_cache(maxsize=65536)
def _folded(word: str) -> str:
    word = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word.translate(_IGNORED)).casefold())
    if _DOTTED_I in word:
        word = unicodedata.normalize("NFKC", word.replace(_DOTTED_I, "i"))
    return word.translate(_PLAIN)


def without_possessive(word: str) -> str:
    """A normalised word without a final 's: "fox's" gives "fox". (So does "it's" give "it": no tokeniser can tell a
    possessive from a contraction. Whoever looks words up should look for the whole word first.)"""
    return word.removesuffix("'s")


def in_script_without_spaces(text: str) -> bool:
    """True if some of the words of `text` stand side by side without a space."""
    return not text.isascii() and _patterns().unspaced.search(text) is not None


class _Patterns(NamedTuple):
    """letters: words of scripts with spaces; all_scripts: all of them, and emoji; unlike_letters: finds what only the
    latter knows; unspaced: finds characters that are words."""

    letters: re.Pattern[str]
    all_scripts: re.Pattern[str]
    unlike_letters: re.Pattern[str]
    unspaced: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    # \w lacks combining marks, without which words of Devanagari, or any decomposed accent, would fall apart
    inside = "".join(chr(c) for c in range(0x300, 0x20000) if unicodedata.category(chr(c)).startswith("M"))
    inside += "".join(_INVISIBLE)
    unspaced = _HAN_AND_HIRAGANA + "".join(
        chr(c) for low, high in _SOUTH_EAST_ASIAN for c in range(low, high + 1)
        if unicodedata.category(chr(c)).startswith("L"))
    between = rf"['\-{_APOSTROPHES}{_GERSHAYIM}{_HYPHENS}]"

    def words(letter: str) -> str:
        run = rf"(?:{letter}+[{inside}]*)+"
        return rf"{run}(?:{between}{run})*"

    selector, tags = "[\ufe0e\ufe0f]?", "[\U000e0020-\U000e007f]*"
    picture = rf"(?:[{_PICTURES}]|[{_SYMBOLS}](?=\ufe0f)){selector}[{_SKIN_TONES}]?{tags}"
    all_scripts = "|".join((
        rf"[{unspaced}](?:[{inside}]*[{_STACKING}][{unspaced}])*[{inside}]*",
        rf"(?:[{_KATAKANA}]+[{inside}]*)+",
        rf"{picture}(?:\u200d{picture})*|[{_FLAG_LETTERS}]{{2}}",
        words(rf"(?:(?![{unspaced}{_KATAKANA}])[^\W_])"),
    ))
    return _Patterns(
        letters=re.compile(words(r"[^\W_]")),
        all_scripts=re.compile(all_scripts),
        unlike_letters=re.compile(f"[{unspaced}{_KATAKANA}{_PICTURES}{_SYMBOLS}{_FLAG_LETTERS}]"),
        unspaced=re.compile(f"[{unspaced}]"),
    )
