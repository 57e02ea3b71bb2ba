"""When charts are drawn: new data now and then and one chart at a time, what a key does at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from textual.timer import Timer
from textual.widget import Widget

from rlhf_tui.areas.charts.chart import Chart

REDRAW_SECONDS = 0.5
DRAWING_SHARE = 0.02  # of one core, at most, for drawing new data: the training has better use for the rest
TURN_SECONDS = 0.02  # from one chart to the next: long enough for a key to take its way through the app


class ChartDrawing:
    """Draws the `charts` of `pane` that have changed and are seen. before: called before each time that some are."""

    def __init__(self, pane: Widget, charts: Sequence[Chart], before: Callable[[], object]) -> None:
        self._pane, self._charts, self._before = pane, charts, before
        self._redraw_seconds = REDRAW_SECONDS
        self._timer: Timer | None = None
        self._rests_until = 0.0

    def begin(self) -> None:
        """Draw new data from now on; the pane is mounted."""
        self._timer = self._pane.set_interval(self._redraw_seconds, self._draw_new)

    @property
    def redraw_seconds(self) -> float:
        """Seconds between two drawings of new data, at the least; see also `DRAWING_SHARE`. What a key does is seen
        at once."""
        return self._redraw_seconds

    @redraw_seconds.setter
    def redraw_seconds(self, seconds: float) -> None:
        if not 0 < seconds < float("inf"):
            raise ValueError(f"{seconds} seconds between drawings: a number above 0 is needed")
        changed, self._redraw_seconds = seconds != self._redraw_seconds, seconds
        if changed and self._timer is not None:
            self._timer.stop()
            self._timer = self._pane.set_interval(seconds, self._draw_new)

    def draw_changed(self) -> None:
        """Draw the charts that have changed and are seen."""
        if due := self._due():
            self._before()
        for chart in due:
            chart.draw()

    def draw_in_turn(self) -> None:
        """As `draw_changed`, but one by one: a key that is pressed meanwhile waits for one of them at most."""
        if due := self._due():
            began = time.thread_time()
            self._before()
            due[0].draw()
            rest = (time.thread_time() - began) / DRAWING_SHARE
            self._rests_until = max(self._rests_until, time.monotonic()) + rest
            if len(due) > 1:
                self._pane.set_timer(TURN_SECONDS, self.draw_in_turn)

    def draw_all_soon(self) -> None:
        """All charts have changed: draw them once the pane is laid out."""
        for chart in self._charts:
            chart.dirty = True
        if self._pane.is_attached:
            self._pane.call_after_refresh(self.draw_changed)

    def _draw_new(self) -> None:
        if time.monotonic() >= self._rests_until:
            self.draw_in_turn()

    def _due(self) -> list[Chart]:
        if not self._pane.is_attached or not self._pane.screen.is_current or not self._pane.display:
            return []
        return [chart for chart in self._charts if chart.stale and chart.is_attached and chart.region]
