"""TOML of a preset's size, read in a time that its size tells. No other TOML is taken from people or files.

A parser of TOML is at the mercy of its text: a key of a hundred thousand parts costs it gigabytes, brackets inside
each other its stack, a million empty tables minutes. So the text is looked over first, once and without recursion,
and given up as soon as it has more of anything than settings ever have.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

MOST_BYTES = 64_000_000
"""Of a preset, and of the settings that a run keeps, which hold its prompts."""
MOST_CHARACTERS = 1_000_000
"""Of one text."""

_MOST_DEEP = 20  # tables and lists inside each other; settings have four
_MOST_KEYS = 10_000
_MOST_TABLES = 10_000  # and lists
_MOST_VALUES = 500_000
_MOST_LINES = 1_000_000
_MOST_ESCAPES = 4_000_000  # each costs the parser as much as a thousand letters
_MOST_BARE = 10_000  # characters of a key, a number or a space

# strings first, by their quotes, of which """ and ''' may hold one or two; then comments, what structures, and the rest
_TOKEN = re.compile(
    r'"""(?:[^"\\]++|\\.|"{1,2}(?!"))*+"{3,5}' r"|'''(?:[^']++|'{1,2}(?!'))*+'{3,5}"
    r'|"(?:[^"\\\n]++|\\.)*+"' r"|'[^'\n]*+'"
    r"|\#[^\n]*+" r"|[\[\]{}=.,\n]" r"""|[^\[\]{}=.,\n"'\#]++""",
    re.DOTALL,
)


def tokens(text: str) -> Iterator[str]:
    """What a valid TOML text is made of: strings with their quotes, comments, line ends, brackets, =, . and the rest.
    """
    return (found.group() for found in _TOKEN.finditer(text))


class TomlError(ValueError):
    """A text is no TOML, or more of it than settings are. line: where, from 1; 0 where that says nothing."""

    def __init__(self, what: str, line: int = 0) -> None:
        super().__init__(what)
        self.line = line


def loads(text: str) -> dict[str, Any]:
    """The tables in `text`. Raises TomlError, whose text goes on a sentence that begins with the text's name."""
    _require_bounds(text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, at, where = str(error).rpartition(" (at ")
        number = re.match(r"line (\d+)", where)
        line = int(number[1]) if number else len(text.splitlines()) or 1  # else "end of document"
        raise TomlError(f"is not valid TOML: {(what if at else str(error))[:200]}", line) from None
    except ValueError:  # Python's own, of numbers
        raise TomlError("holds a number of more digits than anybody counts with") from None


def _require_bounds(text: str) -> None:
    if text.count("\n") > _MOST_LINES:
        raise TomlError(f"has more than {_MOST_LINES:,} lines")
    if text.count("\\") > _MOST_ESCAPES:
        raise TomlError(f"has more than {_MOST_ESCAPES:,} backslashes")
    at, line, deep, parts, keys, tables, values = 0, 1, 0, 0, 0, 0, 0
    while at < len(text):
        found = _TOKEN.match(text, at, at + MOST_CHARACTERS + 6)
        if found is None:  # a quote that nothing closes
            over_lines = text.startswith(('"""', "'''"), max(0, at - 2))
            ends = not over_lines and text.find("\n", at, at + MOST_CHARACTERS) >= 0
            if len(text) - at > MOST_CHARACTERS and not ends:
                raise TomlError(f"holds a text of more than {MOST_CHARACTERS:,} characters", line)
            return  # the parser says what is wrong
        at = found.end()
        token = found.group()
        first = token[0]
        if first == "\n":
            line, parts = line + 1, 0
        elif first == ".":
            parts += 1
        elif first == ",":
            values, parts = values + 1, 0
        elif first == "=":
            keys, parts = keys + 1, 0
        elif first in "[{":
            tables, deep, parts = tables + 1, deep + 1, 0
        elif first in "]}":
            deep -= 1
        elif first in "\"'":
            line += token.count("\n")
        elif len(token) > _MOST_BARE and first != "#":
            raise TomlError(f"holds a name, a number or a space of more than {_MOST_BARE:,} characters", line)
        if deep + parts > _MOST_DEEP:
            raise TomlError("is nested too deeply to be a preset", line)
        for count, most, what in ((keys, _MOST_KEYS, "keys"), (tables, _MOST_TABLES, "tables and lists"),
                                  (values, _MOST_VALUES, "values")):
            if count > most:
                raise TomlError(f"has more than {most:,} {what}, which no preset has", line)
