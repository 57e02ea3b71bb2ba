"""Asks before a run goes on with a base model that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from textual.app import App

from rlhf_engine.runs.base_model import change_of_base
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.areas.trust.changes import ask_about


def with_base(app: App[Any], run_dir: RunDir, go_on: Callable[[bool], object]) -> None:
    """Calls `go_on(accept)` once the base of the run is known to be what it was, or a person accepts it as it is now.

    A base that was not looked at before is read from end to end, which takes seconds for a large one.
    """
    ask_about(app, partial(change_of_base, run_dir), "Changed base model", go_on)
