"""Other runs' curves over the charts, with the name and the values that those runs have now.

A run may be renamed, deleted, gone on with or opened while its curves lie over another's. So its folder is
looked at every few seconds, which is cheap: what was renamed gets its new name, what is gone or is shown itself is
taken out, and what has grown is read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual.screen import Screen

from rlhf_engine.disk import folder_identity
from rlhf_engine.run_dir import METRICS, RunDir
from rlhf_tui.apart import do_apart
from rlhf_tui.clean_text import clean_line
from rlhf_tui.past import read_history
from rlhf_tui.widgets.charts import Charts
from rlhf_tui.widgets.history import History

LOOK_SECONDS = 2.0
_SHARE = 20  # reading a run again takes at most this part of the time

Stamp = tuple[int, int, int]
"""What tells a file from what it was: which it is, its size, its time."""


@dataclass
class _Laid:
    """A run whose curves are laid over, or are being read for that."""

    path: Path
    identity: tuple[int, int] | None
    stamp: Stamp | None = None
    reading: bool = False
    not_before: float = 0.0


@dataclass
class CurvesRead:
    """The metrics of a run, or why they could not be read."""

    label: str
    history: History | None
    responses_per_step: int | None = None
    took: float = 0.0
    why: str = ""


class Overlays:
    """Belongs to `screen`'s thread. `shown` is where the run lies that the charts show; `say` takes a sentence."""

    def __init__(self, screen: Screen[None], charts: Charts, shown: Callable[[], Path | None],
                 say: Callable[[str, str], None]) -> None:
        self._screen, self._charts, self._shown, self._say = screen, charts, shown, say
        self._laid: dict[str, _Laid] = {}

    def lay(self, run: RunDir) -> None:
        """Read the run's curves and lay them over the charts, unless it is the run that they show."""
        if self._is_shown(folder_identity(run.path)):
            self._say(f"{clean_line(run.name)} is the run that the charts show: it cannot be laid over itself", "info")
            return
        label = clean_line(run.name)
        self._laid[label] = _Laid(run.path, folder_identity(run.path))
        self._read(label)

    def clear(self) -> None:
        """Take all out."""
        self._laid.clear()
        self._charts.clear_overlays()

    def take(self, event: CurvesRead) -> None:
        """Draw what was read, if it is still wanted."""
        laid = self._laid.get(event.label)
        if laid is None:
            return
        laid.reading, laid.not_before = False, time.monotonic() + _SHARE * event.took
        if event.history is None or event.history.bounds is None:
            self._drop(event.label, event.why or f"{event.label} has no curves yet", "warning" if event.why else "info")
            return
        new = event.label not in self._charts.scene.others
        self._charts.overlay(event.label, event.history, responses_per_step=event.responses_per_step)
        self._laid = {label: laid for label, laid in self._laid.items()
                      if laid.reading or label in self._charts.scene.others}  # a seventh took the place of the first
        if new:
            others = list(self._charts.scene.others)
            self._say(f"the charts show {', '.join(others)} too · O takes {'them' if others[1:] else 'it'} out", "info")

    def look(self) -> None:
        """Bring names and curves up to date."""
        for label, laid in list(self._laid.items()):
            if self._is_shown(laid.identity):
                self._drop(label, f"{label} is shown itself now: its curves are laid over no more")
            elif folder_identity(laid.path) != laid.identity:
                self._follow(label, laid)
            elif not laid.reading and _stamp(laid.path) != laid.stamp and time.monotonic() >= laid.not_before:
                self._read(label)

    def _is_shown(self, identity: tuple[int, int] | None) -> bool:
        shown = self._shown()
        return shown is not None and identity is not None and folder_identity(shown) == identity

    def _follow(self, label: str, laid: _Laid) -> None:
        try:
            there = ((folder_identity(other), other) for other in laid.path.parent.iterdir())
            found = next((other for identity, other in there if identity == laid.identity), None)
        except OSError:
            found = None
        if found is None:
            self._drop(label, f"{label} is not there any more: its curves are laid over no more")
            return
        name = clean_line(found.name)
        laid.path = found
        self._laid = {name if known == label else known: run for known, run in self._laid.items()}
        self._charts.rename_overlay(label, name)

    def _drop(self, label: str, why: str, level: str = "info") -> None:
        self._laid.pop(label, None)
        self._charts.remove_overlay(label)
        self._say(why, level)

    def _read(self, label: str) -> None:
        laid = self._laid[label]
        laid.reading, laid.stamp = True, _stamp(laid.path)
        # a group for each: the curves of several runs are read at a time
        do_apart(self._screen, partial(_curves, label, RunDir(laid.path)), self.take,
                 lambda why: self.take(CurvesRead(label, None, why=why)), f"overlay {label}")


def _curves(label: str, run: RunDir) -> CurvesRead:
    began = time.monotonic()
    history, responses = read_history(run), run.config().ppo.responses_per_step
    return CurvesRead(label, history, responses, time.monotonic() - began)


def _stamp(path: Path) -> Stamp | None:
    try:
        there = (path / METRICS).stat()
    except OSError:
        return None
    return there.st_ino, there.st_size, there.st_mtime_ns
