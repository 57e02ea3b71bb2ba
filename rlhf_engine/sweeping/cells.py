"""How the runs of a sweep stand, asked of their files: a run may go on by itself, renamed, or driven by somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlhf_engine.config.grid import Cell
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError, RlhfError
from rlhf_engine.runs import checkpoint_list
from rlhf_engine.runs.run_care import move_to_trash
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import CONFIG
from rlhf_engine.runs.run_list import list_runs
from rlhf_engine.runs.run_settings import differences

WAITING, DRIVEN, FINISHED, STOPPED, FAILED, DIVERGED = (
    "waiting", "training", "finished", "stopped", "failed", "diverged")
ENDED = (FINISHED, FAILED, DIVERGED)
"""States in which a sweep has nothing more to do with a run, for now."""
_OF_MACHINES = ("train.threads",)  # what may differ although it is the same run


@dataclass(frozen=True)
class CellStatus:
    """Where the run of a cell stands. state: "waiting" (there is none yet), "training" (a process drives it),
    "stopped" (it can go on from a checkpoint), "finished", "failed" or "diverged"; seconds: of training so far;
    peak_memory, peak_cuda: bytes."""

    cell: Cell
    state: str = WAITING
    run: RunDir | None = None
    step: int = 0
    total_steps: int = 0
    message: str = ""
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    peak_cuda: int = 0


def run_of(root: Path, cell: Cell, run_id: str = "") -> RunDir | None:
    """The run of a cell, also where a person has renamed it since; None where there is none."""
    run = RunDir(root / cell.run)
    there = os.path.lexists(run.path / CONFIG)
    if there and (not run_id or run.id == run_id):
        return run
    if run_id:
        return next((RunDir(found.path) for found in list_runs(root) if found.id == run_id), None)
    return None


def status_of(root: Path, cell: Cell, run_id: str = "", *, at_work: bool = False) -> CellStatus:
    """How the run of a cell stands. at_work: whether a process is known that trains it, though it may not have come so
    far as to tell of itself in the run."""
    found = _status_of(run_of(root, cell, run_id), cell)
    return replace(found, state=DRIVEN) if at_work and found.state != FINISHED else found


def _status_of(run: RunDir | None, cell: Cell) -> CellStatus:
    if run is None:
        return CellStatus(cell)
    status, line = run.status(), run.last_metrics()
    found = CellStatus(cell, STOPPED, run, seconds=line.seconds if line else 0.0, metrics=line.metrics if line else {})
    if status is None:
        state = DRIVEN if run.driver() else STOPPED
        return replace(found, state=state)
    state = (STOPPED if status.interrupted else status.state.value if status.state.ended else DRIVEN)
    return replace(found, state=state, step=status.step, total_steps=status.total_steps,
                 message="its process was killed" if status.interrupted else status.message,
                 peak_memory=status.peak_memory, peak_cuda=status.peak_cuda)


def require_same_settings(run: RunDir, config: RunConfig) -> None:
    """Raises ConfigError unless the run was started with just these settings."""
    try:
        found = [item for item in differences(run.config(), config) if item.path not in _OF_MACHINES]
    except RlhfError as error:
        raise ConfigError(f"{run.name} is there already, and cannot be read: {error}") from None
    if found:
        first, more = found[0], f", and {len(found) - 1} more settings differ" if len(found) > 1 else ""
        raise ConfigError(f"there is a run {run.name} already, which is none of this sweep: {first.path} is "
                          f"{first.left or 'not set'} there and {first.right or 'not set'} here{more}; rename it, or "
                          "give the sweep another --name")


def clear_unbegun(run: RunDir) -> bool:
    """Removes a run that was killed before its first checkpoint, from which nothing can go on; True if that was so."""
    if checkpoint_list.steps(run):
        return False
    if not run.discard_if_bare(copied=True):
        move_to_trash(run)
    return True


def seconds_left(statuses: Sequence[CellStatus], totals: Mapping[str, int], jobs: int) -> float:
    """Until all are done, in seconds, by the speed of the steps so far; NaN before the first step."""
    steps = sum(status.step for status in statuses if status.seconds)
    seconds = sum(status.seconds for status in statuses)
    if not steps:
        return float("nan")
    left = 0.0
    for status in statuses:
        if status.state in ENDED:
            continue
        rate = status.seconds / status.step if status.step else seconds / steps
        left += rate * max(0, (status.total_steps or totals.get(status.cell.run, 0)) - status.step)
    waiting = sum(status.state not in ENDED for status in statuses)
    return left / max(1, min(jobs, waiting))
