"""Pictures of the reward lab. After a change that is meant: pytest --snapshot-update here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import moments
import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Static
from tui.fake_session import Sessions
from tui.test_generate import tell
from tui.test_reward_lab import pairs, until_shown

from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.events import ComparisonFinished
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.widgets.inputs import WordsArea

SIZES = [(120, 40), (80, 24)]
SnapCompare = Callable[..., bool]
Before = Callable[[Pilot[Any]], Awaitable[None]]


def lab(sessions: Sessions, *keys: str, until: str = "", also: str = "", paste: str = "") -> Before:
    """Train for 41 steps, ask the reference, then press `keys`, and wait for texts."""

    async def run(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, WorkbenchApp)
        rewards = [*app.edited.config.rewards, LengthRewardConfig(max_words=15)]
        app.edited.config = app.edited.config.model_copy(update={"rewards": rewards})
        await pilot.press("f5")
        sessions.last.steps(41)
        await tell(pilot, sessions)
        await pilot.press("w", "r")
        await tell(pilot, sessions, ComparisonFinished(1, pairs()))
        await pilot.press("2")
        await until_shown(pilot, "ref. 8 responses")
        tried = app.screen.query_one("#verdict Static", Static)
        # it is scored beside the screen
        await moments.until(pilot, lambda: "score" in str(tried.content), lambda: str(tried.content))
        await pilot.press(*keys)
        if paste:
            app.screen.query_one(WordsArea).post_message(events.Paste(paste))
        await until_shown(pilot, until)
        await until_shown(pilot, also)
        await pilot.pause()

    return run


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_rewards(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        before = lab(sessions, "1", "end", until="rewards.1.max_penalty")
        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_words(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=lab(sessions, "o", "o", "down", until="most said"))

    def test_a_pasted_list(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        before = lab(sessions, "enter", paste="hen; FOX\ngirl, xylophone, red kite", until="liked and disliked at once")
        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_a_text(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        before = lab(sessions, "3", "enter", *" An owl!", until="words  1 × −0.70", also="1 of 91")
        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_a_new_reward(
        self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]
    ) -> None:
        async def run(pilot: Pilot[Any]) -> None:
            await pilot.press("w", "a", "down", "down", *"whale, sea lion")
            await pilot.pause()
            await pilot.pause()

        assert snap_compare(app, terminal_size=size, run_before=run)
