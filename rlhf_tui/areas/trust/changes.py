"""Asks before a run goes on with something that is not what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App

from rlhf_tui.background import in_background, sentence
from rlhf_tui.terminal.clean_text import clean_text


def ask_about(app: App[Any], look: Callable[[], str], title: str, go_on: Callable[[bool], object]) -> None:
    """Calls `go_on(False)` once `look` has found nothing changed, or `go_on(True)` once a person accepts what it says.

    look: says what has changed; empty when nothing has. It may take long, and is called in a thread. What it raises is
    said, and the run does not go on.
    """
    from rlhf_tui.widgets.dialogs import SureScreen

    async def ask() -> None:
        try:
            changed = await in_background(look)
        except Exception as error:
            app.notify(sentence(error), severity="warning", markup=False)
            return
        question = f"{clean_text(changed)}\n\nContinue with it as it is now?"
        if not changed or await app.push_screen_wait(SureScreen(title, question, lambda: None)):
            go_on(bool(changed))

    app.run_worker(ask, group=title, exclusive=True)  # type: ignore[arg-type]
