"""What is kept for the user: the whole traceback of a bug, and what was printed while no run was under way."""

from __future__ import annotations

import os
import traceback
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from rlhf_engine.files.disk import os_error_reason, write_new
from rlhf_engine.files.own_files import open_to_add, own_folder
from rlhf_engine.system.visible_text import visible

_OUTPUT_BYTES = 1024 * 1024


def output_log() -> Path:
    """The file of what libraries and reward functions printed below a screen that showed no run of ours."""
    return Path(platformdirs.user_state_dir("rlhf-tui", appauthor=False)) / "output.log"


def open_output_log() -> int | None:
    """A descriptor of that file, for reading and appending; None where there can be none."""
    path = output_log()
    try:
        own_folder(path.parent)
        handle = open_to_add(path)
        if os.fstat(handle).st_size <= _OUTPUT_BYTES:
            return handle
        os.close(handle)
        path.replace(path.with_name("output-before.log"))
        return open_to_add(path)
    except OSError:
        return None


def write_crash_log(error: BaseException) -> Path | str:
    """The whole traceback into a new file of the user's log folder; its path, or why there is none."""
    moment = datetime.now(UTC)
    try:
        folder = own_folder(Path(platformdirs.user_log_dir("rlhf-tui", appauthor=False)))
        path = folder / f"crash-{moment:%Y%m%dT%H%M%S.%fZ}.log"
        write_new(path, visible("".join(traceback.format_exception(error))))
    except OSError as failure:
        return f"no file ({os_error_reason(failure)})"
    return path
