"""What is kept for the user: the whole traceback of a bug, and what was printed while no run was under way."""

from __future__ import annotations

import os
import traceback
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

_OUTPUT_BYTES = 1024 * 1024


def output_log() -> Path:
    """The file of what libraries and reward functions printed below a screen that showed no run of ours."""
    return Path(platformdirs.user_state_dir("rlhf-tui", appauthor=False)) / "output.log"


def open_output_log() -> int | None:
    """A descriptor of that file, for reading and appending; None where there can be none."""
    path = output_log()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _OUTPUT_BYTES:
            path.replace(path.with_name("output-before.log"))
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None


def write_crash_log(error: BaseException) -> Path | str:
    """The whole traceback into a new file of the user's log folder; its path, or why there is none."""
    moment = datetime.now(UTC)
    try:
        folder = Path(platformdirs.user_log_dir("rlhf-tui", appauthor=False, ensure_exists=True))
        path = folder / f"crash-{moment:%Y%m%dT%H%M%S.%fZ}.log"
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
    except OSError as failure:
        return f"no file ({failure.strerror})"
    return path
