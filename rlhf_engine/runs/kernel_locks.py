"""What the Linux kernel tells of a file's lock, and no other system does: who took it, and who holds it still.

/proc/locks names the process that took a lock (flock), the descriptors of a process whether it holds it. macOS has
neither: there all of this answers "not known", and `run_driver` says what it goes by instead.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_engine.files.reading import read_bytes, read_text

LOCK_LIST = Path("/proc/locks")
_MOST_PROC_BYTES = 64_000_000


@dataclass(frozen=True)
class LockEntry:
    """An entry of the kernel's list of locks, by the process that took it. exclusive: no other process can have it.
    exact: of this very file; else only its inode number is the same, for some file systems tell another device there
    than elsewhere."""

    pid: int
    exclusive: bool
    exact: bool


def lock_entries(there: os.stat_result) -> list[LockEntry] | None:
    """Who took the lock of the file, of the processes that can be seen; None where the system does not tell."""
    device = f"{os.major(there.st_dev):02x}:{os.minor(there.st_dev):02x}"
    found = []
    try:
        if of_another_container():
            return None
        for line in read_text(LOCK_LIST, _MOST_PROC_BYTES).splitlines():
            if f":{there.st_ino} " not in line:
                continue
            words = line.split()
            where, _, number = words[5].rpartition(":")
            # those that wait for one have an arrow in the place of their kind
            if words[1] == "FLOCK" and number == str(there.st_ino) and int(words[4]) > 0:
                found.append(LockEntry(int(words[4]), words[3] == "WRITE", where == device))
    except (OSError, ValueError, IndexError):
        return None
    return found


def holds_lock(pid: int, lock: os.stat_result) -> bool | None:
    """Whether a descriptor of the process holds the lock; None where the system does not let this user see."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fdinfo")
    except FileNotFoundError:
        return False
    except OSError:
        return None
    for number in numbers:
        with suppress(OSError, UnicodeDecodeError):  # it may be closed meanwhile
            told = read_text(Path(f"/proc/{pid}/fdinfo/{number}"), _MOST_PROC_BYTES)
            locks = (line.split() for line in told.splitlines() if line.startswith("lock:"))
            # the file itself is looked at only where its number fits: that of another could be on a disk that hangs
            if (any("FLOCK" in words and any(word.endswith(f":{lock.st_ino}") for word in words) for words in locks)
                    and os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), lock)):
                return True
    return False


def of_another_container() -> bool:
    """Whether /proc is there and tells of the processes of another container, whose numbers are not ours."""
    try:
        return os.readlink("/proc/self") != str(os.getpid())
    except OSError:
        return os.path.lexists("/proc/self")


def numbers_of(pid: int) -> set[int]:
    """The number of a process here, and the one that it has for itself in a container."""
    try:
        told = read_bytes(Path(f"/proc/{pid}/status"), _MOST_PROC_BYTES).decode(errors="replace")  # its name is any
        words = next((line.split() for line in told.splitlines() if line.startswith("NSpid:")), [])
        return {pid, *map(int, words[1:])}
    except (OSError, ValueError):
        return {pid}
