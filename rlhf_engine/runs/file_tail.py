"""One file of a run that another process writes, read as it grows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from rlhf_engine.files.reading import Lines, open_regular
from rlhf_engine.runs.run_columns import Columns, columns_in, last_lines
from rlhf_engine.runs.run_lines import as_object

TRACED_ROWS = 400
"""Of the rows read at one look, the newest that keep their traces: those of a long run would fill the memory."""
_BLOCK = 1024 * 1024


class FileTail:
    """The rows that were added to a file since the last look. A last line without its end waits for it.

    The file is kept open, so that none that replaces it can be taken for it. Methods raise OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._lines = Lines(path)
        self._first: list[bytes] = []  # lines before those that were skipped
        self.behind = False
        """True when the last look left something unread."""

    @property
    def begun(self) -> bool:
        """True once the file was there at a look."""
        return self._file is not None

    @property
    def size(self) -> int:
        """Bytes of the file; 0 while there is none."""
        return os.fstat(file.fileno()).st_size if (file := self._open()) else 0

    @property
    def waiting(self) -> int:
        """Bytes that were not read yet."""
        return self.size - self.place

    @property
    def place(self) -> int:
        """How far it was read."""
        return self._file.tell() if self._file else 0

    @property
    def replaced(self) -> bool:
        """True when the path leads to another file than the one read so far, or that one became shorter."""
        if self._file is None:
            return False
        held = os.fstat(self._file.fileno())
        with suppress(FileNotFoundError):
            there = self._path.lstat()
            return (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino) or there.st_size < self._file.tell()
        return False

    def begins_like(self, other: FileTail, end: int) -> bool:
        """True when both files have the same first `end` bytes; this one then goes on from there."""
        mine, theirs, left = self._open(), other._open(), end
        if mine is None or theirs is None:
            return False
        theirs.seek(0)
        while left and (data := mine.read(min(_BLOCK, left))) and data == theirs.read(len(data)):
            left -= len(data)
        mine.seek(0 if left else end)
        return not left

    def columns_but_last(self, most: int) -> Iterator[Columns]:
        """All lines but the last, of which `most` bytes are left for `read`."""
        if file := self._open():
            end = last_lines(file, most)
            file.seek(0)
            yield from columns_in(file, end)

    def skip_to_last(self, most: int) -> None:
        """Go on with the last lines, `most` bytes of them; from the start of the file the first is read as well."""
        if file := self._open():
            first = file.read(_BLOCK).partition(b"\n")[0] if file.tell() == 0 else b""
            if last_lines(file, most) > len(first) > 0:
                self._first = [first]
            self._lines = Lines(self._path)

    def read(self, most: int = -1) -> list[dict[str, Any]]:
        """At most so many bytes of them, if any limit is given."""
        if (file := self._open()) is None:
            return []
        data = file.read(most)
        self.behind = len(data) == most
        lines, self._first = self._first + self._lines(data), []
        rows = []
        for left, line in zip(range(len(lines), 0, -1), lines, strict=True):
            row = as_object(line)
            if row is not None:
                if left > TRACED_ROWS:
                    row.pop("trace", None)
                rows.append(row)
        return rows

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> FileIO | None:
        if self._file is None:
            with suppress(FileNotFoundError):
                self._file = open_regular(self._path)
        return self._file
