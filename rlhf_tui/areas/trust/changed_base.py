"""Asks before a run goes on with a base model that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App

from rlhf_engine.runs.base_model import change_of_base
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.background import in_background, sentence
from rlhf_tui.terminal.clean_text import clean_line


def with_base(app: App[Any], run_dir: RunDir, go_on: Callable[[bool], object]) -> None:
    """Calls `go_on(accept)` once the base of the run is known to be what it was, or a person accepts it as it is now.

    A base that was not looked at before is read from end to end, which takes seconds for a large one: in a thread.
    """
    from rlhf_tui.widgets.dialogs import SureScreen

    async def ask() -> None:
        try:
            changed = await in_background(lambda: change_of_base(run_dir))
        except Exception as error:
            app.notify(sentence(error), severity="warning")
            return
        question = f"{clean_line(changed)}\n\nContinue with it as it is now?"
        if not changed or await app.push_screen_wait(SureScreen("Changed base model", question, lambda: None)):
            go_on(bool(changed))

    app.run_worker(ask, group="base", exclusive=True)  # type: ignore[arg-type]
