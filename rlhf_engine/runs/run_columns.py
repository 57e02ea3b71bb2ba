"""The metrics of many steps at once, a column for each metric: what a chart of a long run is made of.

A line of metrics.jsonl with thirty metrics is over a kilobyte: a run of 100,000 steps has 140 MB of them, and as many
dicts would fill the memory. So the file is read in portions, and a portion becomes columns before the next is read.
Lines are read as leniently as everywhere: what cannot be read is left out.
"""

from __future__ import annotations

import math
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rlhf_engine.files.reading import MOST_COUNTED, Lines, open_regular, whole_number
from rlhf_engine.runs.run_lines import MOST_METRICS, as_object, measured, seconds_in

PORTION_BYTES = 512 * 1024
"""Read at once: some four hundred steps, a few milliseconds of work, after which another thread may have its turn."""
_BLOCK = 64 * 1024
_GLIMPSE = 8 * 1024
_ABSENT = math.nan  # told from a NaN in the file by being this very object


@dataclass(frozen=True)
class Columns:
    """Metrics of steps in the order of the file. All arrays are as long as `steps`.

    seconds: since the run's start. values: by metric; NaN where a step lacks it, or it was not finite. not_finite: the
    first of these steps at which a metric was not finite, of those metrics that were not.
    """

    steps: array[int]
    seconds: array[float]
    values: Mapping[str, array[float]]
    not_finite: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.steps)

    def until(self, last: int) -> Columns:
        """Those of the steps up to `last`; steps ascend."""
        end = bisect_right(self.steps, last)
        if end == len(self.steps):
            return self
        return Columns(self.steps[:end], self.seconds[:end], {name: part[:end] for name, part in self.values.items()},
                       {name: step for name, step in self.not_finite.items() if step <= last})

    def after(self, last: int) -> Columns:
        """Those of the steps after `last`; steps ascend."""
        begin = bisect_right(self.steps, last)
        return Columns(self.steps[begin:], self.seconds[begin:],
                       {name: part[begin:] for name, part in self.values.items()},
                       {name: step for name, step in self.not_finite.items() if step > last})


def read_columns(path: Path) -> Iterator[Columns]:
    """All whole lines of a metrics.jsonl, in portions. No file is no portion. Raises OSError."""
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return
    with file:
        yield from columns_in(file, os.fstat(file.fileno()).st_size)


def columns_in(file: FileIO, end: int) -> Iterator[Columns]:
    """The lines of a metrics.jsonl from where `file` stands to the byte `end`, where a line ends, in portions.

    A last line without its end is left out. Raises OSError.
    """
    lines_in, left = Lines(Path(file.name)), end - file.tell()
    while left > 0 and (data := file.read(min(PORTION_BYTES, left))):
        left -= len(data)
        if lines := lines_in(data):
            yield columns_of(lines)


def columns_of(lines: Sequence[bytes]) -> Columns:
    """What lines of a metrics.jsonl tell."""
    steps, seconds, metrics = array("q"), array("d"), []
    for line in lines:
        row: Any = as_object(line)
        try:
            step, told, at = row["step"], row["metrics"], row["seconds"]
            if not isinstance(told, dict) or len(told) > MOST_METRICS:
                continue
            # first what all lines of ours have, for there are a hundred thousand of them
            step = step if type(step) is int and 0 <= step <= MOST_COUNTED else whole_number(step)
            seconds.append(seconds_in(at))
            steps.append(step)
        except (KeyError, TypeError, ValueError):
            continue
        metrics.append(told)
    not_finite: dict[str, int] = {}
    values = {name: _column(name, found, steps, not_finite) for name, found in _transposed(metrics)}
    return Columns(steps, seconds, values, not_finite)


def last_lines(file: FileIO, most: int) -> int:
    """Where the last lines of a file begin that have `most` bytes at the most together; 0 if that is all of it.

    `file` stands there afterwards. Raises OSError.
    """
    size = os.fstat(file.fileno()).st_size
    place = max(0, size - most)
    file.seek(max(0, place - 1))
    while place and (block := file.read(_BLOCK)):
        if (found := block.find(b"\n")) >= 0:
            place = file.tell() - len(block) + found + 1
            break
    return file.seek(place)


def glimpses(path: Path, name: str, places: int) -> list[float]:
    """A metric at so many places along a file, each the mean of a few steps; all its steps where the file is small.

    What cannot be read is left out.
    """
    found: list[float] = []
    with suppress(OSError), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        part = size if size <= _BLOCK else _GLIMPSE
        for place in range(1 if part == size else places):
            file.seek(place * (size - part) // max(1, places - 1))
            lines = file.read(part).split(b"\n")
            if part != size:
                lines = lines[1:-1] or lines  # the first is torn, and so may be the last
            values = [value for value in columns_of(lines).values.get(name, ()) if math.isfinite(value)]
            found += values if part == size else [math.fsum(values) / len(values)] if values else []
    return found


def _transposed(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
    """By name, what each row has of it."""
    names = list(rows[0]) if rows else []
    if all(list(row) == names for row in rows):
        return zip(names, zip(*map(dict.values, rows), strict=True), strict=True)
    told = islice(dict.fromkeys(chain.from_iterable(rows)), MOST_METRICS)
    return ((name, [row.get(name, _ABSENT) for row in rows]) for name in told)


def _column(name: str, found: Sequence[Any], steps: array[int], not_finite: dict[str, int]) -> array[float]:
    try:
        column = array("d", found)
        if math.isfinite(sum(column)):
            return column
    except (TypeError, OverflowError):  # null, or no number at all
        pass
    column = array("d")
    for step, value in zip(steps, found, strict=True):
        number = measured(value)
        if value is not _ABSENT and math.isnan(number):
            not_finite.setdefault(name, step)
        column.append(number)
    return column
