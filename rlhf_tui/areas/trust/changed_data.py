"""Asks before a run goes on with data that are not those it learnt from so far."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from textual.app import App

from rlhf_engine.errors import short
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.areas.trust.changes import ask_about

_ROWS, _LETTERS = 3, 60  # that are shown of what lies there now


def with_data(app: App[Any], run_dir: RunDir, go_on: Callable[[bool], object]) -> None:
    """Calls `go_on(accept)` once the data of the run are known to be what they were, or a person accepts them as they
    are now. They are read from end to end."""
    ask_about(app, partial(_change, run_dir), "Changed data", go_on)


def _change(run_dir: RunDir) -> str:
    """What has changed, and what lies there now; empty if nothing has. Raises ConfigError if that cannot be read."""
    from rlhf_engine.data.pinning import change_of_data
    from rlhf_engine.data.preview import look_at_source
    from rlhf_engine.runs.run_settings import settings_now

    changed = change_of_data(run_dir)
    if not changed:
        return ""
    config = settings_now(run_dir)
    of_prompts = config.algorithm.needs.batch == "prompts"
    last = {sample.prompt for sample in run_dir.newest_samples()} if of_prompts else set()
    found = look_at_source(config, _ROWS, last)
    if found is None:
        return changed
    source = str(config.data.source)
    rows = "row" if found.rows == 1 else "rows"
    out = f", {found.held_out:,} held out" if found.held_out else ""
    first = "".join(f"\n  {short(' '.join(row.text.split()), _LETTERS)}" for row in found.first)
    learnt = f"\n\nMissing now: {found.missing} of {len(last)} prompts that the run answered last." if last else ""
    return f"{changed}\n\nNow it has {found.rows:,} {rows}{out}{_written(source)}; it begins:{first}{learnt}"


def _written(source: str) -> str:
    """When the source was last written, as far as that can be told."""
    try:
        written = time.localtime(os.stat(os.path.expanduser(source)).st_mtime)
    except (OSError, ValueError, OverflowError):
        return ""
    return time.strftime(", written %Y-%m-%d %H:%M", written)
