"""The one door through which files are read that others may have made: of runs, presets, checkpoints, models.

Such a file may be a FIFO that nobody writes, a device without an end, a link to somewhere else, or larger than any
memory. Here it is opened without waiting, must be a regular file of no more than so many bytes, and whatever is wrong
with it is an OSError, whose reason `disk.os_error_reason` tells in words. Numbers that such files hold pass
`whole_number` or `number`: JSON has some that no computer counts with. Lines come out of `Lines`, which holds no more
than one of them.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from io import FileIO
from pathlib import Path
from typing import Any

from rlhf_engine.system.units import format_bytes

MOST_COUNTED = 2**53
"""The greatest whole number that every reader of JSON holds exactly."""
MOST_WHOLE = 64 * 1024 * 1024
"""Bytes of a file that is read whole; all prompts of a run may be in it."""
MOST_ENTRIES = 100_000
"""Entries of a folder that is listed, of runs or of checkpoints; no one has as many."""
MOST_LINE = 16 * 1024 * 1024
"""Bytes of a line. That of a response of 32,000 tokens, with all that the update was made of, has three million."""
MOST_DAMAGE = 64 * 1024 * 1024
"""Bytes of a file of lines that may be no lines of ours. A crash leaves some; a hole of 200 GB is no work of a crash.
"""


class UnexpectedFileError(OSError):
    """There is something, but nothing that we would have written there, or nothing that this user may read."""

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
    require_regular(path, most, follow=follow)  # before it is opened: a device may act on that
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except PermissionError:
        raise _not_allowed(path) from None
    try:
        _must_be_regular(path, os.fstat(handle), most)  # and after: it may have been replaced in between
        return FileIO(os.fspath(path), opener=lambda *_: handle)  # which has a name then
    except BaseException:
        os.close(handle)
        raise


def require_regular(path: Path, most: int | None = None, *, follow: bool = False) -> os.stat_result:
    """What the system says of a file that `open_regular` would open. Raises OSError where it would not for its kind."""
    try:
        found = os.stat(path, follow_symlinks=follow)
    except PermissionError:
        raise _not_allowed(path) from None
    _must_be_regular(path, found, most)
    return found


def read_bytes(path: Path, most: int, *, follow: bool = False) -> bytes:
    """What a file holds. Raises OSError as `open_regular` does, also for one that grows beyond `most` meanwhile."""
    with open_regular(path, most, follow=follow) as file:
        parts, left, block = [], most + 1, os.fstat(file.fileno()).st_size + 1
        while left > 0 and (data := file.read(min(left, block))):
            parts.append(data)
            left -= len(data)
            block = 1 << 20
    if left <= 0:  # files of /proc call themselves empty
        raise too_large(path, most)
    return b"".join(parts)


def read_text(path: Path, most: int, *, follow: bool = False) -> str:
    """`read_bytes` as UTF-8. Raises OSError, and UnicodeDecodeError."""
    return read_bytes(path, most, follow=follow).decode()


def whole_number(value: Any, least: int = 0, most: int = MOST_COUNTED) -> int:
    """A count, a step, a pid that a file tells. Raises ValueError for all but a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    # in this order: NaN and infinity are no whole numbers, and no other is too large to be compared
    if (isinstance(value, float) and not value.is_integer()) or not least <= value <= most:
        raise ValueError(f"{str(value)[:40]} is no whole number from {least} to {most}")
    return int(value)


def number(value: Any) -> float:
    """A measured number that a file tells; NaN for what is not finite, which we write as null. Raises ValueError."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    try:
        told = float(value)
    except OverflowError:
        raise ValueError("a whole number too large to count with") from None
    return told if math.isfinite(told) else math.nan


def finite(value: Any, name: str) -> float:
    """A finite number that a file tells under `name`, with which the ValueError for others begins."""
    if not math.isfinite(told := number(value)):
        raise ValueError(f"{name}: it is not finite")
    return told


def not_negative(value: Any, name: str, most: float = math.inf) -> float:
    """The same, from 0 to `most`."""
    told = finite(value, name)
    if not 0 <= told <= most:
        raise ValueError(f"{name}: {told:g} is not from 0 to {most:g}")
    return told


class Lines:
    """The lines in the portions of a file that are read one after another.

    What a call returns are the lines that end in its portion, without their ends. One that is longer than MOST_LINE
    is as if it were b"\0", which is no line of ours. Raises OSError for a file that has more than MOST_DAMAGE of such
    lines, and of NUL.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._torn: list[bytes] = []
        self._length = self._damage = 0

    def __call__(self, data: bytes) -> list[bytes]:
        self._damage += data.count(b"\0")
        first, *rest = data.split(b"\n")
        self._add(first)
        if not rest:
            return []
        lines = [self._taken(), *rest[:-1]]
        if len(data) > MOST_LINE:
            lines = [line if len(line) <= MOST_LINE else b"\0" for line in lines]
        self._add(rest[-1])
        return lines

    def _add(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length <= MOST_LINE:
            self._torn.append(piece)
        else:
            self._torn = [b"\0"]
            self._damage += len(piece)
        if self._damage > MOST_DAMAGE:
            raise much_damage(self._path)

    def _taken(self) -> bytes:
        line, self._torn, self._length = b"".join(self._torn), [], 0
        return line


def much_damage(path: Path) -> UnexpectedFileError:
    """The error of a file of which too much is no lines of ours."""
    return UnexpectedFileError(errno.EFBIG, f"more than {format_bytes(MOST_DAMAGE)} of it are no lines of a run", path)


def too_large(path: Path, most: int) -> UnexpectedFileError:
    """The error of a file that holds more than it may."""
    return UnexpectedFileError(errno.EFBIG, f"it is larger than {format_bytes(most)}, which no such file is", path)


# ---------------------------------------------------------------------------------------------------------------------


def _must_be_regular(path: Path, found: os.stat_result, most: int | None) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise UnexpectedFileError(errno.ELOOP, "it is a symbolic link, which is not followed here", path)
    if stat.S_ISDIR(found.st_mode):
        raise UnexpectedFileError(errno.EISDIR, "it is a folder, and no file", path)
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise UnexpectedFileError(errno.EINVAL, f"it is {kind}, and no file", path)
    if most is not None and found.st_size > most:
        raise too_large(path, most)


def _not_allowed(path: Path) -> UnexpectedFileError:
    return UnexpectedFileError(errno.EACCES, "this user may not read it", path)
