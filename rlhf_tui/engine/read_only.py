"""Whether the run on the screen can be told anything from here."""

from __future__ import annotations

from typing import Protocol

from rlhf_engine.events import RunState
from rlhf_tui.engine.bridge import EngineBridge


class Say(Protocol):
    """Shows one sentence to whoever sits at the screen; level: "info" or "warning"."""

    def __call__(self, text: str, level: str = "info") -> None: ...


def read_only(bridge: EngineBridge, say: Say) -> bool:
    """True, and said, while the run on the screen is not driven from here."""
    if bridge.lost:
        say(bridge.lost, "warning")
    elif bridge.viewing:
        state = bridge.state
        say("viewing a finished run: t resumes it" if state is RunState.FINISHED
            else "viewing a run that nobody drives: t resumes it" if state is not None and state.ended
            else "viewing: t takes over")
    return bridge.viewing
