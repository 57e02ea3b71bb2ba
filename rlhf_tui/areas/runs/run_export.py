"""A checkpoint written for other programs, in another process."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from textual.app import App

from rlhf_engine.errors import RlhfError
from rlhf_engine.exporting.export_process import Wanted, export_apart
from rlhf_engine.runs.checkpoint_list import steps
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import RunSummary
from rlhf_tui.areas.runs.run_selection import RunSelection
from rlhf_tui.areas.trust.changed_base import with_base
from rlhf_tui.terminal.clean_text import clean_line


def ask_export(app: App[Any], run: RunSummary, selection: RunSelection) -> None:
    """Ask which checkpoint goes where."""
    from rlhf_tui.areas.runs.export import ExportScreen

    def ask(saved: list[int]) -> None:
        if saved:
            app.push_screen(ExportScreen(run, saved, partial(_export, app)))
        else:
            selection.say(f"{run.name} has no checkpoint to export yet")

    selection.in_background(partial(steps, RunDir(run.path)), ask)


def _export(app: App[Any], wanted: Wanted) -> None:
    def begin(accept_base: bool) -> None:
        # no worker, which would have to end before the app could: the process ends its export by itself
        arguments = (app, replace(wanted, accept_base=accept_base))
        threading.Thread(target=_export_and_tell, args=arguments, name="export", daemon=True).start()
        app.notify(f"exporting {wanted.run.name}@{wanted.step}: that loads the model in another process")

    with_base(app, RunDir(wanted.run), begin)


def _export_and_tell(app: App[Any], wanted: Wanted) -> None:
    try:
        tell = partial(app.notify, clean_line(export_apart(wanted)))
    except RlhfError as error:
        tell = partial(app.notify, clean_line(f"not exported: {error}"), severity="warning")
    with suppress(RuntimeError):  # the app has gone; the export is whole all the same
        app.call_from_thread(tell)
