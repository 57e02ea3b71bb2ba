"""A run that another process drives, told in the events that its trainer emits there: its files, read as they grow.

The order is the trainer's: live changes before a step, the step, its alarms, then its probe. Files are looked at in
the order status, metrics, samples, edits, probes, alarms: what was written before a line that is seen is then seen too,
and what was written after it waits for the next look. A resume or a roll-back puts new files in the place of old ones:
all are read anew, and a RolledBack takes back what no longer counts.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from itertools import takewhile
from pathlib import Path
from typing import Any

from rlhf_engine.disk import why
from rlhf_engine.errors import RunError
from rlhf_engine.events import Event, Probed, RolledBack, RunStarted, RunState, Sample, StateChanged, StepFinished
from rlhf_engine.processes import ProcessId
from rlhf_engine.run_care import TRASH
from rlhf_engine.run_dir import ALARMS, EDITS, METRICS, PROBES, SAMPLES, RunDir, Status
from rlhf_engine.run_lines import MetricsLine, alarm, as_object, edit, metrics_line, readable, sample
from rlhf_engine.run_settings import edited

POLL_SECONDS = 0.5
TRACED_ROWS = 400
"""Of the rows read at one look, the newest that keep their traces: those of a long run would fill the memory."""

_FILES = (METRICS, SAMPLES, EDITS, PROBES, ALARMS)  # in the order in which they are looked at
_EDIT, _STEP, _ALARM, _PROBE = range(4)  # in the order in which those of one step are told


class Follower:
    """Reads a run and writes nothing. Call `poll` about every POLL_SECONDS, from one thread, and `close` at the end."""

    def __init__(self, run_dir: RunDir) -> None:
        """Raises RunError or ConfigError when the run's configuration cannot be read."""
        self.run_dir = run_dir
        self.ended = False
        """True while no process drives the run, as far as the last look told: it ended, or its process is gone."""
        self._as_started = run_dir.config()
        self._folder = _identity(run_dir.path)
        self._tails: dict[str, _Tail] = {}
        self._series = (_Series(), _Series(_moment), _Series(), _Series(repr))  # by _EDIT, _STEP, _ALARM, _PROBE
        self._samples: dict[int, list[Sample]] = {}
        self._last = 0  # the last step that was told
        self._process: ProcessId | None = None
        self._announced = False
        self._state: tuple[RunState, str] | None = None
        self._begin_anew()

    def poll(self) -> list[Event]:
        """What happened since the last call; all of it at the first.

        Raises RunError if a file cannot be read, or the run is no longer there, and says where it is.
        """
        if _identity(self.run_dir.path) != self._folder:
            raise RunError(self._where_it_went())
        status = self._status()  # before the files: what it speaks of is in them
        try:
            replaced = any(tail.replaced for tail in self._tails.values())
            if replaced:
                self._begin_anew()
            self._read()
        except OSError as error:
            raise RunError(f"The run {self.run_dir.name} could not be read: {why(error)}.") from error
        self.ended = status is not None and (status.state.ended or status.interrupted)
        return [*(self._take_back() if replaced else ()), *self._start(status), *self._due(status),
                *(self._change(status) if status else ())]

    def close(self) -> None:
        """Let go of the files."""
        for tail in self._tails.values():
            tail.close()

    def _where_it_went(self) -> str:
        path = self.run_dir.path
        with suppress(OSError):
            if renamed := next((other for other in path.parent.iterdir() if _identity(other) == self._folder), None):
                return f"The run {path.name} was renamed elsewhere: it is {renamed.name} now."
            if any(_identity(thrown) == self._folder for thrown in (path.parent / TRASH).iterdir()):
                return f"The run {path.name} was deleted elsewhere: it is in the trash of {path.parent}."
        return f"The run {path.name} is gone: it was moved or deleted elsewhere."

    # --- reading ---

    def _status(self) -> Status | None:
        status = self.run_dir.status()
        # a process that is gone may have written its last word after our look
        return self.run_dir.status() if status and status.interrupted else status

    def _begin_anew(self) -> None:
        self.close()
        self._tails = {name: _Tail(self.run_dir.path / name) for name in _FILES}
        self._samples = {}
        for series in self._series:
            series.waiting.clear()

    def _read(self) -> None:
        rows = {name: self._tails[name].read() for name in _FILES}
        self._series[_STEP].waiting += readable(rows[METRICS], metrics_line)
        self._series[_EDIT].waiting += readable(rows[EDITS], edit)
        self._series[_ALARM].waiting += readable(rows[ALARMS], alarm)
        self._series[_PROBE].waiting += (Probed(found.step, found) for found in readable(rows[PROBES], sample))
        for response in readable(rows[SAMPLES], sample):
            self._samples.setdefault(response.step, []).append(response)

    def _take_back(self) -> list[Event]:
        """After reading anew: what was told and still stands is not told again; what does not stand is taken back."""
        before = self._last
        for series in self._series:
            series.reconcile()
        told = self._series[_STEP].told
        self._last = told[-1][0] if told else 0
        self._samples = {step: found for step, found in self._samples.items() if step > self._last}
        if self._last == before:
            return []
        return [RolledBack(self._last, f"back at step {self._last}: what came after it no longer counts")]

    # --- telling ---

    def _start(self, status: Status | None) -> list[Event]:
        """The start of the run; and its going on, whenever another process has taken it up."""
        before, self._process = self._process, status.process if status else self._process
        if self._announced and before in (None, self._process):
            return []
        self._announced = True
        config = edited(self._as_started, self._series[_EDIT].told)
        return [RunStarted(self.run_dir.name, str(self.run_dir.path), config, self._last)]

    def _due(self, status: Status | None) -> list[Event]:
        """What is complete, in order. A step is, once the status of it or the line of a later one was written."""
        total = status.total_steps if status else self._as_started.train.steps
        newest = max([self._last, *(line.step for line in self._series[_STEP].waiting)])
        events: list[Event] = []
        while heads := [(series.waiting[0].step, kind) for kind, series in enumerate(self._series) if series.waiting]:
            step, kind = min(heads)
            complete = {
                _EDIT: step <= newest + 1,
                _STEP: step < newest or (status is not None and status.step == step),
                _ALARM: step <= newest,
                _PROBE: step <= newest,
            }[kind]
            if not (complete or self.ended):
                break
            item = self._series[kind].tell()
            events.append(self._finished(item, total) if kind == _STEP else item)
        return events

    def _finished(self, line: MetricsLine, total: int) -> StepFinished:
        self._last = line.step
        return StepFinished(line.step, total, line.metrics, tuple(self._samples.pop(line.step, ())), line.seconds)

    def _change(self, status: Status) -> list[Event]:
        """The state, if it is another one than the last that was told, or tells something else."""
        state, message = status.state, status.message
        if status.interrupted:
            state = RunState.STOPPED
            message = (f"interrupted after step {status.step}: its process (pid {status.process.pid}) is gone; "
                       "a resume goes on from the last checkpoint")
        if self._state == (state, message):
            return []
        self._state = (state, message)
        return [StateChanged(state, status.step, status.total_steps, message)]


