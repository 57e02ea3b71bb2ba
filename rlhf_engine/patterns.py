"""Regular expressions that a person gives: compiled, with a sentence about what is wrong, and matched within a time
limit.

The syntax is that of Python's `re`. What matches is the library `regex`, which reads the same patterns and can stop in
the middle: some patterns take time exponential in the length of a text (`(a|aa)+$`), and `re` would neither stop nor
let another thread run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import regex

SECONDS = 2.0
"""The longest that one pattern may take for one text: some million times what a sound one needs."""
LONGEST = 1_000
"""Characters of a pattern."""
_SHOWN = 40  # characters of a pattern to either side of a mistake


class SlowPatternError(Exception):
    """A pattern took longer than `SECONDS` for one text."""


@lru_cache(maxsize=64)
def compiled(
    pattern: str, *, ignore_case: bool = False, dotall: bool = False, multiline: bool = False
) -> regex.Pattern[str]:
    """The pattern under Python's flags IGNORECASE, DOTALL and MULTILINE. Raises ValueError, one sentence with the place
    of the mistake, for what is no pattern."""
    import regex  # the first frame is drawn without it

    flags = ((regex.IGNORECASE if ignore_case else 0) | (regex.DOTALL if dotall else 0)
             | (regex.MULTILINE if multiline else 0))
    try:
        return regex.compile(pattern, flags)
    except regex.error as error:
        at = error.pos if error.pos is not None else 0
        near = pattern[max(0, at - _SHOWN):at + _SHOWN]
        raise ValueError(f"pattern is no regular expression: {error.msg} at character {at + 1}, near "
                         f"{near!r}") from None
    except (RecursionError, OverflowError, MemoryError):
        raise ValueError("pattern cannot be used: its groups are nested too deeply") from None
    except ValueError as error:  # flags that exclude each other, for one
        raise ValueError(f"pattern is no regular expression: {error}") from None


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
