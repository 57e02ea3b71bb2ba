"""The header of a file of safetensors: which tensors it holds, and whether the file is as long as they need.

Of a model it is read before any library reads it, whose words of headers and offsets help nobody, and within bounds. No
torch here.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_engine.errors import ModelError
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.reading import open_regular, whole_number

_MOST_BYTES = 32_000_000  # of a header; a tensor takes a hundred
_MOST_TENSORS = 200_000


class Entry(NamedTuple):
    """Where a tensor lies: bytes from `begin` to `end` behind the header."""

    begin: int
    end: int
    name: str
    dtype: str
    """As safetensors calls it: F32, BF16, …"""
    shape: tuple[int, ...]


def entries_in(header: bytes | bytearray) -> list[Entry]:
    """The tensors of which the JSON of a header tells, in the order in which they lie in the file. Raises ValueError.
    """
    try:
        found = json.loads(header)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("its header is no JSON object")
    found.pop("__metadata__", None)
    return sorted((_entry(name, row) for name, row in found.items()), key=lambda entry: entry[:2])


@dataclass(frozen=True)
class Header:
    """Shapes of tensors by name."""

    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, several: Sequence[Header]) -> Header:
        """What several files hold together."""
        return cls({name: shape for one in several for name, shape in one.shapes.items()})

    @property
    def elements(self) -> int:
        """Numbers in all tensors together."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def read_header(path: Path) -> Header:
    """The header of the file at `path`, a link to one too. Raises ModelError, one sentence, for a file that is damaged
    or cut off, or holds no tensor."""
    try:
        with open_regular(path, follow=True) as file:
            start = file.read(9)
            size = path.stat().st_size
            (length,) = struct.unpack("<Q", start[:8].ljust(8, b"\0"))
            if size < 9 or length > 100_000_000 or start[8:] != b"{":
                raise ModelError(f"{path} is no file of safetensors, whatever its name says; download it anew")
            if length > _MOST_BYTES:
                raise ModelError(f"{path} has a header of {length:,} bytes, where {_MOST_BYTES:,} are the most that "
                                 "any model needs")
            rest = _exactly(file, length - 1)
        entries = entries_in(start[8:] + rest) if 8 + length <= size else []
    except OSError as error:
        raise ModelError(f"{path} could not be read: {os_error_reason(error)}") from error
    except ValueError as error:
        raise ModelError(f"{path} is damaged: its header cannot be read; download it anew") from error
    found = {entry.name: entry.shape for entry in entries}
    whole = 8 + length + max((entry.end for entry in entries), default=0)
    if size < whole:
        least = "" if found else "at least "  # where the header is cut, too
        raise ModelError(f"{path} is cut off: it has {size:,} bytes of {least}{whole:,}; download it anew")
    if not found:
        raise ModelError(f"{path} holds no weights")
    if len(found) > _MOST_TENSORS:
        raise ModelError(f"{path} holds {len(found):,} tensors, where {_MOST_TENSORS:,} are the most that any model "
                         "has")
    return Header(found)


def _exactly(file: Any, count: int) -> bytes:
    parts = []
    while count > 0 and (data := file.read(min(count, 1 << 20))):
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _entry(name: str, row: Any) -> Entry:
    try:
        begin, end = map(whole_number, row["data_offsets"])
        dtype, shape = row["dtype"], tuple(map(whole_number, row["shape"]))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"its header describes no tensor at {name[:80]!r}") from None
    if not isinstance(dtype, str) or end < begin or (math.prod(shape) > 0) != (end > begin):
        raise ValueError(f"its header gives {name[:80]!r} another number of bytes than its shape has")
    return Entry(begin, end, name, dtype, shape)
