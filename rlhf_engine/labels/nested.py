"""Columns of a table by their names, and what lies within them: `info.post` is the post in each object of the column
`info`, and `summaries.0.text` the text of the first of its list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MOST_NAMED = 8


def column_at(columns: Mapping[str, Sequence[Any]], name: str) -> Sequence[Any] | None:
    """The values of a column, or of what lies within one, None in rows that have none; None if no row has any."""
    if name in columns:
        return columns[name]
    steps = name.split(".")
    for count in range(len(steps) - 1, 0, -1):
        if (head := ".".join(steps[:count])) in columns:
            found = [_within(value, steps[count:]) for value in columns[head]]
            return found if any(value is not None for value in found) else None
    return None


def names_of(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """What `column_at` has something for, by the first row in which it is there."""
    found: list[str] = []
    for name, column in columns.items():
        value = next((value for value in column if value is not None), None)
        found += _names(name, value)[:_MOST_NAMED]
    return found


def _within(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.removeprefix("-").isdecimal() and len(step) < 10:
            value = value[int(step)] if -len(value) <= int(step) < len(value) else None
        else:
            return None
    return value


def _names(name: str, value: Any, depth: int = 0) -> list[str]:
    if isinstance(value, Mapping) and depth < 3 and not {"role", "from"} & value.keys():
        return [each for key, inner in value.items() for each in _names(f"{name}.{key}", inner, depth + 1)]
    if isinstance(value, list) and value and isinstance(value[0], Mapping) and not {"role", "from"} & value[0].keys():
        return _names(f"{name}.0", value[0], depth + 1)
    return [name]
