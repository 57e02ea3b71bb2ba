"""Which process is meant: a pid is used again after a crash or a reboot, so it comes with its start time."""

from __future__ import annotations

import os
import sys
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
        import psutil  # type: ignore[import-untyped, unused-ignore]

        try:
            process = psutil.Process(self.pid)
            # the clock may have been set since, by which the start of all processes moves
            return abs(process.create_time() - float(self.started)) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError, OverflowError):
            return False


def this_process() -> ProcessId:
    """The calling process."""
    return ProcessId(os.getpid(), _started(os.getpid()))


def resident_bytes() -> int:
    """Memory that this process holds now: from /proc, else from psutil; 0 where neither tells."""
    try:
        if sys.platform == "linux":
            with open("/proc/self/statm", encoding="ascii") as statm:
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        import psutil

        return int(psutil.Process().memory_info().rss)
    except (OSError, ValueError, IndexError, ImportError):
        return 0


@cache  # it would change by what the clock is set by
def _started(pid: int) -> str:
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""
