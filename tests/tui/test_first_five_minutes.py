"""The README's first five minutes, on the real engine and the real story model: what is written there comes true."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from moments import until
from textual.pilot import Pilot
from tui.test_generate import shown

from rlhf_engine.config import presets
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.compare.screen import CompareScreen
from rlhf_tui.areas.generate.screen import GenerateScreen
from rlhf_tui.areas.inspect.screen import InspectScreen
from rlhf_tui.areas.leaving.quit_screen import QuitScreen
from rlhf_tui.areas.presets.screen import PresetScreen, SavePresetScreen
from rlhf_tui.areas.samples.answers_screen import AnswersScreen
from rlhf_tui.areas.samples.sample import SampleScreen
from rlhf_tui.engine.bridge import EngineBridge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def steps_of_the_readme() -> list[str]:
    """The numbered steps as they are written, each on one line."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = text.partition("## The first five minutes\n")[2].partition("\n## ")[0]
    return [" ".join(step.split()) for step in re.split(r"^\d+\. ", section, flags=re.MULTILINE)[1:]]


class Reader:
    """Someone who reads a step and does it."""

    def __init__(self, pilot: Pilot[Any], app: WorkbenchApp) -> None:
        self.pilot, self.app = pilot, app
        self._unread = steps_of_the_readme()
        self.step = ""

    def turn_to_the_next_step(self) -> None:
        """The one before must have been done to its last key."""
        assert not re.findall(r"`[^`]+`", self.step), f"not done: {self.step}"
        self.step = self._unread.pop(0)

    def read(self, sentence: str) -> None:
        """What is written comes next in the step."""
        assert sentence in self.step, f"{sentence!r} is not in {self.step!r}"
        self.step = self.step.partition(sentence)[2]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def sees(self, *texts: str) -> None:
        """On the screen, sooner or later."""
        await until(self.pilot, lambda: all(text in shown(self.app) for text in texts),
                    lambda: f"{texts} not in\n{shown(self.app)}")

    async def comes(self, true: Any) -> None:
        await until(self.pilot, true, lambda: shown(self.app))

    def has_read_it_all(self) -> bool:
        return not self._unread


@pytest.fixture
async def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reader]:
    monkeypatch.chdir(tmp_path)
    # a quarter of the stories in each step: a reader would not see it, and training is what this waits for
    config = presets.load_with_overrides("animals", ["train.threads=1", "algorithm.responses_per_step=16"])
    app = WorkbenchApp(EngineBridge(tmp_path / "runs"), config, "animals", start=True)  # make run
    async with app.run_test(size=(120, 40)) as pilot:
        yield Reader(pilot, app)
    app.bridge.close()
    assert app.bridge.join(600)


