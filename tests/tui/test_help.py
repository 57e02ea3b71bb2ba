"""Help and the command palette know every key that is not self-evident."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from moments import until
from textual.command import CommandList, CommandPalette
from textual.content import Content
from textual.widgets import Static
from tui.test_hostile_text import hostile, shown_lines

from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.help.commands import WorkbenchCommands
from rlhf_tui.areas.help.glossary import GLOSSARY
from rlhf_tui.areas.help.key_guide import available_actions
from rlhf_tui.areas.help.screen import Chapter, HelpScreen, hanging, search
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.terminal.clipboard import save_picture
from rlhf_tui.widgets.status import AlarmLine


def page(app: WorkbenchApp) -> str:
    return str(app.screen.query_one("#text", Static).content)


async def test_help_names_keys_of_all_panes_and_every_metric(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        text = page(app)
        for expected in ("F5  Start/Stop", "Edit setting", "Edit words", "Log axis", "Copy", "clip range", "diverged"):
            assert expected in text
        for metric in PPOConfig.metrics:
            assert {metric.help, metric.good, metric.bad} <= {line.strip(" ✓✗") for line in text.split("\n")} | {""}
        assert all(f"{word}  {meaning}" in text for word, meaning in (GLOSSARY | PPOConfig.glossary).items())
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)


async def test_help_is_about_the_screen_it_was_asked_on(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c", "question_mark")
        await pilot.pause()
        assert "Run again" in page(app)
        assert "Edit words" not in page(app)
        # a names the first of the two here, so it does not open the alarms
        assert "First" in page(app)
        assert "Alarms" not in page(app).partition("On the screen")[0]


async def test_help_names_keys_as_the_key_bar_does(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        keys = {tuple(line.split()[:2]) for line in page(app).partition("On the screen")[0].split("\n") if line}
        assert {("q", "Quit"), ("Enter", "Edit"), ("Del", "Reset"), ("Space", "Pause"), ("^p", "Commands")} <= keys
        assert not any(key in {"⏎", "esc", "del", "f5", "^q"} for key, *_ in keys)


@pytest.mark.parametrize(("key", "pane"), [("2", "Charts"), ("4", "Samples"), ("1", "Hyperparameters")])
async def test_the_keys_of_the_pane_in_use_come_first(app: WorkbenchApp, key: str, pane: str) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press(key, "question_mark")
        await pilot.pause()
        chapters = [line.removeprefix("Keys · ") for line in page(app).split("\n") if line.startswith("Keys · ")]
        assert chapters[:3] == [f"In {pane}", "On this screen", "Everywhere"]
        assert len(set(chapters)) == len(chapters) > 3


async def test_a_place_is_named_without_its_counts(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("r", "question_mark")
        await pilot.pause()
        assert page(app).startswith("Keys · In Runs\n")


async def test_a_search_shows_only_what_has_all_its_words(app: WorkbenchApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark", "slash", *"pause resume")
        await pilot.pause()
        assert page(app).split("\n") == ["Keys · Everywhere", page(app).split("\n")[1]]
        assert "Pause after this step, or resume" in page(app)
        await pilot.press(*"xyz")
        assert page(app) == "nothing here has these words"
        await pilot.press("escape")
        assert "How PPO works" in page(app)
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, WorkbenchScreen)


async def test_a_search_that_was_submitted_is_read_with_the_keys_of_the_page(app: WorkbenchApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark", "slash", *"the", "enter", "pagedown", "down")
        await pilot.pause()
        assert app.screen.query_one("#page").scroll_offset.y > 1
        await pilot.press("q")
        assert isinstance(app.screen, WorkbenchScreen)


@given(hostile)
def test_any_search_marks_what_it_finds(words: str) -> None:
    chapters = [Chapter("one", (Content("The fox 日本 İstanbul [/x]"), Content("an owl"))), Chapter("two", ())]
    for chapter in search(chapters, words):
        for entry in chapter.entries:
            assert all(word in entry.plain.lower() for word in words.lower().split())


def test_what_was_looked_for_is_marked() -> None:
    (chapter,) = search([Chapter("one", (Content("The fox and the owl"), Content("a fox")))], "THE")
    (entry,) = chapter.entries
    assert [(span.start, span.end) for span in entry.spans] == [(0, 3), (12, 15)]


async def test_a_modal_screen_has_help_of_its_own(app: WorkbenchApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("comma", "question_mark")
        await pilot.pause()
        assert page(app).startswith("Keys · On this screen")
        assert "Cancel" in page(app)


async def test_every_action_with_a_key_is_a_command(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        provider = WorkbenchCommands(app.screen)
        names = {hit.text async for hit in provider.discover()}
        assert {action.name for action in available_actions(app.screen)} | {"Theme", "Screenshot"} == names
        assert {"Start/Stop", "Pause", "Zoom", "Generate", "Compare", "Save preset", "Checkpoint", "Smoothing",
                "Log axis", "Filter", "Help", "Edit setting", "Edit words"} <= names


def found(app: WorkbenchApp, first: str) -> bool:
    """True once the palette offers `first` before all else."""
    return any(offered.option_count and str(offered.get_option_at_index(0).prompt).startswith(first)
               for offered in app.screen.query(CommandList))


async def test_the_palette_begins_with_the_screen_and_names_nothing_twice(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("ctrl+p")
        await until(pilot, lambda: any(found.option_count for found in app.screen.query(CommandList)))
        (commands,) = app.screen.query(CommandList)
        names = [str(commands.get_option_at_index(index).prompt).split("\n")[0]
                 for index in range(commands.option_count)]
        assert names[0] == "Hyperparameters"
        assert names[-2:] == ["Theme", "Screenshot"]
        assert names.count("Quit") == 1
        assert not {"Keys", "Maximize"} & set(names)


async def test_the_picture_of_a_screen_is_saved_where_it_says(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("ctrl+p", *"screenshot")
        await until(pilot, lambda: found(app, "Screenshot"))
        await pilot.press("enter")
        await until(pilot, lambda: "picture: " in app.workbench.query_one(AlarmLine).text)
        said = app.workbench.query_one(AlarmLine).text
        path = Path(said.partition("picture: ")[2])
        assert "Hyperparameters" in path.read_text()
        path.parent.rename(path.parent.with_name("gone"))
        path.parent.write_text("a file where the folder was")
        assert "not written" in save_picture(app)


async def test_a_command_does_what_its_key_does(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("ctrl+p", *"zoom")
        await until(pilot, lambda: found(app, "Zoom"))
        assert isinstance(app.screen, CommandPalette)
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.has_class("-single"))


async def test_commands_are_found_by_their_purpose(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        hits = [hit.text async for hit in WorkbenchCommands(app.screen).search("pause after this step")]
        assert hits == ["Pause"]


@pytest.mark.parametrize("size", [(20, 5), (80, 24), (300, 100)])
async def test_no_size_is_too_small_or_too_large(app: WorkbenchApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press("question_mark", "pagedown", "end")
        await pilot.pause()
        assert all(len(line) <= size[0] for line in shown_lines(app))


def test_what_a_key_is_for_goes_on_under_its_beginning() -> None:
    entry = Content("  F5  Start   begin a run with these settings, or stop it")
    lines = hanging(entry, 14, 40).plain.split("\n")
    assert lines[0].startswith("  F5  Start   begin a run")
    assert lines[1:]
    assert all(line.startswith(" " * 14) and line[14] != " " and len(line) <= 40 for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == " ".join(entry.plain.split())
    assert hanging(entry, 14, 25) == entry  # no room for it
    assert hanging(entry, 0, 40) == entry
