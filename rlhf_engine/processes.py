"""Which process is meant: a pid is used again after a crash or a reboot, so it comes with its start time and boot."""

from __future__ import annotations

import os
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


def this_process() -> ProcessId:
    """The calling process."""
    return ProcessId(os.getpid(), _started(os.getpid()), _boot())


def _started(pid: int) -> str:
    """Clock ticks from boot to the start of the process, as the kernel writes them."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # the name before ")" may hold spaces; field 22 of the whole line


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
