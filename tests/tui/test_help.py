"""Help and the command palette know every key that is not self-evident."""

from __future__ import annotations

import pytest
from textual.command import CommandPalette
from textual.widgets import Static
from tui.test_hostile_text import shown_lines

from rlhf_engine.metrics import REGISTRY
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.commands import WorkbenchCommands
from rlhf_tui.key_guide import deeds
from rlhf_tui.screens.workbench import WorkbenchScreen


def page(app: WorkbenchApp) -> str:
    return str(app.screen.query_one("#text", Static).content)


async def test_help_names_keys_of_all_panes_and_every_metric(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        text = page(app)
        for expected in ("f5  Start/Stop", "Edit setting", "Edit words", "Log axis", "Copy", "clip range", "diverged"):
            assert expected in text
        assert all(metric.help in text for metric in REGISTRY.values())
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)


async def test_help_is_about_the_screen_it_was_asked_on(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c", "question_mark")
        await pilot.pause()
        assert "Run again" in page(app)
        assert "Edit words" not in page(app)


async def test_every_action_with_a_key_is_a_command(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        provider = WorkbenchCommands(app.screen)
        names = {hit.text async for hit in provider.discover()}
        assert {deed.name for deed in deeds(app.screen)} == names
        assert {"Start/Stop", "Pause", "Zoom", "Generate", "Compare", "Save preset", "Checkpoint", "Smoothing",
                "Log axis", "Filter", "Help", "Edit setting", "Edit words"} <= names


async def test_a_command_does_what_its_key_does(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("ctrl+p", *"zoom")
        await pilot.pause(0.3)
        assert isinstance(app.screen, CommandPalette)
        await pilot.press("enter")
        await pilot.pause(0.3)
        assert app.screen.has_class("-single")


async def test_commands_are_found_by_their_purpose(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        hits = [hit.text async for hit in WorkbenchCommands(app.screen).search("hold the run")]
        assert hits == ["Pause"]


@pytest.mark.parametrize("size", [(20, 5), (80, 24), (300, 100)])
async def test_no_size_is_too_small_or_too_large(app: WorkbenchApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press("question_mark", "pagedown", "end")
        await pilot.pause()
        assert all(len(line) <= size[0] for line in shown_lines(app))
