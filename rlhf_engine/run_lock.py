"""The lock of a run: who holds it drives the run, and nothing else proves that anybody does.

What a file says of a process anybody may have written, and a pid is used again. A lock is held by a process that is
there, or by nobody. But a lock (flock) is open to whoever may open its file, if only for reading: the file is its
owner's alone, a new one is put in the place of one that others could open, and of one that only such processes hold
that could not write the run. Who holds it is asked of the kernel: its list of locks tells who took it, and the
descriptors of that process whether it holds it still. Where the system does not tell, the holder is unknown.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_engine.disk import writing
from rlhf_engine.errors import RunError
from rlhf_engine.own_files import make_folder
from rlhf_engine.reading import NotAFileOfOursError, open_regular, read_text

_PATIENCE = 0.5  # seconds: others hold a lock for some microseconds while they look whether it is free
_QUEUE_SECONDS = 2.0
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


@contextmanager
def hold(lock: Path, name: str) -> Iterator[None]:
    """Holds the lock of the run `name`. Raises RunError, naming the process, while another one drives it.

    It goes with this process, however that ends; children that are forked meanwhile do not have it.
    """
    with writing(lock), _one_at_a_time() as alone:
        handle = _acquire(lock, name, alone=alone)
    try:
        # renamed or thrown away since it was opened: what has the name now is not what is held
        if not _is_at(handle, lock):
            raise RunError(f"The run {name} was moved just now.")
        with writing(lock):
            found = os.fstat(handle)
            # others may have it open, or hold it by another name; where it is another user's, it stays so
            if found.st_uid == os.geteuid() and (found.st_mode & 0o077 or found.st_nlink != 1):
                handle, before = _replace_with_new(lock), handle
                _close(before)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        _close(handle)


# --- taking it ---

_handles: set[int] = set()  # of locks that are held by this process


def _close(handle: int) -> None:
    if handle in _handles:  # else this is a child, which let go of it at once
        _handles.remove(handle)
        os.close(handle)


def _release_in_child() -> None:
    """In a child: it does not drive the run, nor may it hold its lock when its parent has gone."""
    while _handles:
        os.close(_handles.pop())


os.register_at_fork(after_in_child=_release_in_child)


def _open(path: Path, flags: int) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | flags,
                     0o600)
    _handles.add(handle)
    return handle


def _acquire(lock: Path, name: str, *, alone: bool) -> int:
    """A descriptor that holds the lock. alone: no other process of this user takes one now. Raises OSError, RunError.
    """
    with suppress(FileNotFoundError):
        open_regular(lock).close()
    handle = _open(lock, 0)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _try_lock(handle):
            if driver := find_driver(lock):
                free = f"; if nobody does, remove {lock}" if driver.user is None else ""
                raise RunError(f"The run {name} is driven by another process ({driver}){free}.")
            if time.monotonic() > deadline:
                if not (alone and _is_at(handle, lock) and _only_readers_hold(lock)):
                    raise RunError(f"The run {name} is locked by a process that does not drive it ({_holder(lock)}); "
                                   f"once it has ended, or you have removed {lock}, the run is free.")
                handle, before = _replace_with_new(lock), handle
                _close(before)
                break
            time.sleep(0.02)
    except BaseException:
        _close(handle)
        raise
    return handle


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(lock))
    except OSError:
        return False


def _replace_with_new(lock: Path) -> int:
    """Puts a new file in the place of the lock's, and returns a descriptor that holds its lock. Raises OSError."""
    aside = lock.with_name(f".{lock.name}.{secrets.token_hex(4)}")
    handle = _open(aside, os.O_EXCL)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.replace(aside, lock)
    except BaseException:
        _close(handle)
        aside.unlink(missing_ok=True)
        raise
    return handle


@contextmanager
def _one_at_a_time() -> Iterator[bool]:
    """Processes of one user take locks one after the other, by a file that nobody else can open; False where that
    cannot be. Else two of them that both put a new file in the place of a lock's could both hold one."""
    handle = None
    with suppress(OSError):
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("rlhf-tui", appauthor=False))
        make_folder(folder)
        handle = _open(folder / "taking_a_lock", 0)
    try:
        deadline, mine = time.monotonic() + _QUEUE_SECONDS, False
        with suppress(OSError):
            while handle is not None and not (mine := _try_lock(handle)) and time.monotonic() < deadline:
                time.sleep(0.02)
        yield mine
    finally:
        if handle is not None:
            _close(handle)


def _only_readers_hold(lock: Path) -> bool:
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


def _holder(lock: Path) -> Driver:
    """Whoever holds the lock, if only to read."""
    for entry in _lock_entries(os.lstat(lock)) or []:
        with suppress(ProcessLookupError):
            if entry.exact:
                return Driver(entry.pid, _user_of(entry.pid))
    return Driver()


# --- asking the system ---


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
