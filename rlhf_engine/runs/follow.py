"""A run that another process drives, told in the events that its trainer emits there: its files, read as they grow.

The order is the trainer's: live changes before a step, the step, its alarms, then its probe. Files are looked at in
the order status, metrics, samples, edits, probes, alarms: what was written before a line that is seen is then seen too,
and what was written after it waits for the next look. A resume or a roll-back puts new files in the place of old ones:
all are read anew, and a RolledBack takes back what no longer counts.

Nothing is read whole. Who shows a run gathers the metrics of its past by columns, and gets the newest few hundred steps
as events, with the newest samples and probes; who prints one gets all steps, a portion at each look, without samples.
Where more than MOST_WHOLE of another file waits, which no run of ours writes, only the newest of it is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from rlhf_engine.errors import RunError
from rlhf_engine.events import (
    Event,
    Notice,
    PastRead,
    Probed,
    RolledBack,
    RunStarted,
    RunState,
    Sample,
    StateChanged,
    StepFinished,
)
from rlhf_engine.files.disk import folder_identity, os_error_reason
from rlhf_engine.files.reading import MOST_WHOLE, too_large
from rlhf_engine.runs.file_tail import FileTail
from rlhf_engine.runs.run_care import TRASH
from rlhf_engine.runs.run_columns import Columns
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import ALARMS, EDITS, METRICS, PROBES, SAMPLES, STATUS
from rlhf_engine.runs.run_lines import MetricsLine, alarm, edit, metrics_line, readable, sample
from rlhf_engine.runs.run_settings import edited
from rlhf_engine.runs.run_status import Status
from rlhf_engine.system.processes import ProcessId

POLL_SECONDS = 0.5
LOOK_BYTES = 1024 * 1024
"""Of metrics.jsonl, read at one look: some hundreds of steps."""
NEWEST_BYTES = {METRICS: 256 * 1024, SAMPLES: 2 * 1024 * 1024, PROBES: 1024 * 1024, ALARMS: 1024 * 1024}
"""Of a long run, told by events: what is further back in these files is told at once, or not at all."""
MOST_TOLD = 2000
"""Edits, alarms and probes that are told at one look, each: the newest. A person takes in no more."""

_FILES = (METRICS, SAMPLES, EDITS, PROBES, ALARMS)  # in the order in which they are looked at
_EDIT, _STEP, _ALARM, _PROBE = range(4)  # in the order in which those of one step are told


class Gatherer(Protocol):
    """Takes the metrics of a long run's past, portion by portion."""

    def extend(self, columns: Columns, /) -> None:
        """The next steps."""


