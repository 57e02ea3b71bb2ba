"""Every key that the README names does something."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from tui.fake_session import Sessions, story_sample, story_trace
from tui.test_generate import shown, tell

from rlhf_engine.events import StepFinished
from rlhf_tui.app import WorkbenchApp

README = Path(__file__).parents[2] / "README.md"
NAMES = {"Space": "space", "Tab": "tab", "Enter": "enter", "Del": "delete", "Esc": "escape", "⌫": "backspace",
         "←": "left", "→": "right", "↑": "up", "↓": "down", "^p": "ctrl+p", "^z": "ctrl+z", "PgUp": "pageup",
         "PgDn": "pagedown", "Home": "home", "End": "end", "-": "minus", "−": "minus", "+": "plus", "*": "asterisk",
         "/": "slash", "?": "question_mark", ",": "comma", "[": "left_square_bracket", "]": "right_square_bracket",
         ":": "colon"}


def key_of(name: str) -> str:
    """Textual's name of a key as it is written for people."""
    return NAMES.get(name) or (name.lower() if re.fullmatch("F[0-9]+", name) else name)


def named_in_readme() -> list[str]:
    """The keys of the table, and of the paragraph below it."""
    chapter = README.read_text().partition("\n## Keys\n")[2].partition("\n## ")[0]
    rows = [cell for row in chapter.splitlines() if row.startswith("|") and "---" not in row
            for cell in row.split("|")[1::2]]
    found = re.findall("`([^` ]+)`", " ".join(rows)) + re.findall("`([^` ]+)`", chapter.partition("Charts:")[2])
    return list(dict.fromkeys([*found, "Tab", "Space", "2", "3"]))


async def training(app: WorkbenchApp, sessions: Sessions, pilot: Pilot[Any]) -> None:
    """A run that goes on, with samples that have their tokens, and a change that can be taken back."""
    await pilot.press("f5")
    await pilot.pause()
    sessions.last.steps(30)
    for step in (31, 32):
        samples = tuple(story_sample(step, index) for index in range(4))
        traced = tuple(replace(sample, trace=story_trace(sample)) for sample in samples)
        sessions.last.emit(StepFinished(step, 100, {"objective/scores": step * 1.0, "objective/kl": 2.0}, traced, 20.0))
    await tell(pilot, sessions)
    app.workbench.hyperparameters.show_path("kl.coef")
    app.edited.edit("kl.coef", 0.3)
    await pilot.pause()


def seen(app: WorkbenchApp) -> tuple[object, ...]:
    """What is on the screen; the list of words in use is told by its colour alone."""
    return shown(app), app.leaving.code, app.workbench.words.side


async def does(app: WorkbenchApp, pilot: Pilot[Any], pane: str, key: str, *first: str) -> bool:
    """Whether `key` changes anything to be seen, in `pane` of a workbench that trains."""
    await pilot.press(pane, *first)
    await pilot.pause()
    app.workbench.say("before")
    await pilot.pause()
    before = seen(app)
    await pilot.press(key)
    await pilot.pause()
    return before != seen(app)


@pytest.mark.parametrize("name", named_in_readme())
async def test_the_keys_of_the_readme(name: str, app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await training(app, sessions, pilot)
        for pane, *first in (("1",), ("2", "plus"), ("2", "left"), ("4", "down"), ("3",), ("1", "u")):
            if name != pane and await does(app, pilot, pane, key_of(name), *first):
                return
    pytest.fail(f"{name} does nothing in any pane")
