"""Telling a person who looks elsewhere that a run has ended: the terminal's bell, or a notification of the terminal.

Whether the run finished, failed or diverged; one that was stopped was stopped by somebody. The text goes to the
terminal inside an escape sequence (OSC), so no control character of a run's message may be in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from textual.app import App

from rlhf_engine.events import Event, RunState, StateChanged
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.terminal.textual_private import driver_of

LENGTH = 200
_TOLD = {RunState.FINISHED: "finished", RunState.FAILED: "failed", RunState.DIVERGED: "diverged"}


class RunWatch:
    """Tells the end of a run that was seen going on; one that had ended before somebody looked is no news."""

    def __init__(self) -> None:
        self._going = False

    def take(self, events: Iterable[Event], name: str) -> str:
        """What to tell after this batch of events, "" if nothing."""
        told, going = "", self._going
        for event in events:
            if isinstance(event, StateChanged):
                if event.state in _TOLD and self._going:
                    told = f"{name or 'the run'} {_TOLD[event.state]} at step {event.step}/{event.total_steps}"
                    told += f": {event.message}" if event.message else ""
                going = not event.state.ended
        self._going = going
        return told


def sequence(text: str, environ: Mapping[str, str]) -> str:
    """The escape sequence that makes this terminal show `text`: OSC 9, or OSC 777 for those that know only that one.

    Inside tmux it is wrapped, which tmux hands on if its option allow-passthrough is on, and drops if not.
    """
    body = clean_line(text)[:LENGTH]
    if environ.get("VTE_VERSION") or environ.get("TERM", "").startswith("rxvt"):
        said = f"\x1b]777;notify;rlhf-tui;{body}\x1b\\"
    else:
        # begins with a word: "9;4;…" would set a progress bar in some terminals
        said = f"\x1b]9;rlhf-tui: {body}\x1b\\"
    if environ.get("TMUX"):
        said = "\x1bPtmux;" + said.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    return said


def tell(app: App[Any], how: str, text: str) -> None:
    """Tell `text` in the way the settings name: "off", "bell" or "osc"."""
    if how == "bell":
        app.bell()
    elif how == "osc" and not app.is_headless and (driver := driver_of(app)) is not None:
        driver.write(sequence(text, os.environ))
