"""The lines of a run's files: JSON objects, one a line, written strictly and read leniently.

A crash may tear the last line and a newer version may add fields: what cannot be read is left out, not an error. So is
a line that tells what no run of ours could have done: others may have written it, and what is shown has its limits.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic_core import from_json

from rlhf_engine.errors import RunError
from rlhf_engine.events import Alarm, EditApplied, Sample, Span
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.json_text import to_json
from rlhf_engine.files.reading import (
    MOST_DAMAGE,
    MOST_LINE,
    MOST_WHOLE,
    much_damage,
    number,
    open_regular,
    read_bytes,
    whole_number,
)
from rlhf_engine.token_trace import TokenTrace

T = TypeVar("T")

MOST_METRICS = 1000
"""Metrics of a step; also rewards of a response."""
MOST_TEXT = 1_000_000
"""Characters of a prompt or a response."""
MOST_SENTENCE = 10_000
"""Characters of a sentence."""
MOST_NAME = 200
"""Characters of what a file says a run, a preset or a process is called."""
MOST_SPANS = 10_000
"""Words of a response that a reward tells of."""
MOST_TOKENS = 8192
"""Tokens of a response: the bound of sampling.max_new_tokens."""
MOST_SECONDS = 1e12
"""Thirty thousand years."""


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


class Line(NamedTuple):
    """A line of a file: how many bytes it has, its end included, and the JSON object in it, None if it holds none."""

    length: int
    row: dict[str, Any] | None
    blank: bool
    """True for one that holds nothing at all, which is no damage."""


def readable(rows: Sequence[dict[str, Any]], build: Callable[[dict[str, Any]], T]) -> list[T]:
    """What `build` makes of each row, without the rows that it cannot read."""
    found = []
    for row in rows:
        try:
            found.append(build(row))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            continue
    return found


def edit(row: dict[str, Any]) -> EditApplied:
    """A row of edits.jsonl."""
    return EditApplied(whole_number(row["step"]), _text(row["path"], MOST_SENTENCE), row["old"], row["new"])


def alarm(row: dict[str, Any]) -> Alarm:
    """A row of alarms.jsonl."""
    return Alarm(whole_number(row["step"]), _text(row["kind"], MOST_SENTENCE), _text(row["text"], MOST_SENTENCE))


def metrics_line(row: dict[str, Any]) -> MetricsLine:
    """A row of metrics.jsonl."""
    return MetricsLine(whole_number(row["step"]), seconds_in(row["seconds"]), _values(row["metrics"]))


def seconds_in(value: Any) -> float:
    """The time of a step, since the start of its run; NaN where that is not known. Raises ValueError for no time."""
    told = number(value)
    if told < 0 or told > MOST_SECONDS:  # not so a NaN
        raise ValueError(f"{told} seconds are no time")
    return told


def measured(value: Any) -> float:
    """The value of a metric; NaN for what is not finite, which is null, and for what is no number."""
    try:
        told = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan
    return told if math.isfinite(told) else math.nan


def sample(row: dict[str, Any]) -> Sample:
    """A row of samples.jsonl."""
    response, told = _text(row["response"], MOST_TEXT), row["spans"]
    if len(told) > MOST_SPANS:
        raise ValueError("more words than a reward tells of")
    spans = (Span(whole_number(span["start"]), whole_number(span["end"]), _text(span["kind"], MOST_SENTENCE))
             for span in told)
    return Sample(
        step=whole_number(row["step"]), prompt=_text(row["prompt"], MOST_TEXT), response=response,
        score=measured(row["score"]) if "score" in row else None, parts=_values(row["parts"]),
        kl=measured(row["kl"]) if "kl" in row else None,
        tokens=whole_number(row["tokens"]), finished=bool(row["finished"]),
        spans=tuple(span for span in spans if span.start <= span.end <= len(response)), trace=_trace(row.get("trace")),
    )


def _text(value: Any, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"no text of at most {most} characters")
    return value


def _values(told: Mapping[str, Any]) -> dict[str, float]:
    if len(told) > MOST_METRICS:
        raise ValueError(f"more than {MOST_METRICS} metrics")
    return {name: measured(value) for name, value in told.items()}


def sample_row(response: Sample, *, traced: bool) -> dict[str, Any]:
    """A sample as a row of samples.jsonl; with its trace, if it has one and `traced`, to four significant digits."""
    row = asdict(replace(response, trace=None))
    for name in ("trace", *(name for name in ("score", "kl") if row[name] is None)):
        del row[name]
    if traced and (trace := response.trace) is not None:
        row["trace"] = {
            "texts": trace.texts, "whole": dict(trace.whole),
            "series": {name: [float(f"{value:.4g}") for value in values] for name, values in trace.series.items()},
        }
    return row


_PER_TOKEN = ("log_probs", "reference_log_probs", "kl")
_PER_ACTION = ("rewards", "values", "returns", "raw_advantages", "advantages")


def _trace(row: Any) -> TokenTrace | None:
    """A trace as it was written; None if there is none, or none that holds together."""
    try:
        row = row if "series" in row else _format_1_trace(row)
        if len(row["texts"]) > MOST_TOKENS or max(len(row["series"]), len(row["whole"])) > MOST_METRICS:
            return None
        found = TokenTrace(
            texts=tuple(_text(text, MOST_SENTENCE) for text in row["texts"]),
            series={name: tuple(map(number, values)) for name, values in row["series"].items()},
            whole={name: number(value) for name, value in row["whole"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return found if all(len(values) == len(found.texts) for values in found.series.values()) else None


def _format_1_trace(row: Mapping[str, Any]) -> dict[str, Any]:
    """A trace as it was written while there was one method, whose numbers each had a field.

    Raises KeyError, TypeError or ValueError where one is missing or wrong.
    """
    row = dict(row)
    if "raw_advantages" not in row:  # before they were written each estimator had them so
        pairs = zip(row["returns"], row["values"], strict=True)
        row["raw_advantages"] = [number(came) - number(expected) for came, expected in pairs]
    series, whole = {name: row[name] for name in _PER_TOKEN}, {}
    if row["sequence_level"]:
        whole = {name: number(value) for name in _PER_ACTION for (value,) in [row[name]]}
    else:
        series |= {name: row[name] for name in _PER_ACTION}
    if not math.isfinite(kl_coef := number(row["kl_coef"])):
        raise ValueError("no KL coefficient")
    return {"texts": row["texts"], "series": series, "whole": {
        **whole, "kl_coef": kl_coef, "whitened": float(bool(row["whitened"]))}}


def each_line(path: Path, most: int | None = None, *, follow: bool = False) -> Iterator[Line]:
    """The lines of a file one by one. No file has none. most, follow: see `reading.open_regular`.

    Raises RunError if it cannot be read.
    """
    damage = 0
    try:
        with open_regular(path, most, follow=follow) as raw, BufferedReader(raw, MOST_LINE // 16) as file:
            while text := file.readline(MOST_LINE):
                length, whole = len(text), text.endswith(b"\n")
                while not whole and (more := file.readline(MOST_LINE)) and length <= MOST_DAMAGE:
                    length, whole, text = length + len(more), more.endswith(b"\n"), b"\0"
                row = as_object(text)
                damage += length if row is None else 0
                if damage > MOST_DAMAGE:
                    raise much_damage(path)
                yield Line(length, row, blank=row is None and not text.strip())
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path} could not be read: {os_error_reason(error)}.") from error


def read_lines(path: Path, most: int | None = None, *, follow: bool = False) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects of a file, and how many of its lines are none. most, follow: see `reading.open_regular`.

    Raises RunError if it cannot be read.
    """
    rows, damaged = [], 0
    for _, row, blank in each_line(path, most, follow=follow):
        if row is not None:
            rows.append(row)
        damaged += row is None and not blank
    return rows, damaged


def newest_rows(path: Path, most: int) -> Iterator[dict[str, Any]]:
    """The objects in the last lines of a file, `most` bytes of it, the newest first; none if it cannot be read."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            lines = file.read(most).splitlines()
    except OSError:
        return
    yield from (row for line in reversed(lines) if (row := as_object(line)) is not None)


def text_in(told: Mapping[str, Any], key: str, most: int = MOST_NAME) -> str:
    """A text that a file tells, at most so many characters of it; empty if there is none."""
    value = told.get(key, "")
    return value[:most] if isinstance(value, str) else ""


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; empty if there is none."""
    try:
        return as_object(read_bytes(path, MOST_WHOLE)) or {}
    except OSError:
        return {}


def as_object(text: bytes) -> dict[str, Any] | None:
    """The JSON object in a line, or None if it holds none."""
    if b"\0" in text:  # json would take UTF-16, which is none of ours, and try hard to make something of a hole
        return None
    try:
        try:
            value = from_json(text, cache_strings="keys")  # three times as fast as json
        except ValueError:  # also of half a surrogate pair, which json takes
            value = json.loads(text)
    except (ValueError, RecursionError):  # ValueError: no JSON, or no UTF-8
        return None
    return value if isinstance(value, dict) else None
