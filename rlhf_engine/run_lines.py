"""The lines of a run's files: JSON objects, one a line, written strictly and read leniently.

A crash may tear the last line and a newer version may add fields: what cannot be read is left out, not an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import from_json

from rlhf_engine.disk import why
from rlhf_engine.errors import RunError
from rlhf_engine.events import Alarm, EditApplied, Sample, TokenTrace
from rlhf_engine.json_text import to_json
from rlhf_engine.rewards.base import Span

T = TypeVar("T")


@dataclass(frozen=True)
class MetricsLine:
    """The metrics of one step; `seconds` since the run's start. A value that was not finite is read as NaN."""

    step: int
    seconds: float
    metrics: Mapping[str, float]


def to_line(row: dict[str, Any]) -> str:
    """One line of JSON, without its end: NaN and infinity, which JSON does not know, become null, and what a terminal
    would obey an escape."""
    return to_json(row, ascii_only=False)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def readable(rows: list[dict[str, Any]], build: Callable[[dict[str, Any]], T]) -> list[T]:
    """What `build` makes of each row, without the rows that it cannot read."""
    found = []
    for row in rows:
        try:
            found.append(build(row))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue
    return found


def edit(row: dict[str, Any]) -> EditApplied:
    """A row of edits.jsonl."""
    return EditApplied(int(row["step"]), str(row["path"]), row["old"], row["new"])


def alarm(row: dict[str, Any]) -> Alarm:
    """A row of alarms.jsonl."""
    return Alarm(int(row["step"]), str(row["kind"]), str(row["text"]))


def metrics_line(row: dict[str, Any]) -> MetricsLine:
    """A row of metrics.jsonl."""
    metrics = {str(name): _number(value) for name, value in row["metrics"].items()}
    return MetricsLine(int(row["step"]), _number(row["seconds"]), metrics)


def sample(row: dict[str, Any]) -> Sample:
    """A row of samples.jsonl."""
    return Sample(
        step=int(row["step"]), prompt=str(row["prompt"]), response=str(row["response"]), score=_number(row["score"]),
        parts={str(name): _number(value) for name, value in row["parts"].items()}, kl=_number(row["kl"]),
        tokens=int(row["tokens"]), finished=bool(row["finished"]),
        spans=tuple(Span(int(span["start"]), int(span["end"]), str(span["kind"])) for span in row["spans"]),
        trace=_trace(row.get("trace")),
    )


def sample_row(response: Sample, *, traced: bool) -> dict[str, Any]:
    """A sample as a row of samples.jsonl; with its trace, if it has one and `traced`, to four significant digits."""
    row = asdict(replace(response, trace=None))
    del row["trace"]
    if traced and response.trace is not None:
        row["trace"] = {name: [float(f"{value:.4g}") for value in values] if name in _NUMBERS else values
                        for name, values in vars(response.trace).items()}
    return row


_PER_TOKEN = ("log_probs", "reference_log_probs", "kl")
_PER_ACTION = ("rewards", "values", "returns", "raw_advantages", "advantages")
_NUMBERS = (*_PER_TOKEN, *_PER_ACTION)


def _trace(row: Any) -> TokenTrace | None:
    """A trace as it was written; None if there is none, or none that holds together."""
    try:
        if "raw_advantages" not in row:  # a line of before they were written: every estimator of then had them so
            pairs = zip(row["returns"], row["values"], strict=True)
            row = row | {"raw_advantages": [_number(came) - _number(expected) for came, expected in pairs]}
        found = TokenTrace(
            texts=tuple(map(str, row["texts"])), **{name: tuple(map(_number, row[name])) for name in _NUMBERS},
            kl_coef=float(row["kl_coef"]), whitened=bool(row["whitened"]), sequence_level=bool(row["sequence_level"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    actions = 1 if found.sequence_level else len(found.texts)
    whole = (all(len(getattr(found, name)) == len(found.texts) for name in _PER_TOKEN)
             and all(len(getattr(found, name)) == actions for name in _PER_ACTION))
    return found if whole else None


def each_line(path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """The lines of a file one by one, as they are and as JSON objects (None for one that is none). No file has none.

    Raises RunError if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            for line in file:
                yield line, as_object(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path} could not be read: {why(error)}.") from error


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects of a file, and how many of its lines are none. Raises RunError if it cannot be read."""
    rows, damaged = [], 0
    for line, row in each_line(path):
        if row is not None:
            rows.append(row)
        elif line.strip():
            damaged += 1
    return rows, damaged


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; empty if there is none."""
    try:
        return as_object(path.read_bytes()) or {}
    except OSError:
        return {}


def as_object(text: bytes) -> dict[str, Any] | None:
    """The JSON object in a line, or None if it holds none."""
    try:
        try:
            value = from_json(text, cache_strings="keys")  # three times as fast as json
        except ValueError:  # also of half a surrogate pair, which json takes
            value = json.loads(text)
    except (ValueError, RecursionError):  # ValueError: no JSON, or no UTF-8
        return None
    return value if isinstance(value, dict) else None
