"""Rows written as a table: JSON lines, Parquet, or a folder of `datasets`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_engine.data.tables import needed_package
from rlhf_engine.errors import ConfigError, RunError, kind_and_message
from rlhf_engine.files.disk import folder_to_make, replace_bytes, writing
from rlhf_engine.files.json_text import to_json
from rlhf_engine.system.streams import captured

SUFFIXES = (".jsonl", ".parquet")


def require_new_table(path: Path) -> None:
    """Raises ConfigError for a file that would replace another, or is of no kind that is written."""
    if path.suffix and path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: tables are written as .jsonl, .parquet, or, without an ending, as a folder of "
                          "`datasets`")
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path} is there already, and nothing is replaced; name a new one")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.absolute().parent}")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of the same keys to a path that `require_new_table` takes. Raises RunError if the disk refuses, and
    ConfigError for want of a package."""
    if path.suffix == ".jsonl":
        lines = (f"{to_json(row, ascii_only=False)}\n" for row in rows)
        with writing(path):
            replace_bytes(path, (line.encode(errors="backslashreplace") for line in lines))
        return
    datasets = needed_package("datasets", "tables other than .jsonl")
    try:
        with captured():
            datasets.disable_progress_bars()
            made = datasets.Dataset.from_list([dict(row) for row in rows])
            made.to_parquet(str(path)) if path.suffix else made.save_to_disk(str(folder_to_make(path)))
    except Exception as error:  # somebody else's code
        raise RunError(f"{path} could not be written ({kind_and_message(error)}).") from error
