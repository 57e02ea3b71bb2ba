"""Text that is selected with the mouse is what Ctrl+C copies, everywhere, and where it went is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from tui.fake_session import STORIES, Sessions
from tui.test_generate import shown, tell

from rlhf_engine.events import RunState
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.samples.samples import SampleList


async def drag(pilot: Pilot[Any], widget: Widget, begin: tuple[int, int], end: tuple[int, int]) -> None:
    """Press the button at one place of `widget`, and let it go at another."""
    await pilot.mouse_down(widget, offset=begin)
    await pilot.hover(widget, offset=end)
    await pilot.mouse_up(widget, offset=end)
    await pilot.pause()


def copied(tmp_path: Path) -> str:
    (path,) = tmp_path.rglob("copied.txt")
    return path.read_text()


@pytest.fixture
async def pilot(app: WorkbenchApp, sessions: Sessions) -> Any:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f5")
        await pilot.pause()
        sessions.last.steps(6)
        await tell(pilot, sessions)
        yield pilot


async def test_a_part_of_a_sample_is_copied_as_it_stands_there(pilot: Any, tmp_path: Path) -> None:
    samples = pilot.app.query_one(SampleList)
    line = samples.render_line(1).text
    begin = 30
    await drag(pilot, samples, (begin, 1), (begin + 20, 1))
    assert type(pilot.app.screen).__name__ == "WorkbenchScreen"  # a drag is no click
    assert samples.cursor == 0
    await pilot.press("ctrl+c")
    assert copied(tmp_path) == line[begin:begin + 21].rstrip()  # the letter under the pointer too
    assert pilot.app.clipboard == copied(tmp_path)
    assert "clipboard" in shown(pilot.app)


async def test_lines_that_are_selected_together_stay_lines(pilot: Any, tmp_path: Path) -> None:
    samples = pilot.app.query_one(SampleList)
    first, second, third = (samples.render_line(line).text for line in (1, 2, 3))
    await drag(pilot, samples, (30, 1), (40, 3))
    await pilot.press("ctrl+c")
    assert copied(tmp_path) == f"{first[30:].rstrip()}\n{second.rstrip()}\n{third[:41].rstrip()}"


async def test_a_text_that_is_wrapped_is_copied_as_it_was_written(pilot: Any, tmp_path: Path) -> None:
    await pilot.press("4", "enter")
    page = next(widget for widget in pilot.app.screen.query(Widget).results(Widget)
                if not widget.children and any(story[:20] in str(widget.render()) for story in STORIES))
    height = page.size.height
    await drag(pilot, page, (0, 0), (page.size.width - 1, height - 1))
    await pilot.press("ctrl+c")
    assert any(story in copied(tmp_path) for story in STORIES)


async def test_a_setting_and_a_word_list_can_be_copied_and_are_not_opened_by_that(pilot: Any, tmp_path: Path) -> None:
    for pane, wanted in (("#hyperparameters Lines", "KL coef"), ("#words-shown", "liked")):
        widget = pilot.app.screen.query(pane).first()
        await drag(pilot, widget, (0, 0), (20, 4))
        assert pilot.app.focused.__class__.__name__ not in ("EditField", "WordsArea")
        await pilot.press("ctrl+c")
        assert wanted in copied(tmp_path)


async def test_without_a_selection_ctrl_c_says_how_to_quit(pilot: Any, tmp_path: Path) -> None:
    await pilot.press("ctrl+c")
    assert "q quits" in shown(pilot.app)
    chart = pilot.app.screen.query(".canvas").first()
    await drag(pilot, chart, (3, 2), (20, 4))  # a picture lights nothing up
    await pilot.press("ctrl+c")
    assert not list(tmp_path.rglob("copied.txt"))
    assert pilot.app.bridge.state is RunState.TRAINING


async def test_a_field_copies_what_is_selected_in_it(pilot: Any, tmp_path: Path) -> None:
    await pilot.press("g", "shift+home", "ctrl+c")
    assert copied(tmp_path) == "Once upon a time"