@dataclass
class _Series:
    """The items of one file: those told, by what tells them apart, and those that wait."""

    key: Callable[[Any], Any] = lambda item: item
    told: list[Any] = field(default_factory=list)
    waiting: deque[Any] = field(default_factory=deque)

    def tell(self) -> Any:
        item = self.waiting.popleft()
        self.told.append(self.key(item))
        return item

    def reconcile(self) -> None:
        """Once all items wait again: those that were told, and are the same still, no longer do."""
        pairs = zip(self.told, self.waiting, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == self.key(pair[1]), pairs))
        del self.told[same:]
        for _ in range(same):
            self.waiting.popleft()


class _Tail:
    """The rows that were added to a file since the last look. A last line without its end waits for it.

    The file is kept open, so that none that replaces it can be taken for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._torn = b""

    @property
    def replaced(self) -> bool:
        """True when the path leads to another file than the one read so far, or that one became shorter."""
        if self._file is None:
            return False
        held = os.fstat(self._file.fileno())
        with suppress(FileNotFoundError):
            there = self._path.stat()
            return (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino) or there.st_size < self._file.tell()
        return False

    def read(self) -> list[dict[str, Any]]:
        """Raises OSError."""
        if self._file is None:
            try:
                self._file = FileIO(self._path)
            except FileNotFoundError:
                return []
        *lines, self._torn = (self._torn + self._file.readall()).split(b"\n")
        rows = []
        for left, line in zip(range(len(lines), 0, -1), lines, strict=True):
            row = as_object(line)
            if row is not None:
                if left > TRACED_ROWS:
                    row.pop("trace", None)
                rows.append(row)
        return rows

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from every other, whatever it is called; None where there is none."""
    try:
        there = folder.lstat()
    except OSError:
        return None
    return there.st_dev, there.st_ino


def _moment(line: MetricsLine) -> tuple[int, float]:
    """Tells a step that was taken again, after a roll-back or a resume, from the first time."""
    return line.step, line.seconds
