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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, repeat
from typing import NamedTuple

from rlhf_engine.runs.run_columns import Columns

Points = list[tuple[float, float]]

KEPT = 2048
MOST_METRICS = 256
FAN = 4
_NAN = math.nan

Column = tuple["array[float]", ...]
"""One array of values where buckets are single steps, else three: lowest, mean, highest."""


# beyond this, differences and squares overflow: for a chart such a value has diverged as much as infinity
LARGEST = 1e150


def drawable(value: float) -> bool:
    """True for a number that a chart can place; False for NaN, infinity and what is nearly that."""
    return math.isfinite(value) and abs(value) <= LARGEST


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
        if (much := len(self.steps) // KEPT - 1) > 0:
            for values in self.arrays():
                del values[: much * KEPT]
            self.start += much * KEPT

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


class MetricsHistory:
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
        self._open(metrics)
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

    def extend(self, columns: Columns) -> None:
        """Take in many steps: what `add` does for each of them, at a tenth of the cost."""
        steps, exact = columns.steps, self._levels[0]
        if not steps:
            return
        if any(later <= step for step, later in pairwise(steps)):  # of a file that somebody wrote by hand
            for at, (step, seconds) in enumerate(zip(steps, columns.seconds, strict=True)):
                row = {name: values[at] for name, values in columns.values.items()
                       if values[at] == values[at] or columns.not_finite.get(name) == step}
                self.add(step, row, seconds)
            return
        if exact.steps and steps[0] <= exact.steps[-1]:
            self.cut(steps[0] - 1)
        self._first = steps[0] if self._first is None else min(self._first, steps[0])
        before = exact.seconds[-1] if exact.seconds else 0.0
        self._open(columns.values)
        exact.steps.extend(array("d", steps))
        past = (seconds if abs(seconds) <= LARGEST else before for seconds in columns.seconds)
        exact.seconds.extend(list(accumulate(past, max, initial=before))[1:])
        for name, step in columns.not_finite.items():
            if name in exact.columns:
                self.not_finite_at.setdefault(name, step)
        for name, (values,) in exact.columns.items():
            told = columns.values.get(name)
            values.extend(array("d", [_NAN]) * len(steps) if told is None else self._drawable(name, told, steps))
        self._roll_up()

    def recent(self) -> Columns:
        """The newest steps, of which single values are kept."""
        exact = self._levels[0]
        return Columns(array("q", map(int, exact.steps)), exact.seconds[:],
                       {name: values[:] for name, (values,) in exact.columns.items()}, dict(self.not_finite_at))

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

    def _open(self, names: Iterable[str]) -> None:
        """Columns for metrics that were not there before."""
        for name in names:
            # a file can name what it likes; so many names are no metrics of ours
            if name not in self._levels[0].columns and len(self._levels[0].columns) < MOST_METRICS:
                for level in self._levels:
                    level.open(name)

    def _drawable(self, name: str, values: array[float], steps: array[int]) -> array[float]:
        """The values, with NaN for those that a chart cannot place, which are noted."""
        if sum(map(abs, values)) <= LARGEST:
            return values
        for step, value in zip(steps, values, strict=True):
            if abs(value) > LARGEST:
                self.not_finite_at[name] = min(step, self.not_finite_at.get(name, step))
                break
        return array("d", [value if abs(value) <= LARGEST else _NAN for value in values])

    def _roll_up(self) -> None:
        """Make a bucket of the next level of every `FAN` buckets of a level."""
        for depth, fine in enumerate(self._levels):  # which may grow by one as we go
            if depth + 1 == len(self._levels) and fine.end >= FAN:
                self._levels.append(_Level(fine.size * FAN))
                for name in fine.columns:
                    self._levels[-1].open(name)
            coarse = self._levels[depth + 1] if depth + 1 < len(self._levels) else None
            groups = fine.end // FAN - coarse.end if coarse else 0
            if coarse is None or groups == 0:
                fine.trim()
                break
            begin = coarse.end * FAN - fine.start
            part = slice(begin, begin + groups * FAN)
            coarse.steps.extend(fine.steps[part][FAN - 1 :: FAN])
            coarse.seconds.extend(fine.seconds[part][FAN - 1 :: FAN])
            for name, column in fine.columns.items():
                for values, found in zip(coarse.columns[name], _combined(column, part), strict=True):
                    values.extend(found)
            fine.trim()

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


def _combined(column: Column, part: slice) -> tuple[array[float], array[float], array[float]]:
    """Lowest, mean and highest of every `FAN` buckets of a part; NaN where none of them had a finite value."""
    parts = [[cut[at::FAN] for at in range(FAN)] for cut in (values[part] for values in column)]
    lows, means, highs = parts[0], parts[len(parts) // 2], parts[-1]
    totals = list(map(sum, zip(*means, strict=True)))
    if not math.isnan(sum(totals)):
        return (array("d", map(min, *lows)), array("d", [total / FAN for total in totals]),
                array("d", map(max, *highs)))
    found = array("d"), array("d"), array("d")
    for group in zip(zip(*lows, strict=True), zip(*means, strict=True), zip(*highs, strict=True), strict=True):
        below, known, above = ([value for value in values if value == value] for values in group)
        found[0].append(min(below, default=_NAN))
        found[1].append(sum(known) / len(known) if known else _NAN)
        found[2].append(max(above, default=_NAN))
    return found
