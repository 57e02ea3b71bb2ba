"""The question whether code of a reward may run, as a test answers it."""

from __future__ import annotations

from typing import Any

from moments import until
from textual.app import App
from textual.pilot import Pilot

from rlhf_tui.areas.trust.trust_screen import TrustScreen


def asks(app: App[Any]) -> bool:
    """Whether the question is on the screen."""
    return isinstance(app.screen, TrustScreen)


async def agree(pilot: Pilot[Any]) -> None:
    """A yes, which counts once there was time to read."""
    await until(pilot, lambda: asks(pilot.app))
    question = pilot.app.screen
    while pilot.app.screen is question:
        await pilot.press("y")
        await pilot.pause(0.05)
