"""What was found out once and need not be again, in small files of the user's cache folder. No torch here.

A file that is damaged, or cannot be read or written, is as good as none: nothing depends on it but time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from rlhf_engine.files.disk import replace_text
from rlhf_engine.files.json_text import to_json
from rlhf_engine.files.own_files import own_folder
from rlhf_engine.model_folders.model_files import read_json


def read_cache(name: str) -> dict[str, Any]:
    """What the file `name` holds, in the order in which it was learnt; whoever reads it checks what it is."""
    return read_json(_path(name))


def write_cache(name: str, entries: Mapping[str, Any], most: int) -> None:
    """Keep the last `most` of `entries` in the file `name`."""
    path = _path(name)
    with suppress(OSError):
        own_folder(path.parent)
        replace_text(path, to_json(dict(list(entries.items())[-most:])) + "\n")


def cache_folder(name: str) -> Path | None:
    """A folder of that name in it, which nobody else can write to; None where there can be none."""
    try:
        own_folder(_path(name))
    except OSError:
        return None
    return _path(name)


def _path(name: str) -> Path:
    return Path(platformdirs.user_cache_dir("rlhf-tui", appauthor=False)) / name
