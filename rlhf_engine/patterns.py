"""Regular expressions that a person gives: compiled, with a sentence about what is wrong, and matched within a time
limit.

The syntax is that of Python's `re`, which has to take a pattern first. What matches is the library `regex`, which reads
the same patterns and can stop in the middle: some patterns take time exponential in the length of a text
(`(a|aa)+$`), and `re` would neither stop nor let another thread run. (`models.expressions` starts a process for that:
once for a model, where a reward is asked in every step.) What `regex` reads besides, approximate matches
and recursion among it, is left out, and so is what makes it take memory without end: a preset may be somebody else's.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from rlhf_engine.errors import first_line

if TYPE_CHECKING:
    import regex

SECONDS = 2.0
"""The longest that one pattern may take for one text: some million times what a sound one needs."""
LONGEST = 1_000
"""Characters of a pattern."""
MOST_PARTS = 200_000
"""Of a pattern whose counted repeats are written out: `regex` lays a{1000} out in memory, and (a{1000}){1000}, too."""
_SHOWN = 40  # characters of a pattern to either side of a mistake
_COUNTED = re.compile(r"(\)\s*)?\{(?:(\d+)(?:,(\d*))?|,(\d*))\}")
_BRACE = re.compile(r"(\\N\{[^}]*\}|\\.)|\{(?!(?:\d+(?:,\d*)?|,\d*)\})", re.DOTALL)
_VERBOSE = re.compile(r"\(\?[A-Za-z]*x")


class SlowPatternError(Exception):
    """A pattern took longer than `SECONDS` for one text."""


@lru_cache(maxsize=64)
def compiled(
    pattern: str, *, ignore_case: bool = False, dotall: bool = False, multiline: bool = False
) -> regex.Pattern[str]:
    """The pattern under Python's flags IGNORECASE, DOTALL and MULTILINE. Raises ValueError, one sentence with the place
    of the mistake, for what is no pattern, or none that can be used."""
    import regex  # the first frame is drawn without it

    parts = _parts(pattern)
    if parts > MOST_PARTS:
        raise ValueError(f"pattern cannot be used: its counted repeats may make {parts:,} parts of it, where at most "
                         f"{MOST_PARTS:,} are allowed; * and + repeat without a count")
    flags = ((regex.IGNORECASE if ignore_case else 0) | (regex.DOTALL if dotall else 0)
             | (regex.MULTILINE if multiline else 0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Python may read otherwise one day
            re.compile(pattern)
            # a brace that counts nothing is a letter in Python, and begins an approximate match in `regex`
            return regex.compile(_BRACE.sub(lambda found: found[1] or r"\{", pattern), flags)
    except (re.error, regex.error) as error:
        at = error.pos if error.pos is not None else 0
        near = pattern[max(0, at - _SHOWN):at + _SHOWN]
        raise ValueError(f"pattern is no regular expression: {error.msg} at character {at + 1}, near "
                         f"{near!r}") from None
    except (RecursionError, OverflowError, MemoryError):
        raise ValueError("pattern cannot be used: its groups are nested too deeply") from None
    except ValueError as error:  # flags that exclude each other, for one
        raise ValueError(f"pattern is no regular expression: {first_line(error)}") from None


def _parts(pattern: str) -> int:
    """Of how many parts the pattern is at most, with counted repeats written out: those of groups may stand within each
    other, all others stand side by side."""
    groups, others = 1, len(pattern)
    verbose = _VERBOSE.search(pattern) is not None  # comments may stand between a group and its count
    for found in _COUNTED.finditer(pattern):
        count = max(int(number or 0) for number in found.groups()[1:])
        if found[1] or verbose:
            groups *= max(1, count)
        else:
            others += count
    return groups * others


def first_match(pattern: regex.Pattern[str], text: str, *, whole: bool = False) -> regex.Match[str] | None:
    """The first match in the text, or with `whole` that of all of it. Raises SlowPatternError."""
    match = pattern.fullmatch if whole else pattern.search
    try:
        return match(text, timeout=SECONDS, concurrent=True)
    except TimeoutError:
        raise SlowPatternError from None


def all_matches(pattern: regex.Pattern[str], text: str) -> Iterator[regex.Match[str]]:
    """Every match from left to right, none overlapping, within `SECONDS` in all. Raises SlowPatternError."""
    ends = time.monotonic() + SECONDS
    try:
        for match in pattern.finditer(text, timeout=SECONDS, concurrent=True):
            yield match
            if time.monotonic() > ends:
                raise TimeoutError
    except TimeoutError:
        raise SlowPatternError from None


def slow(name: str, pattern: str, response: str) -> str:
    """The sentence about a pattern that took too long."""
    return (f"Reward {name!r}: its pattern {pattern[:_SHOWN]!r} took longer than {SECONDS:g} s for one response "
            f"of {len(response):,} characters, {response[:_SHOWN]!r}; repeated parts that can match the same "
            "text in many ways, as in (a|aa)+, take exponential time: write it without them.")
