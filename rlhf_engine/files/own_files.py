"""Folders and files of the user's own that hold texts: logs, copies, marks. Nobody else reads them.

Whatever the umask, folders are 0700 and files 0600, and so are those of an earlier version or of another program that
were not. Files are written with `disk`: new ones are, and what is replaced becomes, readable by its owner alone.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


def make_folder(path: Path, mode: int = 0o700) -> None:
    """A folder, and those around it that are missing, each for this user alone; one that is there stays as it is.

    mode: of new ones, where others may read them.

    Raises OSError.
    """
    for folder in reversed([path, *path.parents]):  # Path.mkdir makes the parents as the umask has it
        if not folder.is_dir():
            folder.mkdir(mode=mode, exist_ok=True)


def own_folder(path: Path) -> Path:
    """`path`, made if it was missing, and for this user alone by now. Raises OSError, also for somebody else's."""
    make_folder(path)
    found = os.stat(path)
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    if found.st_mode & 0o077:
        os.chmod(path, 0o700)
    return path


def open_to_add(path: Path) -> int:
    """A descriptor of a log, for reading and appending; no link is followed. Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_mode & 0o077:
            os.fchmod(handle, 0o600)
    except BaseException:
        os.close(handle)
        raise
    return handle
