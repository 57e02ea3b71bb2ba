"""Which runs of the list a key means, and how it is said what became of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from textual.screen import Screen

from rlhf_engine.runs.run_list import RunSummary, parents
from rlhf_tui.areas.runs.run_reader import RunReader
from rlhf_tui.areas.runs.run_table import RunTable
from rlhf_tui.areas.sweep.groups import SweepGroup
from rlhf_tui.background import run_in_background
from rlhf_tui.engine.read_only import Say

T = TypeVar("T")


class RunSelection:
    """The run under the cursor of `screen`'s table, and those that are marked there."""

    def __init__(self, screen: Screen[None], reader: RunReader, table: RunTable, say: Say) -> None:
        self._screen, self._reader, self._table, self.say = screen, reader, table, say

    @property
    def sweep(self) -> SweepGroup | None:
        """The sweep whose line is under the cursor."""
        selected = self._table.selected
        return next((sweep for sweep in self._reader.sweeps if selected and sweep.path == selected.path), None)

    @property
    def here(self) -> RunSummary | None:
        """The run under the cursor."""
        return None if self.sweep else self._table.selected

    def one(self) -> RunSummary | None:
        """The run under the cursor; where a sweep is, it says that this takes a run."""
        if sweep := self.sweep:
            self.say(f"{sweep.name} is a sweep, and this takes one run: Enter shows those of the sweep")
        return self.here

    def point_at(self, path: Path) -> None:
        """Put the cursor there once it is listed."""
        self._table.point_at(path)

    def members(self, sweep: SweepGroup) -> list[RunSummary]:
        """The runs of a sweep that have begun, in the order of the list, as it would be without folds."""
        return [run for run in self._reader.runs if run.path in sweep.runs]

    @property
    def marked(self) -> list[RunSummary]:
        """The marked runs, in the order in which they were marked."""
        by_path = {run.path: run for run in self._reader.runs}
        return [by_path[path] for path in self._table.marked if path in by_path]

    def chosen(self) -> list[RunSummary]:
        """The marked runs, or else the one under the cursor, or all of the sweep there."""
        if self.sweep and not self.marked:
            return self.members(self.sweep)
        return self.marked or ([self.here] if self.here else [])

    def two(self) -> tuple[RunSummary, RunSummary] | None:
        """Two runs: both marked, or one and that under the cursor, or a fork and where it came from; else it says how.
        """
        marked, here = self.marked, self.here
        if len(marked) == 1 and here is not None and here.path != marked[0].path:
            return marked[0], here
        if len(marked) == 2:
            return marked[0], marked[1]
        parent = parents(self._reader.runs).get(here.name) if here and not marked else None
        if here and parent:
            return parent, here
        self.say("m marks runs: this takes two of them" if len(marked) < 3 else
                 f"{len(marked)} runs are marked: this takes two of them")
        return None

    def is_shown(self, run: RunSummary) -> bool:
        """Whether the workbench shows that run."""
        return run.path == self._table.shown_run

    def done(self, text: str, level: str = "info") -> None:
        """Say what was done, and read the list again."""
        self.say(text, level)
        self._reader.read()

    def in_background(self, job: Callable[[], T], then: Callable[[T], object]) -> None:
        """Do `job` in a thread, for it reads a disk, then `then` here; what is wrong is said, and the list read again.
        """
        run_in_background(self._screen, job, then, lambda why: self.done(why, "warning"), "runs")
