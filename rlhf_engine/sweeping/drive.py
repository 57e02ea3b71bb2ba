"""The runs of a sweep, some at once, each a process of `train` or `resume`: begun, watched by their files, stopped.

Nothing flows through pipes: a child writes its run and a log, and what it does is read from there. So a sweep may be
killed at any moment; its children go on as the ordinary runs they are, and whoever drives the sweep next waits for
them.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rlhf_engine.config.grid import Cell
from rlhf_engine.runs.driven_folder import OwnCommand
from rlhf_engine.runs.sweep_dir import Plan, SweepDir
from rlhf_engine.sweeping.cells import (
    DIVERGED,
    DRIVEN,
    ENDED,
    FAILED,
    FINISHED,
    STOPPED,
    CellStatus,
    clear_unbegun,
    status_of,
)
from rlhf_engine.system.cores import available_cores

_POLL_SECONDS = 0.2


@dataclass
class Drive:
    """Drives a sweep whose lock is held. totals: by run, its steps. told: takes each change of how a run stands.

    `stop` ends it: no further run begins, and those under way save and leave.
    """

    sweep: SweepDir
    plan: Plan
    totals: Mapping[str, int]
    told: Callable[[CellStatus], None]
    statuses: dict[str, CellStatus] = field(default_factory=dict)
    _children: dict[str, OwnCommand] = field(default_factory=dict)
    _tried: set[str] = field(default_factory=set)
    _stopping: bool = False

    def run(self) -> list[CellStatus]:
        """Returns when nothing is left to do, or after `stop`. Raises RunError where the disk refuses."""
        try:
            while True:
                for cell in self.plan.cells:
                    self._look(cell)
                self._begin()
                if not self._at_work():
                    return [self.statuses[cell.run] for cell in self.plan.cells]
                time.sleep(_POLL_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ask every process that was begun here to save and leave; called again, to leave at once. May be called in a
        signal handler."""
        self._stopping = True
        for child in list(self._children.values()):
            if child.process.returncode is None:
                child.process.send_signal(signal.SIGTERM)

    @property
    def running(self) -> int:
        """Processes at work, also those of others."""
        return sum(status.state == DRIVEN for status in self.statuses.values())

    # --- watching ---

    def _at_work(self) -> bool:
        if self._stopping:
            return bool(self._children)
        return bool(self._children) or any(
            status.state == DRIVEN or self._is_due(status) for status in self.statuses.values())

    def _is_due(self, status: CellStatus) -> bool:
        return status.cell.run not in self._tried and status.state not in (FINISHED, DIVERGED, DRIVEN)

    def _look(self, cell: Cell) -> None:
        before, again = self.statuses.get(cell.run), cell.run in self._tried
        child = self._children.get(cell.run)
        if before and child is None and before.state != DRIVEN and not (again and before.state == STOPPED):
            return
        ended = child.process.poll() if child else None
        now = self._status(cell)
        if child and ended is not None:
            del self._children[cell.run]
            now = self._after(child, ended, now)
        elif child:
            now = replace(now, state=DRIVEN)
        elif before and before.state == STOPPED == now.state:
            now = replace(now, message=before.message)  # as it was told when it ended
        if now.run and (found := now.run.id) and self.plan.ids.get(cell.run) != found:
            self.plan = replace(self.plan, ids={**self.plan.ids, cell.run: found})
            self.sweep.write_plan(self.plan)
        self.statuses[cell.run] = now
        if before is None or (before.state, before.step) != (now.state, now.step):
            self.told(now)

    def _status(self, cell: Cell) -> CellStatus:
        return status_of(self.sweep.root, cell, self.plan.ids.get(cell.run, ""),
                         at_work=self.sweep.driven.running(cell.run))

    def _after(self, child: OwnCommand, code: int, now: CellStatus) -> CellStatus:
        """How a run stands whose process has ended."""
        if now.state in ENDED:
            return now
        if now.state == DRIVEN:
            if now.run and now.run.driver():
                return now  # somebody has taken it over
            now = replace(now, state=STOPPED)
        if self._stopping:
            return replace(now, message=now.message or "stopped")
        if code < 0:
            return replace(now, state=FAILED, message=f"its process was killed ({_signal_name(-code)})")
        if now.state == STOPPED and now.run and code in (128 + signal.SIGTERM, 128 + signal.SIGINT):
            return replace(now, message="somebody stopped it")
        return replace(now, state=FAILED, message=child.last_error() or f"its process ended with exit code {code}")

    # --- beginning ---

    def _begin(self) -> None:
        for cell in self.plan.cells:
            if self._stopping or self.running >= self.plan.jobs:
                return
            if not self._is_due(self.statuses[cell.run]):
                continue
            # others may have begun it since we looked
            self.statuses[cell.run] = self._status(cell)
            if self._is_due(self.statuses[cell.run]):
                self._tried.add(cell.run)
                self._start(self.statuses[cell.run])

    def _start(self, status: CellStatus) -> None:
        cell, run = status.cell, status.run
        if run is not None and clear_unbegun(run):
            run = None
        if run is None:
            # of one that is gone: a new run has an id of its own
            known = {name: found for name, found in self.plan.ids.items() if name != cell.run}
            self.plan = replace(self.plan, ids=known)
            threads = [f"train.threads={self.plan.threads}"] if self.plan.threads else []
            sets = [word for text in [*threads, *cell.overrides(self.plan.grid.fixed)] for word in ("--set", text)]
            words = ["train", self.plan.preset, *sets, "--name", cell.run, "--runs-dir", str(self.sweep.root)]
        else:
            words = ["resume", str(run.path.resolve())]
        self._children[cell.run] = child = self.sweep.driven.start(words, cell.run)
        self.statuses[cell.run] = replace(status, state=DRIVEN, message="", total_steps=self.totals[cell.run])
        if self._stopping:  # asked meanwhile
            child.process.send_signal(signal.SIGTERM)
        self.told(self.statuses[cell.run])


def threads_for(jobs: int) -> int:
    """CPU threads of each of `jobs` processes at once; 0, as many as each finds worth it, for one."""
    return max(1, available_cores() // jobs) if jobs > 1 else 0


def summary(statuses: Sequence[CellStatus]) -> str:
    """How many stand how, in words: "5 of 8 finished, 1 failed"."""
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status.state] = counts.get(status.state, 0) + 1
    others = ", ".join(f"{count} {state}" for state, count in counts.items() if state != FINISHED)
    return f"{counts.get(FINISHED, 0)} of {len(statuses)} runs finished" + (f", {others}" if others else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
