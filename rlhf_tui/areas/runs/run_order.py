"""The order of the list of runs: by what it always has, or by any metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App

from rlhf_engine.metrics import describe
from rlhf_tui.areas.runs.run_rows import SORTS, Figures
from rlhf_tui.engine.metrics_history import MetricsHistory
from rlhf_tui.engine.read_only import Say
from rlhf_tui.terminal.clean_text import clean_line


class RunOrder:
    """by: one of SORTS, or the name of a metric. changed: called when it is another one; say: takes a sentence."""

    def __init__(self, changed: Callable[[], object], say: Say) -> None:
        self._changed, self._say = changed, say
        self.by = SORTS[0]

    @property
    def metric(self) -> str | None:
        """The metric that the list is sorted by, if it is by one."""
        return None if self.by in SORTS else self.by

    @property
    def title(self) -> str:
        """What it is called."""
        return clean_line(describe(self.by).title) if self.metric else self.by

    @property
    def told(self) -> str:
        """The order in a sentence."""
        if self.metric:
            first = "lowest" if describe(self.metric).better == "down" else "highest"
            return f"by {self.title}, the {first} first; s goes back to the other orders"
        tree = "forks below the run they came from" if self.by in ("last changed", "name") else "forks by themselves"
        return f"by {self.by}, {tree}"

    def turn(self) -> None:
        """The next of the orders that the list always has."""
        self.by = SORTS[(SORTS.index(self.by) + 1) % len(SORTS)] if self.by in SORTS else SORTS[0]
        self._changed()

    def ask_metric(self, app: App[Any], figures: Figures) -> None:
        """Choose one of the metrics that runs have in their last step."""
        from rlhf_tui.areas.charts.metric import MetricScreen

        names = {name for found in figures.values() for name in found.metrics}
        if not names:
            self._say("no run has a metric yet")
            return
        app.push_screen(MetricScreen(MetricsHistory(), [describe(name) for name in sorted(names)], [self.by], 0,
                                     title="Sort the runs by"), self._take)

    def _take(self, metric: str | None) -> None:
        if metric is not None:
            self.by = metric
            self._changed()
