"""Which process is meant: a pid is used again after a crash or a reboot, so it comes with its start time and boot."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessId:
    """A process on this machine. `started` and `boot` are empty where the system does not tell (no /proc)."""

    pid: int
    started: str = ""
    boot: str = ""

    @property
    def alive(self) -> bool:
        """True while this very process exists, not merely one with its number."""
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            pass  # it exists and belongs to someone else
        except (OSError, OverflowError):
            return False
        return self.started == _started(self.pid) and self.boot == _boot()

    @property
    def stopped(self) -> bool:
        """True while it is held by SIGSTOP, or by Ctrl+Z in its shell; False where the system does not tell."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
        except (OSError, IndexError):
            return False

    def ask_to_leave(self) -> bool:
        """Sends SIGTERM, if this very process is still there; False if not. Raises PermissionError for another user's.

        A second one would make it leave without saving. One that is stopped hears it once SIGCONT lets it go on.
        """
        if not self.alive:
            return False
        try:
            os.kill(self.pid, signal.SIGTERM)
            if self.stopped:
                os.kill(self.pid, signal.SIGCONT)
        except ProcessLookupError:
            return False
        return True


def this_process() -> ProcessId:
    """The calling process."""
    return ProcessId(os.getpid(), _started(os.getpid()), _boot())


def resident_bytes() -> int:
    """Memory that this process holds now: from /proc, else from psutil; 0 where neither tells."""
    try:
        if sys.platform == "linux":
            with open("/proc/self/statm", encoding="ascii") as statm:
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        import psutil  # type: ignore[import-untyped, unused-ignore]

        return int(psutil.Process().memory_info().rss)
    except (OSError, ValueError, IndexError, ImportError):
        return 0


def _started(pid: int) -> str:
    """Clock ticks from boot to the start of the process, as the kernel writes them; empty for one that has ended.

    A process that has ended stays in the list until its parent asks how, which in a container may be never.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *values = stat.rpartition(")")[2].split()  # the name before ")" may hold spaces
    return "" if state in "ZX" else values[18]  # field 22 of the whole line


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
