"""SHA-256 of files and folders that rows are read from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from rlhf_engine.errors import ConfigError
from rlhf_engine.files.reading import open_regular

_MOST_OF_A_FOLDER = 4_000_000_000
"""Bytes."""
_MOST_FILES = 10_000
_BLOCK = 1 << 20


def digest_of_file(path: Path, most: int) -> str:
    """Of the contents of a file. Raises OSError for one that has more than `most` bytes, or is no file."""
    digest = hashlib.sha256()
    _add_file(digest.update, path, most)
    return digest.hexdigest()


def digest_of_folder(folder: Path) -> str:
    """Of the names and contents of all files below it, in the order of their names."""
    digest, left = hashlib.sha256(), _MOST_OF_A_FOLDER
    files = []
    for file in folder.rglob("*"):
        if file.is_file():
            files.append(file)
        if len(files) > _MOST_FILES:
            raise ConfigError(f"data.source: {folder} has more than {_MOST_FILES:,} files")
    for file in sorted(files):
        inner = hashlib.sha256()
        left -= _add_file(inner.update, file, left)
        name = os.fsencode(file.relative_to(folder))
        digest.update(b"%s\0%s\n" % (name, inner.digest()))
    return digest.hexdigest()


def _add_file(add: Callable[[bytes], object], path: Path, most: int) -> int:
    """Feeds a file to `add`. Returns its size. Raises OSError for one that is larger than `most` or no file."""
    size = 0
    with open_regular(path, most, follow=True) as file:
        while block := file.read(_BLOCK):
            add(block)
            size += len(block)
    return size
