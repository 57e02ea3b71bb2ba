"""The one door through which files are read that others may have made: of runs, presets, checkpoints, models.

Such a file may be a FIFO that nobody writes, a device without an end, a link to somewhere else, or larger than any
memory. Here it is opened without waiting, must be a regular file of no more than so many bytes, and whatever is wrong
with it is an OSError, whose reason `disk.why` tells in words. Numbers that such files hold pass `whole_number` or
`number`: JSON has some that no computer counts with.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from io import FileIO
from pathlib import Path
from typing import Any

MOST_COUNTED = 2**53
"""The greatest whole number that every reader of JSON holds exactly."""


class NotAFileOfOursError(OSError):
    """There is something, but nothing that we would have written there."""

    def __init__(self, code: int, reason: str, path: Path) -> None:
        super().__init__(code, reason, str(path))
        self.reason = reason


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
          stat.S_IFBLK: "a device"}


def open_regular(path: Path, most: int | None = None, *, follow: bool = False) -> FileIO:
    """A file to read from, at its start. It never waits for anybody.

    most: bytes that it may have. follow: whether a symbolic link in the place of the file is followed; those of runs
    never are. Raises OSError: FileNotFoundError where there is none, else for what is no regular file, or too large.
    """
    _must_be_regular(path, os.stat(path, follow_symlinks=follow), most)  # before it is opened: a device may act on that
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    handle = os.open(path, flags)
    try:
        _must_be_regular(path, os.fstat(handle), most)  # and after: it may have been replaced in between
        return FileIO(handle, closefd=True)
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, most: int, *, follow: bool = False) -> bytes:
    """What a file holds. Raises OSError as `open_regular` does, also for one that grows beyond `most` meanwhile."""
    with open_regular(path, most, follow=follow) as file:
        parts, left = [], most + 1
        while left > 0 and (data := file.read(min(left, 1 << 20))):
            parts.append(data)
            left -= len(data)
    if left <= 0:  # files of /proc call themselves empty
        raise _too_large(path, most)
    return b"".join(parts)


def read_text(path: Path, most: int, *, follow: bool = False) -> str:
    """`read_bytes` as UTF-8. Raises OSError, and UnicodeDecodeError."""
    return read_bytes(path, most, follow=follow).decode()


def whole_number(value: Any, least: int = 0, most: int = MOST_COUNTED) -> int:
    """A count, a step, a pid that a file tells. Raises ValueError for all but a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    if value != int(value) or not least <= value <= most:
        raise ValueError(f"{value:.17g} is no whole number from {least} to {most}")
    return int(value)


def number(value: Any) -> float:
    """A measured number that a file tells; null is NaN, as we write what is not finite. Raises ValueError."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a whole number too large to count with") from None


# ---------------------------------------------------------------------------------------------------------------------


def _must_be_regular(path: Path, found: os.stat_result, most: int | None) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise NotAFileOfOursError(errno.ELOOP, "it is a symbolic link, which is not followed here", path)
    if stat.S_ISDIR(found.st_mode):
        raise NotAFileOfOursError(errno.EISDIR, "it is a folder, and no file", path)
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise NotAFileOfOursError(errno.EINVAL, f"it is {kind}, and no file", path)
    if most is not None and found.st_size > most:
        raise _too_large(path, most)


def _too_large(path: Path, most: int) -> NotAFileOfOursError:
    size = f"{most / 1e6:,.0f} MB" if most >= 1_000_000 else f"{most / 1e3:,.0f} KB"
    return NotAFileOfOursError(errno.EFBIG, f"it is larger than {size}, which no such file is", path)
