"""The lock of a run, taken by whoever drives it.

A lock (flock) is open to whoever may open its file, if only for reading. So the file is its owner's alone: a new one is
put in the place of one that others could open, and of one that only such processes hold that could not write the run.
`run_driver` tells who they are.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlhf_engine.errors import RunError
from rlhf_engine.files.disk import writing
from rlhf_engine.files.file_locks import lock_within, try_lock
from rlhf_engine.files.own_files import make_folder
from rlhf_engine.files.reading import open_regular
from rlhf_engine.runs.run_driver import find_driver, find_holder, only_readers_hold

_PATIENCE = 0.5  # seconds: others hold a lock for some microseconds while they look whether it is free
_QUEUE_SECONDS = 2.0


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
        while not try_lock(handle):
            if driver := find_driver(lock):
                free = f"; if nobody does, remove {lock}" if driver.user is None else ""
                raise RunError(f"The run {name} is driven by another process ({driver}){free}.")
            if time.monotonic() > deadline:
                if not (alone and _is_at(handle, lock) and only_readers_hold(lock)):
                    raise RunError(f"The run {name} is locked by a process that does not drive it "
                                   f"({find_holder(lock)}); once it has ended, or you have removed {lock}, the run is "
                                   "free.")
                handle, before = _replace_with_new(lock), handle
                _close(before)
                break
            time.sleep(0.02)
    except BaseException:
        _close(handle)
        raise
    return handle


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
        mine = False
        with suppress(OSError):
            mine = handle is not None and lock_within(handle, _QUEUE_SECONDS)
        yield mine
    finally:
        if handle is not None:
            _close(handle)
