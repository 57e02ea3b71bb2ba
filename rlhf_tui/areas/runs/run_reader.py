"""Reads the runs of a folder in a thread, first what is quickly known of all of them, then what takes longer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual.message import Message
from textual.screen import Screen

from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import RunFigures, RunSummary, figures, list_runs
from rlhf_tui.areas.runs.run_rows import clean_run
from rlhf_tui.areas.sweep.groups import SweepGroup, read_groups
from rlhf_tui.background import in_background, sentence

_BATCH = 32
_SHARE = 50  # a look at all runs takes at most this part of the time


class RunReader:
    """`runs` and `figures` are what is known so far; `screen` is told by `Changed`. Texts are clean."""

    @dataclass
    class Changed(Message, namespace="run_reader"):
        """There is more to show."""

        turn: int

    @dataclass
    class Failed(Message, namespace="run_reader"):
        """The folder could not be read."""

        why: str

    def __init__(self, screen: Screen[None], root: Path) -> None:
        self._screen, self._root = screen, root
        self.runs: list[RunSummary] = []
        self.figures: dict[Path, RunFigures] = {}
        self.sweeps: list[SweepGroup] = []
        self.has_read = False
        self._as_of: dict[Path, float] = {}
        self._turn = 0
        self._began = self._took = 0.0

    @property
    def due(self) -> bool:
        """True when it is time for another look: the longer one takes, the seldomer."""
        return time.monotonic() - self._began > _SHARE * self._took

    def read(self) -> None:
        """Look again. A look that is still under way is given up: what it finds no longer counts."""
        self._turn += 1
        self._screen.run_worker(partial(self._read, self._turn),  # type: ignore[arg-type]
                                group="runs", exclusive=True, exit_on_error=False)

    async def _read(self, turn: int) -> None:
        left = threading.Event()
        try:
            await in_background(partial(self._look, turn, left))
        except Exception as error:
            self._screen.post_message(self.Failed(sentence(error)))
        finally:
            left.set()

    # --- in a thread ---

    def _look(self, turn: int, left: threading.Event) -> None:
        self._began = time.monotonic()
        runs = [clean_run(run) for run in list_runs(self._root)]
        sweeps = read_groups(self._root, runs)
        self._took = time.monotonic() - self._began
        if left.is_set() or turn != self._turn:
            return
        changed = (runs, sweeps) != (self.runs, self.sweeps) or not self.has_read
        self.runs, self.sweeps, self.has_read = runs, sweeps, True
        if changed:
            self._screen.post_message(self.Changed(turn))
        unknown = [run for run in runs if self._as_of.get(run.path) != run.changed]
        for start in range(0, len(unknown), _BATCH):
            batch = unknown[start : start + _BATCH]
            found = {run.path: figures(RunDir(run.path)) for run in batch}
            if left.is_set() or turn != self._turn:
                return
            self.figures = {**self.figures, **found}
            self._as_of |= {run.path: run.changed for run in batch}
            self._screen.post_message(self.Changed(turn))
