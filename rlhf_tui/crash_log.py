"""What is kept of a bug: its whole traceback, in the user's log folder."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from pathlib import Path

import platformdirs


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
