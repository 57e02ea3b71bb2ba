"""What the system tells of processes, on Linux and macOS alike, by way of psutil.

A pid is used again after a crash or a reboot, so it comes with a start time. psutil is imported by what needs it: it
takes longer than the first frame may wait.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class ProcessId:
    """A process, as a file tells of it: that is no proof of anything. started: seconds since the epoch, in digits."""

    pid: int
    started: str = ""

    @property
    def alive(self) -> bool:
        """True while this very process exists on this machine, not merely one with its number."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            # the clock may have been set since, by which the start of all processes moves
            return abs(process.create_time() - float(self.started)) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError, OverflowError):
            return False


def this_process() -> ProcessId:
    """The calling process."""
    return ProcessId(os.getpid(), _started(os.getpid()))


def age_of_this_process() -> float:
    """Seconds since it began, to a hundredth; 0 where the system does not tell."""
    import psutil

    try:
        return max(0.0, time.time() - float(psutil.Process().create_time()))
    except psutil.Error:
        return 0.0


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where the system does not tell."""
    import psutil

    try:
        return int(psutil.Process().memory_info().rss)
    except (psutil.Error, OSError):
        return 0


def peak_resident_bytes() -> int:
    """Memory that this process held at the most so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB


def return_free_memory() -> None:
    """Give back to the system what the C library keeps of memory that was freed (glibc's malloc_trim; elsewhere
    nothing). What a model and its run leave lies in pieces between what stays, and the next one would take new memory
    beside it: 15 MB a run of the storyteller."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_gpu_bytes() -> int:
    """Memory of a GPU that this process's tensors took at the most so far; 0 without one. It imports no torch: a
    process that has not done so has no tensors."""
    torch = sys.modules.get("torch")
    there = torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized()
    return int(torch.cuda.max_memory_allocated()) if torch is not None and there else 0


def user_of(pid: int) -> int | None:
    """The user of a process; None where the system hides it. Raises ProcessLookupError for one that has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            raise ProcessLookupError
        return int(process.uids().real)
    except psutil.NoSuchProcess:
        with suppress(PermissionError):
            os.kill(pid, 0)
        return None
    except psutil.AccessDenied:
        return None


def own_processes() -> Iterator[int]:
    """The pids of this user's processes, this one too."""
    import psutil

    for pid in psutil.pids():
        with suppress(ProcessLookupError):
            if user_of(pid) == os.geteuid():
                yield pid


def has_open(pid: int, file: os.stat_result, name: str) -> bool:
    """Whether the process was seen to have this very file open, which is called `name`."""
    import psutil

    try:
        paths = [opened.path for opened in psutil.Process(pid).open_files()]
        return any(os.path.samestat(os.stat(path), file) for path in paths if os.path.basename(path) == name)
    except (psutil.Error, OSError):
        return False


@cache  # it would change by what the clock is set by
def _started(pid: int) -> str:
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""
