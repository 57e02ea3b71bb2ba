"""Other runs' curves over the charts, with the name and the values that those runs have now.

A run may be renamed, deleted, gone on with or opened while its curves lie over another's. So its folder is
looked at every few seconds, which is cheap: what was renamed gets its new name, what is gone or is shown itself is
taken out, and what has grown is read again. Folders are looked at beside the screen's thread, for their disk may hang.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual.screen import Screen

from rlhf_engine.files.disk import folder_identity
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import METRICS
from rlhf_tui.areas.charts.curves import Curves
from rlhf_tui.areas.charts.plot import OVERLAY_MARKERS
from rlhf_tui.background import run_in_background
from rlhf_tui.engine.metrics_file import read_history
from rlhf_tui.engine.metrics_history import MetricsHistory
from rlhf_tui.terminal.clean_text import clean_line

LOOK_SECONDS = 2.0
MOST_OVERLAYS = len(OVERLAY_MARKERS)
_SHARE = 20  # reading a run again takes at most this part of the time

Identity = tuple[int, int]
"""What tells a folder from every other, whatever it is called."""
Stamp = tuple[int, int, int]
"""What tells a file from what it was: which it is, its size, its time."""


@dataclass(frozen=True)
class _Found:
    """A run's folder at a look: where it lies (None: it is gone), which it is, how its metrics stand, and whether the
    charts show this very run."""

    path: Path | None
    identity: Identity | None
    stamp: Stamp | None
    shown: bool


@dataclass
class _Laid:
    """A run whose curves are laid over, or are being read for that, as it was found when they were read."""

    path: Path
    found: _Found | None = None
    reading: bool = False
    not_before: float = 0.0


@dataclass
class CurvesRead:
    """The metrics of a run, or why they could not be read."""

    label: str
    history: MetricsHistory | None
    responses_per_step: int | None = None
    took: float = 0.0
    why: str = ""
    found: _Found | None = None


class Overlays:
    """Belongs to `screen`'s thread. `shown` is where the run lies that the charts show; `say` takes a sentence."""

    def __init__(self, screen: Screen[None], curves: Curves, shown: Callable[[], Path | None],
                 say: Callable[[str, str], None]) -> None:
        self._screen, self._curves, self._shown, self._say = screen, curves, shown, say
        self._laid: dict[str, _Laid] = {}
        self._looking = False

    def lay(self, run: RunDir) -> None:
        """Read the run's curves and lay them over the charts, unless it is the run that they show."""
        label = clean_line(run.name)
        self._laid[label] = _Laid(run.path)
        self._read(label)

    def clear(self) -> None:
        """Take all out."""
        self._laid.clear()
        self._curves.clear_overlays()

    def take(self, event: CurvesRead) -> None:
        """Draw what was read, if it is still wanted."""
        laid = self._laid.get(event.label)
        if laid is None:
            return
        laid.reading, laid.not_before, laid.found = False, time.monotonic() + _SHARE * event.took, event.found
        if event.found is not None and event.found.shown:
            self._drop(event.label, f"{event.label} is the run that the charts show: it cannot be laid over itself")
            return
        if event.history is None or event.history.bounds is None:
            self._drop(event.label, event.why or f"{event.label} has no curves yet", "warning" if event.why else "info")
            return
        new = event.label not in self._curves.overlaid
        self._curves.overlay(event.label, event.history, responses_per_step=event.responses_per_step)
        self._laid = {label: laid for label, laid in self._laid.items()
                      if laid.reading or label in self._curves.overlaid}  # a seventh took the place of the first
        if new:
            others = self._curves.overlaid
            self._say(f"the charts show {', '.join(others)} too · O takes {'them' if others[1:] else 'it'} out", "info")

    def look(self) -> None:
        """Bring names and curves up to date. One look at a time: a disk that hangs is not waited for twice."""
        if self._looking or not self._laid:
            return
        self._looking = True
        known = {label: (laid.path, laid.found.identity) for label, laid in self._laid.items() if laid.found}
        run_in_background(self._screen, partial(_look, known, self._shown()), self._looked, self._not_looked,
                          "look at overlays")

    def _not_looked(self, why: str) -> None:
        self._looking = False

    def _looked(self, all_found: Mapping[str, _Found]) -> None:
        self._looking = False
        for label, found in all_found.items():
            laid = self._laid.get(label)
            if laid is None or laid.found is None:
                continue
            if found.shown:
                self._drop(label, f"{label} is shown itself now: its curves are laid over no more")
            elif found.path is None:
                self._drop(label, f"{label} is not there any more: its curves are laid over no more")
            elif found.path != laid.path and not laid.reading:
                self._rename(label, laid, found.path)
            elif not laid.reading and found.stamp != laid.found.stamp and time.monotonic() >= laid.not_before:
                self._read(label)

    def _rename(self, label: str, laid: _Laid, path: Path) -> None:
        name, laid.path = clean_line(path.name), path
        self._laid = {name if known == label else known: run for known, run in self._laid.items()}
        self._curves.rename_overlay(label, name)

    def _drop(self, label: str, why: str, level: str = "info") -> None:
        self._laid.pop(label, None)
        self._curves.remove_overlay(label)
        self._say(why, level)

    def _read(self, label: str) -> None:
        laid = self._laid[label]
        laid.reading = True
        # a group for each: the curves of several runs are read at a time
        run_in_background(self._screen, partial(_curves, label, RunDir(laid.path), self._shown()), self.take,
                          lambda why: self.take(CurvesRead(label, None, why=why)), f"overlay {label}")


def _curves(label: str, run: RunDir, shown: Path | None) -> CurvesRead:
    began = time.monotonic()
    found = _found(run.path, folder_identity(run.path), folder_identity(shown) if shown else None)
    if found.shown:
        return CurvesRead(label, None, found=found)
    history, responses = read_history(run), run.config().algorithm.learned_per_step
    return CurvesRead(label, history, responses, time.monotonic() - began, found=found)


def _look(known: Mapping[str, tuple[Path, Identity | None]], shown: Path | None) -> dict[str, _Found]:
    shown_identity = folder_identity(shown) if shown else None
    return {label: _found(path, identity, shown_identity) for label, (path, identity) in known.items()}


def _found(path: Path, identity: Identity | None, shown: Identity | None) -> _Found:
    """The folder that was `identity` when it lay at `path`, wherever beside it that is now."""
    place: Path | None = path
    if folder_identity(path) != identity:
        place = None
        with suppress(OSError):
            place = next((other for other in path.parent.iterdir() if folder_identity(other) == identity), None)
    stamp = None
    if place is not None:
        with suppress(OSError):
            there = (place / METRICS).lstat()
            stamp = there.st_ino, there.st_size, there.st_mtime_ns
    return _Found(place, identity, stamp, shown is not None and identity == shown)