class Follower:
    """Reads a run and writes nothing. Call `poll` about every POLL_SECONDS, from one thread, and `close` at the end."""

    def __init__(
        self, run_dir: RunDir, *, gather: Callable[[], Gatherer] | None = None, samples: bool = True
    ) -> None:
        """Raises RunError or ConfigError when the run's configuration cannot be read.

        gather: makes what takes the metrics of a long past, of which one PastRead tells; None: each step is told by an
        event of its own. samples: whether steps are told with their responses.
        """
        self.run_dir = run_dir
        self.ended = False
        """True while no process drives the run, as far as the last look told: it ended, or its process is gone."""
        self.behind = False
        """True when the last look left something unread: the next need not wait."""
        self._gather, self._with_samples = gather, samples
        self._given_up = False
        self._past_step = self._past_end = 0  # of what was gathered: the last step, and where it ends in the file
        self._as_started = run_dir.config()
        self._folder = folder_identity(run_dir.path)
        self._tails: dict[str, FileTail] = {}
        self._series = (_Series(), _Series(_moment), _Series(), _Series(repr))  # by _EDIT, _STEP, _ALARM, _PROBE
        self._samples: dict[int, list[Sample]] = {}
        self._last = 0  # the last step that was told
        self._process: ProcessId | None = None
        self._announced = False
        self._state: tuple[RunState, str] | None = None
        self._said_damaged = False
        self._begin_anew()

    def poll(self) -> list[Event]:
        """What happened since the last call; all of it at the first (see `behind`).

        Raises RunError if a file cannot be read, or the run is no longer there, and says where it is.
        """
        if folder_identity(self.run_dir.path) != self._folder:
            raise RunError(self._where_it_went())
        status = self.run_dir.status()  # before the files: what it speaks of is in them
        # who drives the run, if anybody, cannot be told: nothing is to be waited for
        damaged = status is None and self.run_dir.status_damaged
        try:
            replaced = any(tail.replaced for tail in self._tails.values())
            if replaced:
                self._begin_anew()
            past = self._read(status)
        except OSError as error:
            named = f"{Path(error.filename).name}: " if isinstance(error.filename, str) else ""
            reason = os_error_reason(error, "read")
            raise RunError(f"The run {self.run_dir.name} could not be read: {named}{reason}.") from error
        if self._given_up:
            return []
        self.behind = self._tails[METRICS].behind
        at_rest = damaged if status is None else status.state.ended or status.interrupted
        self.ended = at_rest and not self.behind
        return [*(self._take_back() if replaced and not past else ()), *self._start(status, past), *past,
                *self._due(status), *(self._change(status) if status and not self.behind else ()),
                *(self._say_damaged() if damaged and not self.behind else ())]

    def give_up(self) -> None:
        """From another thread: a look that is under way ends soon, and tells nothing."""
        self._given_up = True

    def close(self) -> None:
        """Let go of the files."""
        for tail in self._tails.values():
            tail.close()

    def _where_it_went(self) -> str:
        path = self.run_dir.path
        with suppress(OSError):
            there = ((folder_identity(other), other) for other in path.parent.iterdir())
            if renamed := next((other for identity, other in there if identity == self._folder), None):
                return f"The run {path.name} was renamed elsewhere: it is {renamed.name} now."
            if any(folder_identity(thrown) == self._folder for thrown in (path.parent / TRASH).iterdir()):
                return f"The run {path.name} was deleted elsewhere: it is in the trash of {path.parent}."
        return f"The run {path.name} is gone: it was moved or deleted elsewhere."

    # --- reading ---

    def _begin_anew(self) -> None:
        before, self._tails = self._tails, {name: FileTail(self.run_dir.path / name) for name in _FILES}
        self._samples = {}
        for series in self._series:
            series.waiting.clear()
        if self._past_end and not self._tails[METRICS].begins_like(before[METRICS], self._past_end):
            # gone back to before what was gathered: all is told as if it had been opened just now
            self._past_step = self._past_end = self._last = 0
            self._announced = False
            for series in self._series:
                series.told.clear()
        for tail in before.values():
            tail.close()

    def _read(self, status: Status | None) -> list[Event]:
        """Read on; the past of a long run, if it was gathered just now."""
        past = self._gather_past() if self._gather and not self._tails[METRICS].place else None
        self._read_newest()
        if past is None or not self._past_end:
            return []
        found = [self._samples.pop(step) for step in sorted(self._samples) if step <= self._past_step]
        total = status.total_steps if status else self._as_started.train.steps
        return [PastRead(self._past_step, total, tuple(sample for step in found for sample in step), past)]

    def _gather_past(self) -> Gatherer | None:
        """Hand on the metrics of all steps but the newest, if there are many; what comes is read from there."""
        assert self._gather is not None
        metrics = self._tails[METRICS]
        if metrics.size <= 2 * NEWEST_BYTES[METRICS]:
            return None
        past = self._gather()
        for columns in metrics.columns_but_last(NEWEST_BYTES[METRICS]):
            if self._given_up:
                break
            past.extend(columns)
            self._past_step = self._last = columns.steps[-1] if len(columns) else self._past_step
        self._past_end = metrics.place
        return past

    def _read_newest(self) -> None:
        for name in (SAMPLES, PROBES, ALARMS) if self._past_end else ():
            if not self._tails[name].begun:
                self._tails[name].skip_to_last(NEWEST_BYTES[name])
        names = [name for name in _FILES if name != SAMPLES or self._with_samples]
        for name in names:
            if name != METRICS and self._tails[name].waiting > MOST_WHOLE:
                if name == EDITS:  # of which none may be left out
                    raise too_large(self.run_dir.path / name, MOST_WHOLE)
                self._tails[name].skip_to_last(NEWEST_BYTES[name])
        rows = {name: self._tails[name].read(LOOK_BYTES if name == METRICS else MOST_WHOLE) for name in names}
        told = -MOST_TOLD if self._gather else None
        self._series[_STEP].waiting += readable(rows[METRICS], metrics_line)
        self._series[_EDIT].waiting += readable(rows[EDITS], edit)[told:]
        self._series[_ALARM].waiting += readable(rows[ALARMS], alarm)[told:]
        probes = readable(rows[PROBES], sample)[told:]
        self._series[_PROBE].waiting += (Probed(found.step, found) for found in probes)
        for response in readable(rows.get(SAMPLES, []), sample):
            self._samples.setdefault(response.step, []).append(response)

    def _take_back(self) -> list[Event]:
        """After reading anew: what was told and still stands is not told again; what does not stand is taken back."""
        before = self._last
        for series in self._series:
            series.reconcile()
        told = self._series[_STEP].told
        self._last = told[-1][0] if told else self._past_step
        self._samples = {step: found for step, found in self._samples.items() if step > self._last}
        if self._last == before:
            return []
        return [RolledBack(self._last, f"back at step {self._last}: what came after it no longer counts")]

    # --- telling ---

    def _start(self, status: Status | None, past: list[Event]) -> list[Event]:
        """The start of the run; and its going on, whenever another process has taken it up."""
        before, self._process = self._process, status.process if status else self._process
        if self._announced and before in (None, self._process):
            return []
        self._announced = True
        config = edited(self._as_started, self._series[_EDIT].told)
        return [RunStarted(self.run_dir.name, str(self.run_dir.path), config, 0 if past else self._last)]

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

    def _say_damaged(self) -> list[Event]:
        said, self._said_damaged = self._said_damaged, True
        told = f"the {STATUS} of the run is gone, or tells nothing: whether it goes on is not known"
        return [] if said else [Notice(told, "warning")]

    def _change(self, status: Status) -> list[Event]:
        """The state, if it is another one than the last that was told, or tells something else."""
        state, message = status.state, status.message
        if status.interrupted:
            state = RunState.STOPPED
            message = (f"interrupted after step {status.step}: the process that drove it is gone; "
                       "a resume continues from the last checkpoint")
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


def _moment(line: MetricsLine) -> tuple[int, float]:
    """Tells a step that was taken again, after a roll-back or a resume, from the first time."""
    return line.step, line.seconds
