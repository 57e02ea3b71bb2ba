"""Who drives a run, asked of the kernel: whoever holds the run's lock does, and nothing else proves that anybody does.

What a file says of a process anybody may have written, and a pid is used again. A lock is held by a process that is
there, or by nobody. The kernel's list of locks tells who took it, and the descriptors of that process whether it holds
it still. Where the system does not tell, the holder is unknown. Nothing is changed here; `run_lock` takes locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_engine.files.reading import NotAFileOfOursError, open_regular, read_text

_KERNEL_LOCKS = Path("/proc/locks")
_MOST_PROC_BYTES = 64_000_000


@dataclass(frozen=True)
class Driver:
    """The process that holds a run's lock, as far as the system tells. pid, user (uid): None where it does not."""

    pid: int | None = None
    user: int | None = None
    proven: bool = False
    """True if a descriptor of that process was seen to hold the lock."""
    certain: bool = True
    """False where the lock can be neither tried nor seen from here: then there may be nobody."""

    def __str__(self) -> str:
        if self.pid is None:
            return "one that cannot be seen from here: in another container, on another machine, or hidden"
        return f"pid {self.pid}" + ("" if self.user in (None, os.geteuid()) else f" of user {user_name(self.user)}")


def user_name(uid: int | None) -> str:
    """What a user is called here; of one without a name the number."""
    try:
        return "unknown" if uid is None else pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def find_driver(lock: Path, *, prove: bool = True) -> Driver | None:
    """Who drives the run that `lock` is the lock of; None if nobody does, also where it is held by one who only reads.

    prove: look through the descriptors of that process, which takes a while where lists are made of many runs.
    """
    try:
        there, folder = os.lstat(lock), os.stat(lock.parent)
    except OSError:
        return None
    free = _is_unlocked(lock)
    if free:
        return None
    entries = _lock_entries(there)
    if entries is None:
        return _driver_named_in(lock, there) or Driver(certain=free is False)
    for entry in entries:
        if not entry.exclusive:
            continue
        try:
            user = _user_of(entry.pid)
        except ProcessLookupError:
            continue
        if user is not None and not _may_write_run(user, there, folder):
            continue
        holds = _holds_lock(entry.pid, there) if prove or not entry.exact else None
        likely = entry.exact or (free is None and user == there.st_uid)
        if holds or (holds is None and likely):
            return Driver(entry.pid, user, holds is True)
    return Driver() if free is False and not any(entry.exact for entry in entries) else None


def only_readers_hold(lock: Path) -> bool:
    """True where it is certain that no process holds the lock that could write the run, which is this user's."""
    there, folder = os.lstat(lock), os.stat(lock.parent)
    entries = [entry for entry in _lock_entries(there) or [] if entry.exact]
    if not entries or folder.st_uid != os.geteuid() or folder.st_mode & 0o022:
        return False
    for entry in entries:
        try:
            user = _user_of(entry.pid)
        except ProcessLookupError:
            continue
        if user is None or (_may_write_run(user, there, folder) and _holds_lock(entry.pid, there) is not False):
            return False
    # a process that took it and left may have left it to a child
    return not any(_holds_lock(pid, there) for pid in _own_processes())


def find_holder(lock: Path) -> Driver:
    """Whoever holds the lock, if only to read."""
    for entry in _lock_entries(os.lstat(lock)) or []:
        with suppress(ProcessLookupError):
            if entry.exact:
                return Driver(entry.pid, _user_of(entry.pid))
    return Driver()


# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LockEntry:
    """An entry of the kernel's list of locks, by the process that took it. exclusive: no other process can have it.
    exact: of this very file; else only its inode number is the same, for some file systems tell another device there
    than elsewhere."""

    pid: int
    exclusive: bool
    exact: bool


def _is_unlocked(lock: Path) -> bool | None:
    """Whether nobody holds the lock so that no other can; None where this user may not open it."""
    try:
        with open_regular(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # where there is no file of ours, there is nothing that a process of ours could hold
        nothing = isinstance(error, FileNotFoundError | NotAFileOfOursError)
        return True if nothing and error.errno not in (errno.EACCES, errno.EPERM) else None
    return True


def _lock_entries(there: os.stat_result) -> list[_LockEntry] | None:
    """Who took the lock of the file, of the processes that can be seen; None where the system does not tell."""
    device = f"{os.major(there.st_dev):02x}:{os.minor(there.st_dev):02x}"
    found = []
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # of another container: its numbers are not ours
            return None
        for line in read_text(_KERNEL_LOCKS, _MOST_PROC_BYTES).splitlines():
            if f":{there.st_ino} " not in line:
                continue
            words = line.split()
            where, _, number = words[5].rpartition(":")
            # those that wait for one have an arrow in the place of their kind
            if words[1] == "FLOCK" and number == str(there.st_ino) and int(words[4]) > 0:
                found.append(_LockEntry(int(words[4]), words[3] == "WRITE", where == device))
    except (OSError, ValueError, IndexError):
        return None
    return found


def _user_of(pid: int) -> int | None:
    """The user of a process; None where the system hides it. Raises ProcessLookupError for one that has ended."""
    import psutil  # type: ignore[import-untyped, unused-ignore]

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


def _may_write_run(user: int, lock: os.stat_result, folder: os.stat_result) -> bool:
    """Whether a process of that user may write the run, as far as its modes tell. (An ACL that lets somebody write
    shows as if the group might.)"""
    return user in (0, folder.st_uid, lock.st_uid) or bool(folder.st_mode & 0o022)


def _holds_lock(pid: int, lock: os.stat_result) -> bool | None:
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


def _own_processes() -> Iterator[int]:
    import psutil

    for pid in psutil.pids():
        with suppress(ProcessLookupError):
            if _user_of(pid) == os.geteuid():
                yield pid


def _driver_named_in(lock: Path, there: os.stat_result) -> Driver | None:
    """Where the kernel has no list: the process of this user that the file names, if it has the file open."""
    import psutil

    try:
        pid = int(read_text(lock, 32))
        process = psutil.Process(pid)
        files = [file.path for file in process.open_files()]
        if any(os.path.samestat(os.stat(path), there) for path in files if Path(path).name == lock.name):
            return Driver(pid, int(process.uids().real), proven=True)
    except (OSError, ValueError, OverflowError, psutil.Error):
        pass
    return None
