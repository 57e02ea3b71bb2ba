"""Choosing a preset and keeping one."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.style import Style
from textual import events
from textual.widgets import OptionList
from tui.fake_session import Sessions
from tui.test_generate import shown
from tui.test_hostile_text import shown_lines

from rlhf_engine.config import fields, presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import RunState
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.presets.screen import PresetScreen, SavePresetScreen
from rlhf_tui.areas.workbench.screen import WorkbenchScreen


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> None:
    """Presets of these tests only: two that ship, none of the user's."""
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir()
    monkeypatch.setattr(presets, "shipped_folder", lambda: shipped)
    monkeypatch.setattr(presets, "user_folder", lambda: own)
    for name, description in (("animals", "stories with animals"), ("sea", "stories at sea")):
        presets.save(name, config.model_copy(update={"description": description}))
        (own / f"{name}.toml").rename(shipped / f"{name}.toml")


async def test_typing_filters_and_enter_takes(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("p")
        await pilot.pause()
        for text in ("animals", "stories at sea", "storyteller", "prompts", "+ 4 words  fox, owl, bear, rabbit",
                     "− 3 words", "actor lr"):
            assert text in shown(app)
        await pilot.press(*"sea", "enter")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)
        assert app.edited.preset == "sea"
        assert app.edited.config.description == "stories at sea"


async def test_a_preset_says_where_its_prompts_come_from_and_what_is_held_out(
    app: WorkbenchApp, tmp_path: Path, config: RunConfig
) -> None:
    (tmp_path / "rows.txt").write_text("A line\n")
    data = {"data.source": str(tmp_path / "rows.txt"), "data.prompts": [], "data.held_out": ["Never seen"],
            "data.held_out_share": 0.25}
    presets.save("filed", fields.replace(config, data))
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("p", *"filed")
        await pilot.pause()
        for text in ("rows.txt", "held out", "25 %"):
            assert text in shown(app)


async def test_esc_empties_the_filter_and_then_takes_nothing(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("p", *"sea", "escape")
        assert isinstance(app.screen, PresetScreen)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)
        assert app.edited.preset == "animals"


async def test_a_preset_that_cannot_be_read_says_why(app: WorkbenchApp, tmp_path: Path) -> None:
    (tmp_path / "shipped" / "broken.toml").write_text('prompts = ["x"]\ncolour = "[/x]"\n')
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("p", *"broken")
        await pilot.pause()
        assert "colour" in shown(app)


async def test_nothing_matches(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("p", *"zzz", "enter")
        await pilot.pause()
        assert "no preset matches" in shown(app)


async def test_the_name_is_checked_as_one_types(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f2", "slash", "enter")
        await pilot.pause()
        assert "✗ letters, digits" in shown(app)
        assert isinstance(app.screen, SavePresetScreen)


async def test_saving_and_overwriting_asks(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f2", *"mine", "enter")
        await pilot.pause()
        assert presets.load("mine") == app.edited.config
        await pilot.press("f2", *"mine", "enter")
        await pilot.pause()
        assert "Enter once more overwrites mine" in shown(app)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)


async def test_a_saved_preset_is_the_open_one_from_then_on(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        app.workbench.hyperparameters.show_path("kl.coef")
        await pilot.press("enter", *["backspace"] * 3, *"7", "enter", "f2", *"mine", "enter")
        await pilot.pause()
        assert app.edited.preset == "mine"
        assert "next: mine" in shown(app)
        assert app.edited.original == app.edited.config  # nothing differs from the preset any more
        await pilot.press("f5")
        await pilot.pause()
        assert "mine" in sessions.last.started
        assert app.preferences.now.last_preset != "mine"
    assert app.preferences.now.last_preset == "mine"


async def test_a_preset_saved_while_a_run_trains_is_that_of_the_next_run(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f5")
        await pilot.pause()
        await pilot.press("f2", *"mine", "enter")
        await pilot.pause()
        assert app.bridge.view.preset == "animals"
        assert app.edited.preset == "mine"
        sessions.last.end(RunState.FINISHED)
        app.show_events(app.bridge.drain())
        await pilot.pause()
        assert "next: mine" in shown(app)
        await pilot.press("f5")
        await pilot.pause()
        assert sessions.last.started == ["animals", "mine"]


async def test_a_name_that_ships_is_said_to_be_overridden(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f2", *"sea")
        await pilot.pause()
        assert "This overrides the shipped preset “sea”" in shown(app)
        await pilot.press("enter")
        await pilot.pause()
        assert app.edited.preset == "sea"
        assert presets.load("sea") == app.edited.config


async def test_a_preset_of_ones_own_is_removed_when_asked_for_and_shipped_ones_stay(app: WorkbenchApp) -> None:
    presets.save("mine", app.edited.config)
    presets.save("sea", app.edited.config)  # stands in front of the one that ships
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("p", "f8")
        await pilot.pause()
        assert "animals comes with rlhf-tui and stays" in shown(app)
        await pilot.press("down", "f8", "escape")
        await pilot.pause()
        assert presets.load("mine") == app.edited.config
        await pilot.press("f8")
        await pilot.pause()
        assert "Remove your preset mine for good?" in shown(app)
        await pilot.press("enter")
        await pilot.pause()
        assert [info.name for info in presets.available()] == ["animals", "sea"]
        assert "mine" not in shown(app)
        await pilot.press("f8", "y")
        await pilot.pause()
        assert presets.load("sea").description == "stories at sea"  # the one behind it shows again
        assert "yours" not in shown(app)
        await pilot.press(*"zzz", "f8")
        assert isinstance(app.screen, PresetScreen)


async def test_what_was_edited_is_what_is_saved(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        app.workbench.hyperparameters.show_path("kl.coef")
        await pilot.press("enter", *"7", "enter", "f2", *"mine", "enter")
        await pilot.pause()
        assert presets.load("mine").kl.coef == 7


@pytest.mark.parametrize("size", [(20, 5), (60, 16), (80, 24), (300, 100)])
@pytest.mark.parametrize("key", ["p", "f2"])
async def test_no_size_is_too_small_or_too_large(
    app: WorkbenchApp, sessions: Sessions, size: tuple[int, int], key: str
) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press(key, "x", "down")
        await pilot.pause()
        assert all(len(line) <= size[0] for line in shown_lines(app))


async def test_a_click_on_a_line_whose_option_is_gone_does_nothing(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("p")
        names = app.screen.query_one("#names", OptionList)
        names.post_message(events.Click(names, 1, 1, 0, 0, 1, False, False, False, style=Style(meta={"option": 7})))
        await pilot.pause()
        assert isinstance(app.screen, PresetScreen)
