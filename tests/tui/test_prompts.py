"""All prompts of a run on one screen, and texts in the user's own editor."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from configs import SMALL
from moments import wait_until
from tui.fake_session import Sessions
from tui.terminal import Terminal
from tui.test_generate import shown
from tui.test_hostile_text import shown_lines

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.presets.prompts import PromptsScreen
from rlhf_tui.areas.presets.screen import PresetScreen
from rlhf_tui.areas.workbench.screen import WorkbenchScreen

MANY = [f"Prompt number {number}," for number in range(1, 41)]


@pytest.fixture
def config(config: RunConfig) -> RunConfig:
    return fields.replace(config, {"data.prompts": MANY})


async def test_all_prompts_are_listed_searched_changed_added_taken_out_and_brought_back(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("P")
        await pilot.pause()
        assert "Prompts · 40" in shown(app)
        for part in ("1  Prompt number 1,", "25  Prompt number 25,"):
            assert part in shown(app), part
        await pilot.press("end")
        await pilot.pause()
        assert "40  Prompt number 40," in shown(app)
        await pilot.press("x")
        assert app.edited.config.data.prompts == MANY[:-1]
        await pilot.press("u")
        assert app.edited.config.data.prompts == MANY
        await pilot.press("a", *"One day", "enter")
        assert app.edited.config.data.prompts == [*MANY, "One day"]
        await pilot.press("slash", *"number 7", "enter", "enter", "end", "backspace", *" and", "enter")
        assert app.edited.config.data.prompts[6] == "Prompt number 7 and"
        await pilot.pause()
        assert "4 of 41" in shown(app)
        await pilot.press("enter", *"lost", "escape")
        assert app.edited.config.data.prompts[6] == "Prompt number 7 and"
        await pilot.press("escape", "escape")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)


async def test_the_last_prompt_stays_and_why_is_said(app: WorkbenchApp) -> None:
    app.edited.config = fields.replace(app.edited.config, {"data.prompts": ["Once"]})
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("P", "x")
        await pilot.pause()
        assert "one at least" in shown(app)
        assert app.edited.config.data.prompts == ["Once"]


async def test_while_a_run_trains_prompts_and_presets_can_be_looked_at(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f5")
        await pilot.pause()
        await pilot.press("P", "x", "a")
        await pilot.pause()
        assert "fixed until it ends" in shown(app)
        assert app.edited.config.data.prompts == MANY
        await pilot.press("escape", "p")
        await pilot.pause()
        assert isinstance(app.screen, PresetScreen)
        before = app.edited.config
        await pilot.press("down", "enter")
        await pilot.pause()
        assert isinstance(app.screen, PresetScreen)
        assert "between runs" in shown(app)
        assert app.edited.config == before


@pytest.mark.parametrize("size", [(20, 5), (60, 16), (80, 24), (300, 100)])
async def test_no_size_is_too_small_or_too_large(app: WorkbenchApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press("P", "a", *"x", "escape", "slash", *"x")
        await pilot.pause()
        assert isinstance(app.screen, PromptsScreen)
        assert all(len(line) <= size[0] for line in shown_lines(app))


async def test_a_screen_that_cannot_be_suspended_says_so(app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "true")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("P", "E")
        await pilot.pause()
        assert "cannot be handed to an editor" in shown(app)


# --- in a real terminal ---

WORKBENCH = """
import sys
sys.path.insert(0, {tests!r})
from tui.fake_session import FakeSession
from rlhf_engine.config import presets
from pathlib import Path
from rlhf_tui.launch import run_workbench
config = presets.load("mine.toml")
sys.exit(run_workbench(config, "mine.toml", runs_root=Path("runs"), session_factory=FakeSession))
"""
PRESET = 'prompts = ["Alpha", "Beta"]\n[[rewards]]\nkind = "word_list"\nname = "words"\nliked = ["fox"]\n'


def editor(folder: Path, body: str) -> str:
    """An editor that writes `body`'s doing into the file, and says on the terminal that it had it."""
    script = folder / "edit.sh"
    script.write_text(f'#!/bin/sh\nprintf "EDITOR-HAS-THE-TERMINAL %s" "$(tty)"\n{body}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return f"{script} -x"


def opened(tmp_path: Path, body: str) -> Terminal:
    (tmp_path / "mine.toml").write_text(PRESET)
    program = WORKBENCH.replace("{tests!r}", repr(str(Path(__file__).parents[1]))).replace("{", "{{").replace("}", "}}")
    return Terminal(tmp_path, program, VISUAL=editor(tmp_path, body))


def test_prompts_words_and_settings_go_through_the_users_own_editor(tmp_path: Path) -> None:
    terminal = opened(tmp_path, 'case "$2" in *prompts.txt) echo Gamma >> "$2";; *liked.txt) echo "wild owl" >> "$2";; '
                                '*.toml) sed -i "s/^coef = .*/coef = 0.77/" "$2";; esac')
    terminal.read_until(b"Hyperparameters")
    terminal.read_until_quiet(0.3)
    terminal.type("P")
    terminal.read_until(b"Beta")
    terminal.type("E")
    terminal.read_until(b"EDITOR-HAS-THE-TERMINAL /dev/")
    terminal.read_until(b"Gamma")
    terminal.read_until_quiet(0.3)
    terminal.type("\x1b")
    terminal.read_until_quiet(0.3)
    terminal.type("3")
    terminal.read_until_quiet(0.3)
    terminal.type("E")
    terminal.read_until(b"wild owl")
    terminal.read_until_quiet(0.3)
    terminal.type("1")
    terminal.read_until_quiet(0.3)
    terminal.type("E")
    terminal.read_until(b"0.77")
    terminal.read_until_quiet(0.3)
    terminal.type("q")
    assert terminal.exit_code() == 0


def test_the_note_on_a_run_goes_through_the_users_own_editor(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "runs", SMALL, name="quiet-owl")
    run.write_note("good")
    terminal = opened(tmp_path, 'echo "and calm" >> "$2"')
    terminal.read_until(b"Hyperparameters")
    terminal.read_until_quiet(0.3)
    terminal.type("r")
    terminal.read_until(b"quiet-owl")
    terminal.read_until_quiet(0.3)
    terminal.type("E")
    terminal.read_until(b"note kept")
    assert run.note == "good\nand calm"
    terminal.type("n")
    terminal.read_until(b"and calm")
    terminal.read_until_quiet(0.3)
    terminal.type("\x1b[20~")  # F9
    wait_until(lambda: run.note == "good\nand calm\nand calm")
    terminal.read_until_quiet(0.3)
    terminal.type("\x1b")
    terminal.read_until_quiet(0.3)
    terminal.type("q")
    assert terminal.exit_code() == 0


def test_settings_that_are_not_allowed_are_named_and_what_was_written_is_not_lost(tmp_path: Path) -> None:
    terminal = opened(tmp_path, 'if grep -q again "$2"; then sed -i "s/^coef = .*/coef = 0.66/" "$2"; '
                                'else sed -i "s/^coef = .*/coef = -5 # again/" "$2"; fi')
    terminal.read_until(b"Hyperparameters")
    terminal.read_until_quiet(0.3)
    terminal.type("E")
    terminal.read_until(b"Not allowed")
    terminal.read_until(b"kl.coef")
    terminal.read_until_quiet(0.3)
    terminal.type("y")
    terminal.read_until(b"0.66")
    terminal.read_until_quiet(0.3)
    terminal.type("q")
    assert terminal.exit_code() == 0


def test_an_editor_that_fails_changes_nothing(tmp_path: Path) -> None:
    terminal = opened(tmp_path, "exit 3")
    terminal.read_until(b"Hyperparameters")
    terminal.read_until_quiet(0.3)
    terminal.type("P")
    terminal.read_until(b"Beta")
    terminal.type("E")
    terminal.read_until(b"ended with 3")
    terminal.type("\x1b")
    terminal.read_until_quiet(0.3)
    terminal.type("q")
    assert terminal.exit_code() == 0
