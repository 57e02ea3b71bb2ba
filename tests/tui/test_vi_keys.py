"""j, k and their like move where they mean nothing else, and are letters where one types."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Input
from tui.fake_session import Sessions
from tui.test_generate import tell

from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.samples.samples import SampleList


@pytest.fixture
async def pilot(app: WorkbenchApp, sessions: Sessions) -> Any:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f5")
        await pilot.pause()
        sessions.last.steps(30)
        await tell(pilot, sessions)
        await pilot.press("1")
        yield pilot


async def test_they_move_in_the_settings_and_in_the_samples(pilot: Any) -> None:
    form, samples = pilot.app.workbench.hyperparameters.form, pilot.app.query_one(SampleList)
    await pilot.press("home")
    first = form.cursor
    await pilot.press("j", "j", "k")
    by_letters = form.cursor
    await pilot.press("home", "down")
    assert form.cursor == by_letters != first
    await pilot.press("G")
    last = form.cursor
    await pilot.press("home", "end")
    assert form.cursor == last
    await pilot.press("4", "j", "j", "j", "k")
    assert samples.cursor == 2
    await pilot.press("ctrl+d")
    assert samples.cursor > 4
    await pilot.press("ctrl+u")
    assert samples.cursor == 2


async def test_a_key_with_a_meaning_of_its_own_keeps_it(pilot: Any) -> None:
    await pilot.press("g")
    assert type(pilot.app.screen).__name__ == "GenerateScreen"


async def test_in_a_field_they_are_letters(pilot: Any) -> None:
    await pilot.press("slash", *"jkG", "colon")
    assert isinstance(pilot.app.focused, Input)
    assert pilot.app.focused.value == "jkG:"
    await pilot.press("f1")  # and help is there all the same
    assert type(pilot.app.screen).__name__ == "HelpScreen"
    await pilot.press("j", "f1")
    assert type(pilot.app.screen).__name__ == "WorkbenchScreen"
    assert pilot.app.focused.value == "jkG:"


async def test_a_colon_opens_the_commands(pilot: Any) -> None:
    await pilot.press("colon")
    assert type(pilot.app.screen).__name__ == "CommandPalette"


async def test_help_tells_of_them(pilot: Any) -> None:
    await pilot.press("f1")
    text = str(pilot.app.screen.query_one("#text").content)
    assert "Ctrl+D" in text
    assert "F1" in text
