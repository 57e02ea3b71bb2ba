"""What all charts of the pane have in common: the run, other runs laid over it, its live edits, and the lens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from rlhf_tui.areas.charts.lens import Lens, place, place_of, settling, step_at
from rlhf_tui.areas.charts.plot import OVERLAY_MARKERS, Band, Picture
from rlhf_tui.areas.charts.series import Line, smooth
from rlhf_tui.engine.metrics_history import Bucket, MetricsHistory, Points

# so that a column has at least one of them, whichever size they come in
BUCKETS_A_COLUMN = 4
LEAST_BUCKETS = 512


class Edit(NamedTuple):
    """A live change that counts from `step` on, and what it was in a few words."""

    step: int
    text: str


class Other(NamedTuple):
    """Another run, laid over this one."""

    marker: str
    history: MetricsHistory
    responses_per_step: int | None


class Reading(NamedTuple):
    """A metric of one run at the cursor: its bucket (a single step, unless far back), and the smoothed line there."""

    bucket: Bucket
    smoothed: float | None


@dataclass
class Scene:
    """One for all charts. `cursor` was set by keys or a click, `pointed` is under the mouse; both are steps."""

    run: MetricsHistory = field(default_factory=MetricsHistory)
    others: dict[str, Other] = field(default_factory=dict)
    edits: list[Edit] = field(default_factory=list)
    lens: Lens = field(default_factory=Lens)
    log: set[str] = field(default_factory=set)
    """The metrics that are drawn on a logarithmic axis."""
    responses_per_step: int = 1
    cursor: int | None = None
    pointed: int | None = None
    ascii: bool = False
    comes_with: Mapping[str, str] = field(default_factory=dict)
    """What some metrics of the run's method need; see `AlgorithmConfig.comes_with`."""

    @property
    def looked_at(self) -> int | None:
        """The step that is read off."""
        return self.cursor if self.pointed is None else self.pointed

    @property
    def leader(self) -> tuple[MetricsHistory, int]:
        """The run that zoom, pan and cursor go by: the shown one; before it has a step, the first laid over it."""
        others = [other for other in self.others.values() if other.history.bounds]
        if self.run.bounds is None and others:
            return others[0].history, others[0].responses_per_step or self.responses_per_step
        return self.run, self.responses_per_step

    def lay_over(self, label: str, history: MetricsHistory, responses_per_step: int | None) -> None:
        """Add another run; there are six markers, so a seventh takes the place of the first."""
        before = self.others.pop(label, None)
        if before is None and len(self.others) == len(OVERLAY_MARKERS):
            before = self.others.pop(next(iter(self.others)))
        used = {other.marker for other in self.others.values()}
        marker = before.marker if before else next(mark for mark in OVERLAY_MARKERS if mark not in used)
        self.others[label] = Other(marker, history, responses_per_step)

    # --- what is seen ---

    def steps(self) -> tuple[int, int] | None:
        """The first and last step to draw; None where there is nothing yet."""
        bounds = self.leader[0].bounds
        return self.lens.steps(*bounds) if bounds else None

    @property
    def decay(self) -> float:
        """The weight of the past in the smoothed lines, for as many steps as are seen."""
        steps, bounds = self.steps(), self.leader[0].bounds
        seen = min(steps[1], bounds[1]) - max(steps[0], bounds[0]) + 1 if steps and bounds else 0
        return self.lens.decay(seen)

    def span(self) -> tuple[float, float] | None:
        """The part of the x axis to draw; where all is seen, the runs laid over this one count too."""
        steps = self.steps()
        if steps is None:
            return None
        history, responses = self.leader
        places = [place_of(history, self.lens.axis, step, responses) for step in steps]
        if self.lens.span is None:
            for _, other, per_step in self.others.values():
                places += [place_of(other, self.lens.axis, step, per_step or self.responses_per_step)
                           for step in other.bounds or ()]
        return min(places), max(places)

    def picture(self, metric: str, target: float | None, columns: int) -> Picture | None:
        """What the chart of a metric shows in so many columns; None where there is nothing yet."""
        span = self.span()
        if span is None:
            return None
        most = max(LEAST_BUCKETS, BUCKETS_A_COLUMN * columns)
        band, line = self._curve(self.run, metric, span, self.responses_per_step, most)
        others = [(marker, self._curve(history, metric, span, responses or self.responses_per_step, most)[1])
                  for marker, history, responses in self.others.values()]
        axis, responses = self.lens.axis, self.responses_per_step
        edits = [(place_of(self.run, axis, edit.step, responses), edit.text) for edit in self.edits]
        return Picture(band, line, *span, target, edits, others, metric in self.log, axis, self.ascii)

    def not_on_log(self, metric: str) -> int:
        """How many of the shown run's values in sight have no place on a logarithmic axis, being 0 or less."""
        steps = self.steps()
        if metric not in self.log or steps is None:
            return 0
        found = self.run.buckets(metric, *steps, LEAST_BUCKETS)
        # of older steps only lowest and highest are known: one of them at the least
        return sum(bucket.size if bucket.high <= 0 else 1 for bucket in found if bucket.low <= 0)

    def _curve(self, history: MetricsHistory, metric: str, span: tuple[float, float], responses: int,
               most: int) -> tuple[Band, Points]:
        """A run's metric as it was measured, lowest and highest, and its smoothed line, in about `most` points."""
        lens, decay = self.lens, self.decay
        first, last = (step_at(history, lens.axis, x, responses) for x in span)
        if first is None or last is None:
            return [], []
        found = history.buckets(metric, first, last, most, settling(decay))
        xs = [place(lens.axis, bucket.step, bucket.seconds, responses) for bucket in found]
        coarse = any(bucket.size > 1 for bucket in found)
        means = [(x, bucket.mean) for x, bucket in zip(xs, found, strict=True)]
        line = smooth(means, decay, [bucket.size for bucket in found] if coarse else None)
        # unsmoothed, the line itself goes through every value
        drawn = decay or coarse
        return ([(x, bucket.low, bucket.high) for x, bucket in zip(xs, found, strict=True)] if drawn else []), line

    # --- what is read off ---

    def read(self, metric: str, line: Line) -> Reading | None:
        """The shown run's metric at the cursor; `line` is its smoothed line as it was drawn."""
        bucket = self._bucket(self.run, metric, self.responses_per_step)
        if bucket is None or not line or not self.decay:
            return Reading(bucket, None) if bucket else None
        x = place(self.lens.axis, bucket.step, bucket.seconds, self.responses_per_step)
        return Reading(bucket, line[min(bisect_left(line, x, key=lambda point: point[0]), len(line) - 1)][1])

    def read_others(self, metric: str) -> dict[str, Bucket | None]:
        """By label, the metric of each run laid over, at the same place of the x axis."""
        return {label: self._bucket(other.history, metric, other.responses_per_step or self.responses_per_step)
                for label, other in self.others.items()}

    def moved(self, columns: int, width: int) -> int | None:
        """Where the cursor comes to when it moves by `columns` of `width`, a step at the least, within what is seen.

        It begins at the newest step in sight. None where there is no step at all.
        """
        history, responses = self.leader
        span, steps, bounds = self.span(), self.steps(), history.bounds
        if span is None or steps is None or bounds is None:
            return None
        first, last = max(steps[0], bounds[0]), min(steps[1], bounds[1])
        if self.cursor is None:
            return last
        x = place_of(history, self.lens.axis, self.cursor, responses) + columns * (span[1] - span[0]) / max(1, width)
        found = (step_at(history, self.lens.axis, x, responses), history.neighbour(self.cursor, columns))
        reached = [step for step in found if step is not None]
        return max(first, min(last, max(reached) if columns > 0 else min(reached)))

    def edits_read(self) -> list[str]:
        """The live changes that count from the step at the cursor on."""
        step = self.looked_at
        if step is None:
            return []
        before = self.leader[0].neighbour(step, -1)
        low = step if before is None or before == step else before + 1
        return [edit.text for edit in self.edits if low <= edit.step <= step]

    def cursor_place(self) -> float | None:
        """Where the cursor stands on the x axis."""
        history, responses = self.leader
        step = self.looked_at
        return None if step is None else place_of(history, self.lens.axis, step, responses)

    def _bucket(self, history: MetricsHistory, metric: str, responses: int) -> Bucket | None:
        x, bounds = self.cursor_place(), history.bounds
        if x is None or bounds is None:
            return None
        step = step_at(history, self.lens.axis, x, responses)
        first, last = (place_of(history, self.lens.axis, bound, responses) for bound in bounds)
        return history.at(metric, step) if step is not None and first <= x <= last else None
