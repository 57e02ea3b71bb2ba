"""Where a run stands: what its process said last, in a small file that is replaced whole, and whether it drives it
still."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from rlhf_engine.events import RunState
from rlhf_engine.files.disk import replace_text, writing
from rlhf_engine.files.json_text import to_json
from rlhf_engine.files.reading import whole_number
from rlhf_engine.runs.run_driver import find_driver
from rlhf_engine.runs.run_lines import MOST_SENTENCE, read_object, text_in
from rlhf_engine.system.processes import ProcessId, this_process

_MOST_PID = 2**31 - 1


@dataclass(frozen=True)
class Status:
    """Where a run stood when its process last said so."""

    state: RunState
    step: int
    total_steps: int
    message: str
    process: ProcessId
    """What it called itself; only who holds the run's lock drives it."""
    interrupted: bool = False
    """True when no process drives the run although it had not ended."""
    peak_memory: int = 0
    """Bytes that a process of the run held at the most so far; 0 where nobody knows."""
    peak_cuda: int = 0
    """Bytes of a GPU's memory that tensors of the run filled at the most so far; 0 where there is none."""


def status_now(path: Path, lock_file: Path) -> Status | None:
    """What the file says; None where there is none yet, or that cannot be read. lock_file: of who drives the run."""
    said = _said(path)
    if said is None or said.state.ended or _is_driven(said, lock_file):
        return said
    said = _said(path)  # a process that is gone may have written its last word after our look
    return said if said is None or said.state.ended else replace(said, interrupted=True)


def is_missed(path: Path, lock_file: Path, *, begun: bool) -> bool:
    """Of a status that tells nothing: whether it should. There is something in its place, or nothing although the run
    has `begun` and nobody drives it."""
    return os.path.lexists(path) or (begun and find_driver(lock_file, prove=False) is None)


def write_status(
    path: Path, state: RunState, step: int, total_steps: int, message: str, peak_memory: int, peak_cuda: int
) -> None:
    """Says where the run stands, and that it is this process that says so. Raises RunError when the disk refuses."""
    process = this_process()
    status = {"state": state.value, "step": step, "total_steps": total_steps, "message": message,
              "pid": process.pid, "process_started": process.started, "peak_memory": peak_memory,
              "peak_cuda": peak_cuda}
    with writing(path):
        replace_text(path, to_json(status) + "\n")


def _is_driven(said: Status, lock_file: Path) -> bool:
    driver = find_driver(lock_file, prove=False)
    return driver is not None and (driver.certain or said.process.alive)


def _said(path: Path) -> Status | None:
    row = read_object(path)
    try:
        process = ProcessId(whole_number(row["pid"], 1, _MOST_PID), text_in(row, "process_started"))
        step, total = whole_number(row["step"]), whole_number(row["total_steps"])
        memory, cuda = (whole_number(row.get(name, 0)) for name in ("peak_memory", "peak_cuda"))
        return Status(RunState(row["state"]), step, total, text_in(row, "message", MOST_SENTENCE), process,
                      peak_memory=memory, peak_cuda=cuda)
    except (KeyError, TypeError, ValueError):
        return None
