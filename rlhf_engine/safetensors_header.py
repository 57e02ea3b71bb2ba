"""The header of a file of safetensors: which tensors it holds, and whether the file is as long as they need.

Read before any library reads it, whose words of headers and offsets help nobody, and within bounds. No torch here.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_engine.disk import why
from rlhf_engine.errors import ModelError
from rlhf_engine.reading import open_regular, whole_number

_MOST_BYTES = 32_000_000  # of a header; a tensor takes a hundred
_MOST_TENSORS = 200_000


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
        header = json.loads(start[8:] + rest) if 8 + length <= size else {}
        found, end = _tensors(header)
    except OSError as error:
        raise ModelError(f"{path} could not be read: {why(error)}") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: its header cannot be read; download it anew") from error
    whole = 8 + length + end
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


def _tensors(header: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shapes by name, and where the last tensor ends. Raises ValueError and the like."""
    shapes, end = {}, 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begins, ends = (whole_number(offset) for offset in entry["data_offsets"])
        shape = tuple(whole_number(side) for side in entry["shape"])
        if not isinstance(entry["dtype"], str) or ends < begins or (math.prod(shape) > 0) != (ends > begins):
            raise ValueError(name)
        shapes[name], end = shape, max(end, ends)
    return shapes, end
