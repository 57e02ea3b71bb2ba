"""Who drives a run, asked of the kernel: whoever holds the run's lock does, and nothing else proves that anybody does.

What a file says of a process anybody may have written, and a pid is used again. A lock is held by a process that is
there, or by nobody: that much every system tells, to whoever may open the file. Who it is,

- Linux tells: its list of locks names who took it, the descriptors of that process whether it holds it still
  (`kernel_locks`).
- macOS does not, nor does Linux where /proc is hidden. There the driver is the process that the lock file names, while
  somebody holds the lock, if it is seen to have this very file open, as this user's are. So a run that is driven is
  never taken for free, and what only a file names is never signalled; but who holds a lock only to read cannot be told
  from a driver, and a run that another user drives is driven by somebody unknown.

Nothing is changed here; `run_lock` takes locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_engine.files.reading import UnexpectedFileError, open_regular, read_text
from rlhf_engine.runs.kernel_locks import holds_lock, lock_entries, of_another_container
from rlhf_engine.system.processes import has_open, own_processes, user_of


@dataclass(frozen=True)
class Driver:
    """The process that holds a run's lock, as far as the system tells. pid, user (uid): None where it does not."""

    pid: int | None = None
    user: int | None = None
    proven: bool = False
    """True if a descriptor of that process was seen to hold the lock; where the kernel has no list of locks, if it was
    seen to have the file open while the lock was held."""
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
    entries = lock_entries(there)
    if entries is None:
        return _driver_named_in(lock, there) or Driver(certain=free is False)
    for entry in entries:
        if not entry.exclusive:
            continue
        try:
            user = user_of(entry.pid)
        except ProcessLookupError:
            continue
        if user is not None and not _may_write_run(user, there, folder):
            continue
        holds = holds_lock(entry.pid, there) if prove or not entry.exact else None
        likely = entry.exact or (free is None and user == there.st_uid)
        if holds or (holds is None and likely):
            return Driver(entry.pid, user, holds is True)
    return Driver() if free is False and not any(entry.exact for entry in entries) else None


def only_readers_hold(lock: Path) -> bool:
    """True where it is certain that no process holds the lock that could write the run, which is this user's."""
    there, folder = os.lstat(lock), os.stat(lock.parent)
    entries = [entry for entry in lock_entries(there) or [] if entry.exact]
    if not entries or folder.st_uid != os.geteuid() or folder.st_mode & 0o022:
        return False
    for entry in entries:
        try:
            user = user_of(entry.pid)
        except ProcessLookupError:
            continue
        if user is None or (_may_write_run(user, there, folder) and holds_lock(entry.pid, there) is not False):
            return False
    # a process that took it and left may have left it to a child
    return not any(holds_lock(pid, there) for pid in own_processes())


def find_holder(lock: Path) -> Driver:
    """Whoever holds the lock, if only to read."""
    for entry in lock_entries(os.lstat(lock)) or []:
        with suppress(ProcessLookupError):
            if entry.exact:
                return Driver(entry.pid, user_of(entry.pid))
    return Driver()


# ---------------------------------------------------------------------------------------------------------------------


def _is_unlocked(lock: Path) -> bool | None:
    """Whether nobody holds the lock so that no other can; None where this user may not open it."""
    try:
        with open_regular(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # where there is no file of ours, there is nothing that a process of ours could hold
        nothing = isinstance(error, FileNotFoundError | UnexpectedFileError)
        return True if nothing and error.errno not in (errno.EACCES, errno.EPERM) else None
    return True


def _may_write_run(user: int, lock: os.stat_result, folder: os.stat_result) -> bool:
    """Whether a process of that user may write the run, as far as its modes tell. (An ACL that lets somebody write
    shows as if the group might.)"""
    return user in (0, folder.st_uid, lock.st_uid) or bool(folder.st_mode & 0o022)


def _driver_named_in(lock: Path, there: os.stat_result) -> Driver | None:
    """Where the kernel has no list: the process that the file names, if it is seen to have the file open."""
    if of_another_container():
        return None
    with suppress(OSError, ValueError, OverflowError):
        pid = int(read_text(lock, 32))
        user = user_of(pid)
        if has_open(pid, there, lock.name):
            return Driver(pid, user, proven=True)
    return None
