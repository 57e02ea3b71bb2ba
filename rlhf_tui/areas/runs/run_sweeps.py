"""Sweeps in the list of runs: folded and unfolded, begun, gone on with, stopped and forgotten."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from textual.screen import Screen

from rlhf_engine.runs.sweep_dir import SWEEPS, SweepDir
from rlhf_engine.sweeping.apart import begin_apart, stop_apart
from rlhf_tui.areas.runs.run_reader import RunReader
from rlhf_tui.areas.runs.run_rows import FOLDED, UNFOLDED
from rlhf_tui.areas.runs.run_selection import RunSelection
from rlhf_tui.areas.sweep.groups import SweepGroup
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.dialogs import SureScreen


class RunSweeps:
    """Works on the sweep under the cursor of `screen`'s list; `show` draws that anew. A sweep is folded unless it is
    driven, or somebody has unfolded it."""

    def __init__(
        self, screen: Screen[None], reader: RunReader, selection: RunSelection, edited: EditedConfig,
        questions: CodeQuestions, root: Path, show: Callable[[], object],
    ) -> None:
        self._screen, self._reader, self._selection, self._show = screen, reader, selection, show
        self._edited, self._questions, self._root = edited, questions, root
        self._turned: dict[Path, bool] = {}
        self._begun: list[subprocess.Popen[bytes]] = []  # held until they end: they are our children

    @property
    def folded(self) -> Collection[Path]:
        """The sweeps whose runs are not listed."""
        return {sweep.path for sweep in self._reader.sweeps if self._turned.get(sweep.path, not sweep.driven)}

    @property
    def marks(self) -> dict[Path, str]:
        """What stands before the name of each."""
        folded = self.folded
        return {sweep.path: FOLDED if sweep.path in folded else UNFOLDED for sweep in self._reader.sweeps}

    @property
    def short(self) -> dict[Path, str]:
        """What the names of runs are cut to below their sweep: without its own, where they begin with that."""
        return {path: clean_line(path.name).removeprefix(f"{sweep.name}-")
                for sweep in self._reader.sweeps for path in sweep.runs}

    def turn(self, sweep: SweepGroup) -> None:
        """Fold it, or unfold it."""
        self._turned[sweep.path] = sweep.path not in self.folded
        self._show()

    def new(self) -> None:
        """Ask what is to be run."""
        from rlhf_tui.areas.sweep.screen import SweepScreen

        self._screen.app.push_screen(SweepScreen(self._edited, self._questions, self._root), self._begun_one)

    def _begun_one(self, name: str | None) -> None:
        if name is not None:
            self._selection.point_at(self._root / SWEEPS / name)
            self._selection.done(f"the sweep {name} trains in a process of its own, and goes on when the workbench is "
                                 "left")

    def go_on_or_stop(self, sweep: SweepGroup) -> None:
        """Stop it where it is driven, after a question; else go on with it."""
        folder = SweepDir(sweep.path)
        if sweep.driven:
            self._screen.app.push_screen(
                SureScreen("Stop the sweep", f"Stop {sweep.name}? Its runs save after their step; t goes on with it.",
                           partial(stop_apart, folder)),
                lambda yes: self._selection.done(f"{sweep.name} stops: its runs save first") if yes else None)
            return

        def begun(process: subprocess.Popen[bytes]) -> None:
            self._begun = [one for one in self._begun if one.poll() is None] + [process]
            log = folder.driven.log_of()
            self._selection.done(f"{sweep.name} goes on in a process of its own; {log} is what it says")

        self._selection.in_background(partial(begin_apart, folder), begun)

    def forget(self, sweep: SweepGroup) -> None:
        """Take it out of the list; its runs stay."""
        self._screen.app.push_screen(
            SureScreen("Forget the sweep", f"Forget {sweep.name}, and what was measured for it? Its {len(sweep.runs)} "
                       "runs stay, each by itself.", SweepDir(sweep.path).remove),
            lambda yes: self._selection.done(f"{sweep.name} is forgotten; its runs stay") if yes else None)
