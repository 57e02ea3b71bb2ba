"""`rlhf-tui label` in a terminal opens the workbench at the label screen: which pairs, whose, into which file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from moments import PATIENCE, until
from textual.pilot import Pilot
from tiny_models import save_tiny_model, tiny_config
from tui.fake_session import Sessions
from tui.test_generate import shown, tell
from tui.test_runs_screen import make_run
from typer.testing import CliRunner

from rlhf_engine.config.fields import replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import RunState
from rlhf_engine.labels.label_file import read_labels
from rlhf_engine.requests import REFERENCE, TUNED, SamplePairs, Side
from rlhf_tui import cli
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.label.label_start import LabelStart, usual_path
from rlhf_tui.areas.label.screen import LabelScreen
from rlhf_tui.engine.bridge import EngineBridge

Opened = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opened:
    """The preset and the options of each workbench that the command line opened, in the place of opening it."""
    found: Opened = []

    def run_workbench(config: RunConfig, preset: str = "", **options: Any) -> int:
        found.append((preset, options))
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "no_screen", lambda: "")
    monkeypatch.setattr("rlhf_tui.launch.run_workbench", run_workbench)
    return found


def call(*args: str) -> Any:
    return CliRunner().invoke(cli.make_workbench_app(), list(args))


def test_a_preset_is_labelled_by_the_reference(opened: Opened) -> None:
    assert call("label", "animals", "--as", "ann").exit_code == 0
    [(preset, options)] = opened
    assert (preset, options["view"]) == ("animals", None)
    assert options["label"] == LabelStart(Path("labels/animals.jsonl"), rater="ann", sides=(REFERENCE, REFERENCE))


def test_what_the_command_line_says_counts(opened: Opened) -> None:
    done = call("label", "animals", "--count", "7", "--out", "mine.jsonl", "--as", "bob", "--ask", "gap", "--responses",
                "6", "--seed", "5", "--repeat-every", "0", "--first", "reference", "--second", "tuned")
    assert done.exit_code == 0, done.output
    [(_, options)] = opened
    assert options["label"] == LabelStart(Path("mine.jsonl"), more=7, rater="bob", sides=(REFERENCE, TUNED), ask="gap",
                                          responses=6, seed=5, repeat_every=0)


def test_what_a_reward_model_learns_on_from_is_judged_into_its_file(opened: Opened) -> None:
    learning = "--set", "rewards.0.labels=labels/ours.jsonl", "--set", "rewards.0.refit_every=5"
    for more, file in [(learning, "ours"), (learning[:2], "human-feedback")]:
        done = call("label", "human-feedback", *more)
        assert done.exit_code == 0, done.output
        assert opened[-1][1]["label"].path == Path(f"labels/{file}.jsonl")


@pytest.mark.parametrize(("name", "step"), [("amber", None), ("amber@3", 3)])
def test_a_run_that_has_ended_is_labelled_by_its_checkpoint(
    opened: Opened, config: RunConfig, name: str, step: int | None
) -> None:
    run = make_run(Path("runs"), config, "amber")
    done = call("label", name, "--second", "reference")
    assert done.exit_code == 0, done.output
    [(preset, options)] = opened
    assert (preset, options["view"].path) == ("animals", run.path)
    assert options["label"].sides == (Side("checkpoint", options["view"].path, step), REFERENCE)
    assert options["label"].path == Path("labels/amber.jsonl")


def test_a_base_that_has_moved_or_changed_is_what_the_command_line_says(
    opened: Opened, config: RunConfig, tmp_path: Path
) -> None:
    make_run(Path("runs"), config, "amber")
    moved = save_tiny_model(tmp_path / "moved", "llama")
    done = call("label", "amber", "--accept-changed-base", "--set", f"model.name={moved}")
    assert done.exit_code == 0, done.output
    [(_, options)] = opened
    assert (options["label"].accept_base, options["label"].moves) == (True, {"model.name": str(moved)})


def test_a_run_that_another_process_drives_is_labelled_by_what_it_records(opened: Opened, config: RunConfig) -> None:
    run = make_run(Path("runs"), config, "amber", state=None)
    with run.lock():
        run.write_status(RunState.TRAINING, 3, 9, "")
        assert call("label", "amber").exit_code == 0
    [(_, options)] = opened
    assert options["label"].sides is None


@pytest.mark.parametrize(("args", "said"), [
    (("nothing-of-the-kind",), "nothing-of-the-kind"), (("animals", "--out", "x.txt"), ".jsonl"),
    (("animals", "--ask", "best"), "random"), (("animals", "--first", "neither"), "--first")])
def test_what_is_wrong_is_told_and_opens_nothing(opened: Opened, args: tuple[str, ...], said: str) -> None:
    done = call("label", *args)
    assert done.exit_code == 2
    assert said in done.output
    assert opened == []


def test_where_there_is_no_screen_nobody_judges(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "no_screen", lambda: "this is no terminal")
    done = call("label", "animals")
    assert done.exit_code == 2
    assert "this is no terminal" in done.output
    assert "--rater" in done.output
    assert opened == []


async def test_the_screen_is_there_from_the_start_and_asks_as_it_was_told(
    bridge: EngineBridge, config: RunConfig, sessions: Sessions, tmp_path: Path
) -> None:
    start = LabelStart(tmp_path / "mine.jsonl", more=3, rater="bob", sides=(REFERENCE, TUNED), ask="gap", responses=6,
                       accept_base=True, moves={"model.name": "there"})
    app = WorkbenchApp(bridge, config, "animals", label=start)
    async with app.run_test(size=(120, 40)) as pilot:
        await _in_view(pilot, sessions)
        request = next(request for request in sessions.last.asked if isinstance(request, SamplePairs))
        assert (request.first, request.second, request.ask, request.responses) == (REFERENCE, TUNED, "gap", 6)
        assert (request.accept_base, request.moves) == (True, {"model.name": "there"})
        await pilot.press("a", "a")
        await until(pilot, lambda: "2/3 judged" in shown(app))
    app = WorkbenchApp(EngineBridge(bridge.runs_root, sessions), config, "animals", label=start)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "2/5 judged" in shown(app))  # three more


async def test_pairs_of_a_model_in_training_are_judged_between_its_steps(tmp_path: Path) -> None:
    config = replace(tiny_config(save_tiny_model(tmp_path / "model", "llama")), {"train.steps": 1000})
    bridge = EngineBridge(tmp_path / "runs")
    app = WorkbenchApp(bridge, config, "mine")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f5")
        await until(pilot, lambda: bridge.view.step > 0)
        await pilot.press("l")
        labels, screen = tmp_path / "labels" / "mine.jsonl", app.screen
        assert isinstance(screen, LabelScreen)
        await until(pilot, lambda: "judged" in shown(app) and "Which is better?" in shown(app))

        deadline = time.monotonic() + PATIENCE
        while not labels.exists() or len(read_labels(labels)) < 3:
            assert time.monotonic() < deadline, shown(app)
            await pilot.press("a")
        origins = [judgement.pair.first.origin for judgement in read_labels(labels)]
        assert {(origin.kind, origin.run) for origin in origins} == {("tuned", bridge.view.name)}
        assert all(origin.step for origin in origins)
        assert bridge.is_training
        bridge.close()
        await until(pilot, lambda: not bridge.alive)


async def _in_view(pilot: Pilot[Any], sessions: Sessions) -> None:
    await until(pilot, lambda: isinstance(pilot.app.screen, LabelScreen) and bool(sessions.last.asked))
    await tell(pilot, sessions)
    await until(pilot, lambda: "(0)" in shown(pilot.app))


def test_labels_lie_beside_the_runs_under_the_name_of_what_answers() -> None:
    for preset, run, name in (("animals", "calm", "animals"), ("./own/mine.toml", "calm", "mine"), ("", "calm", "calm"),
                              ("", "", "labels")):
        assert usual_path(preset, run, Path("x/runs")) == Path("x/labels") / f"{name}.jsonl"


