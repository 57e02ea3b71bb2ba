"""What a run's process prints: kept in a log that is never longer than some megabytes."""

from __future__ import annotations

import os
from pathlib import Path

_MOST_BYTES = 16 * 1024 * 1024  # what is older goes


def open_log(path: Path) -> int | None:
    """A descriptor of the log, for reading and appending; None when the disk refuses. Of one that has grown too long,
    the newer half is kept."""
    handle = None
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        size = os.fstat(handle).st_size
        if size > _MOST_BYTES:
            kept = os.pread(handle, _MOST_BYTES // 2, size - _MOST_BYTES // 2).partition(b"\n")[2]
            os.ftruncate(handle, 0)
            os.write(handle, kept)
    except OSError:
        if handle is not None:
            os.close(handle)
        return None
    return handle
