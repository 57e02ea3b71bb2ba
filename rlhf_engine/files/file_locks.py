"""Locks of files (flock): held by an open descriptor, and gone with the process that has it."""

from __future__ import annotations

import fcntl
import time

_LOOK_SECONDS = 0.02


def try_lock(handle: int) -> bool:
    """True if `handle` holds its file's lock by now, and no other descriptor can. Raises OSError on a disk that knows
    no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_within(handle: int, seconds: float) -> bool:
    """`try_lock` until it is held, or that many seconds are over."""
    deadline = time.monotonic() + seconds
    while not (held := try_lock(handle)) and time.monotonic() <= deadline:
        time.sleep(_LOOK_SECONDS)
    return held
