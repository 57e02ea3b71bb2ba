"""Responses written as rows that a run can learn from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rlhf_engine.errors import ConfigError
from rlhf_engine.events import Sample
from rlhf_engine.files.disk import write_new, writing
from rlhf_engine.files.json_text import to_json


def require_new(path: Path) -> None:
    """Raises ConfigError for a file that cannot be written without replacing another, before anything is sampled."""
    if path.suffix != ".jsonl":
        raise ConfigError(f"--out: {path} does not end in .jsonl, as files of such rows do")
    if path.exists() or path.is_symlink():
        raise ConfigError(f"--out: there is already a file {path}, which is not replaced")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out: there is no folder {path.absolute().parent}")


def write_rows(path: Path, samples: Iterable[Sample]) -> None:
    """One JSON object a line: prompt, response, score, and whether the response ends there (finished). Raises RunError
    if the disk refuses."""
    rows = ({"prompt": sample.prompt, "response": sample.response, "score": sample.score, "finished": sample.finished}
            for sample in samples)
    with writing(path):
        write_new(path, "".join(to_json(row, ascii_only=False) + "\n" for row in rows))