async def test_every_step_of_the_first_five_minutes_comes_true(reader: Reader) -> None:
    app, press, sees, comes = reader.app, reader.press, reader.sees, reader.comes
    view, charts = app.bridge.view, app.workbench.charts.charts

    reader.turn_to_the_next_step()
    reader.read("`make run`. The screen is there at once")
    assert view.state in (None, RunState.LOADING)
    await sees("1 Hyperparameters", "2 Charts", "3 Reward words", "4 Samples")
    reader.read("then training starts")
    await sees("TRAINING")
    reader.read("points for animals and takes points off for people")
    await sees("+ liked", "cat, dog", "− disliked", "girl, boy")

    reader.turn_to_the_next_step()
    reader.read("pane **2 Charts**: the score rises; the KL")
    await comes(lambda: len(charts[0].points) >= 2)
    assert [chart.metric.name for chart in charts[:2]] == ["objective/scores", "objective/kl"]
    reader.read("towards the dotted target")
    assert charts[1].target == app.edited.config.kl.target
    reader.read("Pane **4 Samples** shows what it says now, liked words green and underlined, disliked ones red and "
                "struck through")
    reader.read("`4` goes there, Enter opens one with its score in parts, Esc closes it")
    await press("4", "enter")
    assert isinstance(app.screen, SampleScreen)
    await sees("animals/liked", "animals/disliked")
    await press("escape")
    reader.read("`Space` holds it")
    await press("space")
    await sees("PAUSED")
    held_at = view.step
    assert 2 <= held_at < app.edited.config.train.steps

    reader.turn_to_the_next_step()
    reader.read("`1` goes to the settings of the run. Go down to `KL target`, Enter, put `2` in the place of 2.6, "
                "Enter")
    await press("1")
    await press(*["down"] * lines_down_to(app, "KL target"), "enter", *["backspace"] * 3, "2", "enter")
    await comes(lambda: any(edit.path == "kl.target" and edit.new == 2.0 for edit in the_run(app).edits()))
    reader.read("`Space` lets the run go on")
    await press("space")
    reader.read("From the next step on, less distance is aimed at; the charts mark that step")
    await comes(lambda: view.step > held_at)
    await press("space")
    await sees("PAUSED")
    assert charts[1].target == 2.0
    assert app.workbench.charts.curves.edits == [held_at + 1]
    reader.read("Type nonsense there: the field says what it takes, and nothing is lost")
    await press("enter", *"lots")
    await sees("a number above 0")
    await press("enter")
    assert app.edited.config.kl.target == 2.0
    await sees("lots")
    await press("escape", "escape")

    reader.turn_to_the_next_step()
    reader.read("`3` goes to the words of the reward, and Enter opens the liked ones as text: add a word, or take one "
                "out; Enter")
    await press("3", "enter", "ctrl+end", *", aardvark", "enter")
    reader.read("It counts from the next step on")
    await comes(lambda: "aardvark" in the_run(app).edits()[-1].new)
    reader.read("Words that the model cannot say are pointed out")
    await sees("never says", "aardvark")

    reader.turn_to_the_next_step()
    reader.read("`4`, choose a sample, `i`: token by token, what actor, reference and critic made of it")
    await press("4", "home", "i")
    assert isinstance(app.screen, InspectScreen)
    await sees("actor", "reference", "value")
    reader.read("Esc leads back. `h` shows one prompt answered again and again")
    await press("escape", "h")
    assert isinstance(app.screen, AnswersScreen)
    await press("escape")

    reader.turn_to_the_next_step()
    reader.read("`c`: reference and tuned answer the same prompts")
    await press("c")
    assert isinstance(app.screen, CompareScreen)
    reader.read("a table tells what changed, with 95 % intervals")
    await sees("95 %", "difference", "liked words", "nats per response")
    await press("escape")
    reader.read("`g` lets you write a prompt of your own and watch both answer")
    await press("g")
    assert isinstance(app.screen, GenerateScreen)
    await press(*["backspace"] * 80, *"One night a fox", "enter")
    await sees("One night a fox", "tuned", "reference")
    await press("escape", "escape", "escape")

    reader.turn_to_the_next_step()
    reader.read("`F5` stops with a checkpoint")
    await press("f5")
    await sees("STOPPED")
    saved = [path.name for path in the_run(app).checkpoints.iterdir()]
    assert f"step-{view.step:06d}" in saved
    reader.read("or starts another run")
    await press("f5")
    await comes(lambda: len(list(app.bridge.runs_root.iterdir())) == 2 and app.bridge.busy)
    await press("f5")
    await sees("STOPPED")
    reader.read("`p` picks another preset")
    await press("p")
    assert isinstance(app.screen, PresetScreen)
    await sees("animals", "kitchen")
    await press("escape")
    reader.read("`F2` saves yours")
    await press("f2")
    assert isinstance(app.screen, SavePresetScreen)
    await press("escape")
    reader.read("Everything is in `runs/<name>/`")
    assert the_run(app).path.parent.name == "runs"
    reader.step = ""  # `q` leaves: below
    assert reader.has_read_it_all()


async def test_q_leaves_and_saves_first(reader: Reader) -> None:
    app = reader.app
    assert "`q` leaves (and saves first)" in steps_of_the_readme()[-1]
    await reader.comes(lambda: app.bridge.view.step >= 1)
    await reader.press("q")
    assert isinstance(app.screen, QuitScreen)
    await reader.press("enter")
    await reader.comes(lambda: app.return_code == 0)
    status = the_run(app).status()
    assert status is not None
    assert status.state is RunState.STOPPED
    assert f"step-{status.step:06d}" in [path.name for path in the_run(app).checkpoints.iterdir()]


def the_run(app: WorkbenchApp) -> RunDir:
    """The run that the workbench began last, as it lies on the disk."""
    assert app.bridge.run_path is not None
    return RunDir.open(app.bridge.run_path)


def lines_down_to(app: WorkbenchApp, label: str) -> int:
    """How often a reader presses ↓ from the first setting to another one, counted on the screen."""
    (group,) = (number for number, line in enumerate(shown(app).splitlines()) if "▾ Main" in line)
    return next(number for number, line in enumerate(shown(app).splitlines()[group + 1 :]) if label in line[:18])
