"""Sweeps on the workbench: a group in the list of runs, sorted and laid over together, begun from a form."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from moments import until
from textual.pilot import Pilot
from textual.widgets import TextArea
from tui.fake_session import step_metrics
from tui.test_generate import shown
from tui.test_runs_screen import make_run, names, press, said

from rlhf_engine.config import presets
from rlhf_engine.config.fields import replace
from rlhf_engine.config.grid import grid_of
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import RunFigures, RunSummary
from rlhf_engine.runs.sweep_dir import Plan, SweepDir, list_sweeps
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.runs import screen as runs_screen
from rlhf_tui.areas.runs.run_rows import listed
from rlhf_tui.areas.sweep.groups import SweepGroup
from rlhf_tui.areas.sweep.screen import SweepScreen, differing
from rlhf_tui.widgets.dialogs import SureScreen

SIZES = [(120, 40), (80, 24)]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_screen, "READ_SECONDS", 3600.0)  # the list is read when a test is about that


class Begun:
    """Which processes were begun, in the place of beginning them."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: object) -> Begun:
        self.commands.append(command)
        return self

    def poll(self) -> None:
        """It goes on."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    processes = Begun()
    monkeypatch.setattr(subprocess, "Popen", processes)
    return processes


def resumed(begun: Begun) -> str:
    """The sweep that the first of the processes goes on with."""
    command = begun.commands[0]
    at = command.index("sweep")
    assert command[at + 1] == "--resume"
    return command[at + 2]


@pytest.fixture
def sweep(app: WorkbenchApp, config: RunConfig) -> SweepDir:
    """kl.coef 0.1 and 0.5 with two seeds, of which three runs have begun; and the run alone, which changed last."""
    root = app.bridge.runs_root
    grid = grid_of(config, ["kl.coef=0.1,0.5"], "2")
    plan = Plan("animals", grid, tuple(grid.cells("mine")))
    made = SweepDir.create(root, "mine", plan, config)
    states = [(9, RunState.FINISHED), (5, RunState.STOPPED), (7, RunState.FAILED)]
    for hours, (cell, (steps, state)) in enumerate(zip(plan.cells, states, strict=False), 1):
        settings = replace(config, {"kl.coef": float(cell.values[0][1]), "train.seed": cell.seed})
        make_run(root, settings, cell.run, steps=steps, state=state, hours=hours)
    make_run(root, config, "alone")
    return made


# --- the list ---


@pytest.mark.parametrize("size", SIZES)
async def test_a_sweep_is_one_line_until_it_is_unfolded(
    app: WorkbenchApp, sweep: SweepDir, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await press(pilot, "r")
        await until(pilot, lambda: names(app) == ["alone", "mine"], lambda: names(app))
        await until(pilot, lambda: "1 sweep" in shown(app) and "1/4" in shown(app))
        await press(pilot, "down")
        for word in ("4 runs", "1 finished", "1 waiting", "Go on"):
            await until(pilot, lambda word=word: word in shown(app), lambda word=word: f"{word}\n{shown(app)}")
        await press(pilot, "enter")
        await until(pilot, lambda: names(app) == ["alone", "mine", "mine-coef0.1-s0", "mine-coef0.1-s1",
                                                  "mine-coef0.5-s0"], lambda: names(app))
        await until(pilot, lambda: "└─ coef0.1-s1" in shown(app))
        await press(pilot, "n")
        await until(pilot, lambda: "is a sweep" in said(app))
        await press(pilot, "enter", "up")
        await until(pilot, lambda: names(app) == ["alone", "mine"])
        await press(pilot, "slash", "c", "o", "e", "f")  # words find runs, folded or not
        await until(pilot, lambda: len(names(app)) == 3)


async def test_runs_are_sorted_by_any_metric_within_their_sweep(app: WorkbenchApp, sweep: SweepDir) -> None:
    values = {"alone": 2.0, "mine-coef0.1-s0": 1.0, "mine-coef0.1-s1": 3.0, "mine-coef0.5-s0": 2.5}
    for path in app.bridge.runs_root.glob("*/metrics.jsonl"):
        run = RunDir(path.parent)
        run.append_metrics(9, 9.0, {**step_metrics(9), "eval/scores": values[run.name]})
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "r", "end", "enter")
        await until(pilot, lambda: len(names(app)) == 5)
        await press(pilot, "S")
        await press(pilot, *"eval", "enter")
        await until(pilot, lambda: names(app) == ["mine", "mine-coef0.1-s1", "mine-coef0.5-s0", "mine-coef0.1-s0",
                                                  "alone"], lambda: names(app))
        await until(pilot, lambda: "2.5" in shown(app) and "highest" in said(app))
        await press(pilot, "s")
        await until(pilot, lambda: names(app)[0] == "alone")


async def test_all_runs_of_a_sweep_are_laid_over_the_charts_with_one_key(app: WorkbenchApp, sweep: SweepDir) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "r", "end", "o")
        curves = app.workbench.charts.curves
        await until(pilot, lambda: sorted(curves.overlaid) == ["mine-coef0.1-s0", "mine-coef0.1-s1",
                                                               "mine-coef0.5-s0"], lambda: curves.overlaid)
        await press(pilot, "m")
        await until(pilot, lambda: "3 marked" in shown(app))
        await press(pilot, "m")
        await until(pilot, lambda: "marked" not in shown(app))


async def test_a_sweep_is_gone_on_with_and_forgotten_while_its_runs_stay(
    app: WorkbenchApp, sweep: SweepDir, begun: Begun
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "r", "end", "t")
        await until(pilot, lambda: len(begun.commands) == 1)
        assert resumed(begun) == "mine"
        await press(pilot, "x")
        await until(pilot, lambda: isinstance(app.screen, SureScreen))
        await press(pilot, "enter")
        await until(pilot, lambda: "mine" not in names(app) and len(names(app)) == 4)
        assert not list_sweeps(app.bridge.runs_root)


async def test_a_sweep_that_is_driven_is_unfolded_and_stopped_after_a_question(
    app: WorkbenchApp, sweep: SweepDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    code = ("import sys; from pathlib import Path; from rlhf_engine.runs.sweep_dir import SweepDir\n"
            "with SweepDir(Path(sys.argv[1])).driven.lock():\n    print('holds', flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", code, str(sweep.path)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        monkeypatch.setattr("os.kill", lambda pid, number: asked.append((pid, number)))
        async with app.run_test(size=(120, 40)) as pilot:
            await press(pilot, "r")
            await until(pilot, lambda: len(names(app)) == 5, lambda: names(app))
            await press(pilot, "down", "t")
            await until(pilot, lambda: isinstance(app.screen, SureScreen))
            assert not asked
            await press(pilot, "enter")
            await until(pilot, lambda: asked == [(holder.pid, signal.SIGTERM)], lambda: asked)
        monkeypatch.undo()
        holder.kill()


def test_groups_stand_where_their_best_run_does() -> None:
    def run(name: str) -> RunSummary:
        return RunSummary(name, Path(name), "", "finished", 1, 1, "", 0.0)

    runs = [run(name) for name in ("a", "b", "c", "d")]
    figures = {Path(name): RunFigures(score, None, 0, ()) for name, score in
               {"a": 1.0, "b": 4.0, "c": 3.0, "d": 2.0}.items()}
    group = SweepGroup(Path("s"), "s", "", False, 2, {Path("a"): "", Path("c"): ""})

    def order(sort: str, folded: tuple[Path, ...] = ()) -> list[str]:
        return [run.name for _, run in listed(runs, figures, sort=sort, words="", sweeps=[group], folded=folded)]

    assert order("score") == ["b", "s", "c", "a", "d"]
    assert order("name") == ["b", "d", "s", "a", "c"]
    assert order("score", (Path("s"),)) == ["b", "s", "d"]


# --- the form ---


async def open_form(app: WorkbenchApp, pilot: Pilot[Any]) -> SweepScreen:
    await press(pilot, "r", "N")
    await until(pilot, lambda: isinstance(app.screen, SweepScreen))
    assert isinstance(app.screen, SweepScreen)
    return app.screen


@pytest.fixture
def animals(app: WorkbenchApp) -> WorkbenchApp:
    """The workbench with the preset animals, of which the KL target was changed."""
    app.edited.config = replace(presets.load("animals"), {"kl.target": 3.25})
    app.edited._first_original = presets.load("animals")
    return app


@pytest.mark.parametrize("size", SIZES)
async def test_the_form_says_what_is_wrong_as_the_command_does_and_begins_what_is_right(
    animals: WorkbenchApp, begun: Begun, size: tuple[int, int]
) -> None:
    app = animals
    async with app.run_test(size=size) as pilot:
        form = await open_form(app, pilot)
        box = form.query_one("#settings", TextArea)
        assert box.text == "kl.target=3.25\n"
        await until(pilot, lambda: "3 runs" in shown(app), lambda: shown(app))
        box.text = "kl.target=2,x\nalgorithm.kind=ppo,grpo"
        await until(pilot, lambda: "'x'" in shown(app), lambda: shown(app))
        await press(pilot, "f5")
        assert app.screen is form
        assert not begun.commands
        box.text = "kl.target=2,4\nalgorithm.kind=ppo,grpo"
        await until(pilot, lambda: "12 runs" in shown(app) and "2 × 2" in shown(app), lambda: shown(app))
        await press(pilot, "f5")
        await until(pilot, lambda: app.screen is not form, lambda: shown(app))
        ((found, plan),) = list_sweeps(app.bridge.runs_root)
        assert (found.name, len(plan.cells), plan.grid.seeds) == ("animals-target-kind", 12, (0, 1, 2))
        assert resumed(begun) == found.name
        await until(pilot, lambda: "12 waiting" in shown(app), lambda: shown(app))  # the cursor is there


async def test_what_was_typed_is_dropped_only_when_told_twice(animals: WorkbenchApp) -> None:
    async with animals.run_test(size=(120, 40)) as pilot:
        form = await open_form(animals, pilot)
        form.query_one("#settings", TextArea).text = "kl.target=2,4"
        await press(pilot, "escape")
        await until(pilot, lambda: "once more" in shown(animals))
        assert animals.screen is form
        await press(pilot, "escape")
        await until(pilot, lambda: animals.screen is not form)


def test_what_differs_from_the_preset_is_typed_as_the_command_takes_it() -> None:
    animals = presets.load("animals")
    changed = replace(animals, {"algorithm.kind": "grpo", "algorithm.group_size": 4, "kl.coef": 0.1 + 0.2,
                                "data.prompts": ["Once, there", 'a "b"'], "probe.prompt": "One, two"})
    lines = differing(animals, changed)
    grid = grid_of(animals, lines, "1")
    assert grid.axes == ()
    made = replace(animals, presets.parse_overrides(animals, list(grid.fixed)))
    assert made == changed
