"""All metrics of one run in little memory, however long it is.

Levels of buckets: the first holds single steps, each further one buckets of four of those before. A level keeps its
newest 2,048 to 4,096 buckets. So up to 4,096 steps are kept as they were, what lies further back gets coarser with its
age, and lowest, mean and highest value of each bucket stay: a spike is never lost. Per metric that is 33 KB for the
steps and 98 KB for each level of buckets that is full (the second is at 16,384 steps, the third at 65,536, and so on);
a step costs the same whether it is the tenth or the millionth.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

from rlhf_tui.widgets.series import Points, drawable

KEPT = 2048
MOST_METRICS = 256
FAN = 4
_NAN = math.nan

Column = tuple["array[float]", ...]
"""One array of values where buckets are single steps, else three: lowest, mean, highest."""


class Bucket(NamedTuple):
    """What a metric was over `size` steps, the last of them `step`, which ended `seconds` after the run's start."""

    step: float
    seconds: float
    low: float
    mean: float
    high: float
    size: int


@dataclass
class _Level:
    """Buckets of `size` steps each, from the run's bucket number `start` on."""

    size: int
    start: int = 0
    steps: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    columns: dict[str, Column] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The number of the bucket that comes next."""
        return self.start + len(self.steps)

    def open(self, name: str) -> None:
        """A column for a metric that was not there before."""
        parts = 1 if self.size == 1 else 3
        self.columns[name] = tuple(array("d", [_NAN]) * len(self.steps) for _ in range(parts))

    def arrays(self) -> Iterator[array[float]]:
        """Everything kept."""
        yield self.steps
        yield self.seconds
        for column in self.columns.values():
            yield from column

    def trim(self) -> None:
        """Forget the older half when there is twice what is to be kept."""
        if len(self.steps) >= 2 * KEPT:
            for values in self.arrays():
                del values[:KEPT]
            self.start += KEPT

    def cut(self, end: int) -> None:
        """Forget the buckets from number `end` on; where even the oldest kept one is later, the next will be `end`."""
        kept = max(0, end - self.start)
        for values in self.arrays():
            del values[kept:]
        if end < self.start:
            self.start = end

    def reaches(self, place: int) -> bool:
        """True when nothing before the bucket at `place` was forgotten that a look from there on would want."""
        return place > 0 or self.start == 0

    def take(self, name: str, first: int, last: int) -> list[Bucket]:
        """The buckets at places `first` to before `last` in which the metric had a finite value."""
        column = self.columns[name]
        low, mean, high = column[0], column[len(column) // 2], column[-1]
        part = slice(first, last)
        rows = zip(self.steps[part], self.seconds[part], low[part], mean[part], high[part], repeat(self.size))
        return [bucket for bucket in map(Bucket._make, rows) if bucket[3] == bucket[3]]


class History:
    """The metrics of one run by step. Values that are not finite are noted, not kept."""

    def __init__(self) -> None:
        self._levels = [_Level(1)]
        self._first: int | None = None
        self.not_finite_at: dict[str, int] = {}
        """The first step at which a metric was not finite, of those metrics that were not."""

    def add(self, step: int, metrics: Mapping[str, float], seconds: float | None = None) -> None:
        """Take in a step; a resumed run may take steps again, which replaces them and what came after them."""
        exact = self._levels[0]
        if exact.steps and step <= exact.steps[-1]:
            self.cut(step - 1)
        if self._first is None or step < self._first:
            self._first = step
        before = exact.seconds[-1] if exact.seconds else 0.0
        for name in metrics:
            # a file can name what it likes; so many names are no metrics of ours
            if name not in exact.columns and len(exact.columns) < MOST_METRICS:
                for level in self._levels:
                    level.open(name)
        exact.steps.append(step)
        # time never runs backwards here: places on the axis are found by halving
        exact.seconds.append(max(before, seconds) if seconds is not None and drawable(seconds) else before)
        for name, (values,) in exact.columns.items():
            value = metrics.get(name)
            if value is not None and not drawable(value):
                self.not_finite_at.setdefault(name, step)
                value = None
            values.append(_NAN if value is None else value)
        self._roll_up()

    def cut(self, step: int) -> None:
        """Forget what came after `step`; far back, where only buckets are left, up to a bucket more."""
        self.not_finite_at = {name: at for name, at in self.not_finite_at.items() if at <= step}
        for level in self._levels:
            kept = bisect_right(level.steps, step)
            if level.reaches(kept):
                rows = (level.start + kept) * level.size
                break
        for level in self._levels:
            level.cut(rows // level.size)
        self._first = self._first if rows else None

    def _roll_up(self) -> None:
        """Make a bucket of the next level of every `FAN` buckets of a level."""
        number, depth = self._levels[0].end, 0
        while number % FAN == 0:
            fine = self._levels[depth]
            if depth + 1 == len(self._levels):
                self._levels.append(_Level(fine.size * FAN))
                for name in fine.columns:
                    self._levels[-1].open(name)
            coarse = self._levels[depth + 1]
            coarse.steps.append(fine.steps[-1])
            coarse.seconds.append(fine.seconds[-1])
            for name, column in fine.columns.items():
                for values, value in zip(coarse.columns[name], _combined(column), strict=True):
                    values.append(value)
            fine.trim()
            number, depth = number // FAN, depth + 1
        self._levels[depth].trim()

    # --- what is there ---

    @property
    def names(self) -> list[str]:
        """Every metric the run has told of."""
        return list(self._levels[0].columns)

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The first and the last step; None of an empty history."""
        newest = max((level.steps[-1] for level in self._levels if level.steps), default=None)
        return None if newest is None or self._first is None else (self._first, int(newest))

    def points(self, name: str) -> Points:
        """The newest steps, of which single values are kept, as (step, value)."""
        exact = self._levels[0]
        return [(step, value) for step, value in zip(exact.steps, exact.columns.get(name, ((),))[0], strict=False)
                if value == value]

    def newest(self, name: str, most: int = 1) -> list[float]:
        """The newest `most` finite values, oldest first, out of the newest steps."""
        found: list[float] = []
        for value in reversed(self._levels[0].columns.get(name, (array("d"),))[0]):
            if value == value:
                found.append(value)
                if len(found) == most:
                    break
        return found[::-1]

    # --- looking at a part ---

    def buckets(self, name: str, first: float, last: float, most: int, before: int = 0) -> list[Bucket]:
        """The metric from step `first` to `last` in about `most` buckets or fewer, the finest that are kept.

        before: so many buckets before `first` come too, for smoothing to settle in.
        """
        if name not in self._levels[0].columns:
            return []
        depth = 0
        for depth, level in enumerate(self._levels):  # noqa: B007 (read below)
            begin = bisect_left(level.steps, first)
            end = bisect_right(level.steps, last) + 1  # the bucket that `last` lies in counts
            if level.reaches(begin) and min(end, len(level.steps)) - begin <= most:
                break
        found = level.take(name, max(0, begin - before), end)
        if end > len(level.steps):
            found += self._rest(name, depth, last)
        return found

    def _rest(self, name: str, depth: int, last: float) -> Iterator[Bucket]:
        """The newest steps, that do not fill a bucket of that level yet, in the largest buckets they fill."""
        done = self._levels[depth].end * self._levels[depth].size
        for level in reversed(self._levels[:depth]):
            begin = done // level.size - level.start
            yield from level.take(name, begin, min(len(level.steps), bisect_right(level.steps, last) + 1))
            done = level.end * level.size

    def at(self, name: str, step: float) -> Bucket | None:
        """The bucket that `step` lies in; None where the metric has no value."""
        level = self._level_of(step)
        place = bisect_left(level.steps, step)
        found = level.take(name, place, place + 1) if name in level.columns else []
        return found[0] if found else None

    def neighbour(self, step: float, by: int) -> int | None:
        """The step that many steps (or buckets, far back) after `step`, as far as there are any."""
        level = self._level_of(step)
        if not level.steps:
            return None
        place = min(len(level.steps) - 1, bisect_left(level.steps, step))
        return int(level.steps[max(0, min(len(level.steps) - 1, place + by))])

    def seconds_at(self, step: float) -> float:
        """When `step` ended; of a step still to come, when the newest did."""
        level = self._level_of(step)
        return level.seconds[min(len(level.steps) - 1, bisect_left(level.steps, step))] if level.steps else 0.0

    def step_at(self, seconds: float) -> float | None:
        """The first step that ended at `seconds` or later, or else the last."""
        for level in self._levels:
            place = bisect_left(level.seconds, seconds)
            if level.steps and level.reaches(place):
                return level.steps[min(len(level.steps) - 1, place)]
        return None

    def _level_of(self, step: float) -> _Level:
        """The finest level that still knows `step`."""
        return next(level for level in self._levels if level.reaches(bisect_left(level.steps, step)))


def _combined(column: Column) -> tuple[float, float, float]:
    """Lowest, mean and highest of the newest `FAN` buckets; NaN when none of them had a finite value."""
    means = column[len(column) // 2][-FAN:]
    total = sum(means)
    if total == total:
        return min(column[0][-FAN:]), total / FAN, max(column[-1][-FAN:])
    known = [value for value in means if value == value]
    if not known:
        return _NAN, _NAN, _NAN
    return (min(value for value in column[0][-FAN:] if value == value), sum(known) / len(known),
            max(value for value in column[-1][-FAN:] if value == value))
