"""Safetensors files that others may have made: read and hashed in one pass, with no more memory than they hold.

The library's own ways map a file, so that one which is cut short meanwhile ends the process, or hold all of it twice.
Here what the header says must agree with the size of the file and with the memory there is before anything is read, so
that a header as large as the file, or a file as large as the disk, is told at once.
"""

from __future__ import annotations

import hashlib
import math
import os
from io import FileIO
from pathlib import Path

import psutil
import torch
from torch import Tensor

from rlhf_engine.files.reading import open_regular
from rlhf_engine.model_folders.safetensors_header import Entry, entries_in
from rlhf_engine.system.units import format_bytes

_LENGTH_BYTES = 8
_MOST_HEADER = 64_000_000  # bytes; a model of 20,000 adapted modules has half of that
_MOST_NAME, _MOST_DIMENSIONS = 400, 8
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
          "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}


def read_tensors(path: Path, digest: object) -> dict[str, Tensor]:
    """The tensors of a file whose SHA-256 is `digest`, hexadecimal.

    Raises OSError where it cannot be read, and ValueError, saying what is wrong, for a file that is not what its header
    says, has another digest, or would not fit into the memory that is free.
    """
    with open_regular(path) as file:
        size, hashed = os.fstat(file.fileno()).st_size, hashlib.sha256()
        start = bytearray(_LENGTH_BYTES)
        _fill(file, memoryview(start))
        length = int.from_bytes(start, "little")
        if length > min(_MOST_HEADER, size - _LENGTH_BYTES):
            raise ValueError(f"it has {size:,} bytes, of which {length:,} would be its header")
        header = bytearray(length)
        _fill(file, memoryview(header))
        entries = _whole(header, size - _LENGTH_BYTES - length)
        _must_fit_into_memory(size)
        hashed.update(start)
        hashed.update(header)
        tensors = {}
        for entry, dtype in entries:
            raw = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
            data = memoryview(raw.numpy())  # type: ignore[arg-type]
            _fill(file, data)
            hashed.update(data)
            tensors[entry.name] = _shaped(raw, entry, dtype)
        if file.read(1):
            raise ValueError("it grows while it is read")
    if hashed.hexdigest() != digest:
        raise ValueError("its SHA-256 is not the one that was written down")
    return tensors


# ---------------------------------------------------------------------------------------------------------------------


def _whole(header: bytearray, data_bytes: int) -> list[tuple[Entry, torch.dtype]]:
    """The tensors with their types, in the order in which they lie in the file, which they must fill without holes."""
    entries = [(entry, _type_of(entry)) for entry in entries_in(header)]
    end = 0
    for entry, _ in entries:
        if entry.begin != end:
            raise ValueError(f"its header lets {entry.name[:80]!r} begin at {entry.begin:,}, and the tensor before it "
                             f"ends at {end:,}")
        end = entry.end
    if end != data_bytes:
        raise ValueError(f"its header tells of {end:,} bytes of tensors, and it holds {data_bytes:,}")
    return entries


def _type_of(entry: Entry) -> torch.dtype:
    """Its type. Raises ValueError for what no checkpoint of ours holds."""
    name = f"{entry.name[:80]!r}"
    if not entry.name.isprintable() or len(entry.name) > _MOST_NAME:
        raise ValueError(f"its header has a name that no tensor has, {name}")
    if entry.dtype not in _TYPES:
        raise ValueError(f"its header describes no tensor of a known type at {name}")
    dtype = _TYPES[entry.dtype]
    if len(entry.shape) > _MOST_DIMENSIONS or entry.end - entry.begin != math.prod(entry.shape) * dtype.itemsize:
        raise ValueError(f"its header gives {name} another number of bytes than its shape has")
    return dtype


def _must_fit_into_memory(size: int) -> None:
    try:
        free = psutil.virtual_memory().available + psutil.swap_memory().free
    except (OSError, RuntimeError):  # a system that does not tell
        return
    if size > free:
        raise ValueError(f"it holds {format_bytes(size)}, and {format_bytes(free)} of memory are free")


def _fill(file: FileIO, data: memoryview) -> None:
    place = 0
    while place < len(data):
        count = file.readinto(data[place : place + (1 << 24)])
        if not count:
            raise ValueError("it ends before what its header tells of")
        place += count


def _shaped(raw: Tensor, entry: Entry, dtype: torch.dtype) -> Tensor:
    try:
        return raw.view(dtype).reshape(entry.shape)
    except RuntimeError:  # nothing in it, and sides too long to multiply
        raise ValueError(f"its header gives {entry.name[:80]!r} a shape that cannot be") from None
