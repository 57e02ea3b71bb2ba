"""The runs screen: looking through runs, and doing something with them."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from moments import until
from textual.pilot import Pilot
from textual.widgets import TextArea
from tui.fake_session import Sessions, step_metrics
from tui.settled import workers_done
from tui.test_generate import shown, tell
from tui.test_hostile_text import is_harmless, shown_lines

from rlhf_engine.config.fields import replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import RunStarted, RunState
from rlhf_engine.requests import Fork, Resume, Start
from rlhf_engine.runs.parent import Parent
from rlhf_engine.runs.run_care import list_trash, move_to_trash, rename_run
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import RunFigures, RunSummary, list_runs
from rlhf_engine.system.units import format_bytes
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.help.screen import HelpScreen
from rlhf_tui.areas.runs import run_reader
from rlhf_tui.areas.runs import screen as runs_screen
from rlhf_tui.areas.runs.differences import DifferencesScreen
from rlhf_tui.areas.runs.fork import ForkScreen
from rlhf_tui.areas.runs.run_dialogs import NoteScreen
from rlhf_tui.areas.runs.run_rows import age, clean_run, columns, listed, run_line, started
from rlhf_tui.areas.runs.screen import RunsScreen
from rlhf_tui.areas.runs.trash import TrashScreen
from rlhf_tui.areas.workbench import screen as workbench
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.engine import viewer
from rlhf_tui.widgets.dialogs import SureScreen

WIDE = (120, 40)


def make_run(
    root: Path, config: RunConfig, name: str, *, steps: int = 3, state: RunState | None = RunState.STOPPED,
    parent: RunDir | None = None, hours: float = 0.0,
) -> RunDir:
    """A run as a trainer leaves it, with checkpoints of its first and last step that hold only settings."""
    run = RunDir.create(root, config, name=name, preset="animals",
                        parent=Parent(parent.name, 2, parent.id) if parent else None)
    about = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(about | {"started": "2026-11-26T09:30:00+00:00"}))
    for step in range(1, steps + 1):
        run.append_metrics(step, step / 2, step_metrics(step))
    for step in {0, steps}:
        folder = run.checkpoints / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"config": config.model_dump()}))
    if state:
        with run.lock():
            run.write_status(state, steps, config.train.steps, f"{state.value} after step {steps}")
        os.utime(run.path / "status.json", (time.time() - hours * 3600,) * 2)
    return run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(runs_screen, "READ_SECONDS", 3600.0)  # the list is read when a test is about that


@pytest.fixture
def three(app: WorkbenchApp, config: RunConfig) -> list[RunDir]:
    """amber, its fork bold with another KL coefficient, and calm; the last changed first."""
    root = app.bridge.runs_root
    amber = make_run(root, config, "amber", steps=5, hours=1)
    bold = make_run(root, replace(config, {"kl.coef": 0.5}), "bold", parent=amber, state=RunState.FAILED, hours=2)
    return [amber, bold, make_run(root, config, "calm", steps=9, state=RunState.FINISHED, hours=3)]


async def settle(pilot: Pilot[Any]) -> None:
    """Let the screen read the runs."""
    await workers_done(pilot)


async def press(pilot: Pilot[Any], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


def names(app: WorkbenchApp) -> list[str]:
    assert isinstance(app.screen, RunsScreen)
    return [run.name for _, run in app.screen._table.rows]


def said(app: WorkbenchApp) -> str:
    return app.screen._alarm.text  # type: ignore[attr-defined]


# --- the list ---


async def test_runs_stand_below_the_run_they_came_from_with_what_is_known_of_them(
    app: WorkbenchApp, three: list[RunDir]
) -> None:
    three[0].write_note("learnt fast")
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r")
        text = shown(app)
        for part in ("amber  ✎", "└─ bold", "✗ failed", "■ stopped", "5/", "learnt fast", "steps 5, 0", "animals",
                     "1h", f"{step_metrics(5)['objective/scores']:+.2f}", "Runs · 3"):
            assert part in text, part
        await press(pilot, "down")
        assert "fork of  amber at step 2" in shown(app)


async def test_orders_and_search(app: WorkbenchApp, three: list[RunDir]) -> None:
    three[2].write_note("too many owls")
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "s")
        assert names(app) == ["amber", "bold", "calm"]
        await press(pilot, "s", "s")
        assert names(app) == ["calm", "amber", "bold"]  # the most steps first
        await press(pilot, "slash", *"owls")
        assert names(app) == ["calm"]
        assert "1 of 3" in shown(app)
        await press(pilot, "enter")
        assert app.focused is app.screen._table  # type: ignore[attr-defined]
        await press(pilot, "escape")
        assert len(names(app)) == 3
        await press(pilot, "escape")
        assert isinstance(app.screen, WorkbenchScreen)


async def test_no_runs_at_all(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "enter", "t", "f", "m", "i", "c", "o", "n", "e", "R", "x", "down", "end")
        assert "no runs yet: F5 on the workbench starts one" in shown(app)
        await press(pilot, "T")
        assert "the trash is empty" in shown(app)


async def test_a_folder_that_cannot_be_read_is_said(app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app.bridge.runs_root.mkdir()

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r")
        assert "cannot be listed" in said(app)


async def test_the_cursor_stays_on_its_run_when_others_come_and_go(
    app: WorkbenchApp, three: list[RunDir], config: RunConfig
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "end")
        make_run(app.bridge.runs_root, config, "dawn")
        app.screen._reader.read()  # type: ignore[attr-defined]
        await settle(pilot)
        assert names(app)[0] == "dawn"
        assert app.screen._table.selected.name == "calm"  # type: ignore[attr-defined]


async def test_a_key_is_heard_while_the_runs_are_read(
    app: WorkbenchApp, three: list[RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, may_go_on, listed = threading.Event(), threading.Event(), run_reader.list_runs

    def hold(root: Path) -> list[RunSummary]:
        reading.set()
        may_go_on.wait()
        return listed(root)

    monkeypatch.setattr(run_reader, "list_runs", hold)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("r")
        await until(pilot, reading.is_set)
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape")
        may_go_on.set()
        await settle(pilot)
        assert "Runs · 3" in shown(app)


async def test_hundreds_of_runs_are_listed_at_once(app: WorkbenchApp, config: RunConfig) -> None:
    first = make_run(app.bridge.runs_root, config, "run-000")
    for number in range(1, 500):
        shutil.copytree(first.path, app.bridge.runs_root / f"run-{number:03}")
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r")
        assert "Runs · 500" in shown(app)
        await press(pilot, "end")
        assert len(app.screen._reader.figures) == 500  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(20, 5), (60, 16), (300, 100)])
async def test_no_size_is_too_small_or_too_large(
    app: WorkbenchApp, three: list[RunDir], size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await press(pilot, "r", "down")
        for key in "fTxeni":
            await press(pilot, key)
            assert all(len(line) <= size[0] for line in shown_lines(app))
            await press(pilot, "escape")
            assert isinstance(app.screen, RunsScreen)


def test_a_line_is_as_wide_as_asked_and_columns_go_before_the_name() -> None:
    run = RunSummary("a" * 40, Path("a"), "animals", "training", 3, 10, "", 0.0)
    for width in (1, 10, 30, 60, 120):
        assert run_line(3, run, None, width, now=0, marked=True, open=True).cell_length == width
    assert [name for name, _ in columns(60)] == ["state", "step", "score", "KL"]


def test_figures_are_short() -> None:
    sizes = [format_bytes(n) for n in (0, 999, 1500, 123456, 3_400_000_000)]
    assert sizes == ["0 B", "999 B", "1.5 kB", "123 kB", "3.4 GB"]
    assert [age(n) for n in (-5, 59, 60, 7200, 86400 * 3, 86400 * 30)] == ["now", "now", "1m", "2h", "3d", "4w"]


def test_what_has_no_score_ranks_last() -> None:
    runs = [RunSummary(name, Path(name), "", "stopped", 0, 0, "", 0.0) for name in "abc"]
    figures = {Path("a"): RunFigures(None, None, 0, ()), Path("b"): RunFigures(1.0, None, 0, ()),
               Path("c"): RunFigures(float("nan"), None, 0, ())}
    assert [run.name for _, run in listed(runs, figures, sort="score", words="")] == ["b", "a", "c"]


# --- onto the workbench ---


async def test_opening_a_run_shows_its_curves_and_settings_and_drives_nothing(
    app: WorkbenchApp, sessions: Sessions, three: list[RunDir]
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "down", "enter")
        await watched(pilot, app)
        assert app.bridge.viewing
        assert app.edited.config.kl.coef == 0.5
        assert "bold" in shown(app)
        assert app.workbench.charts.charts[0].points[-1][0] == 3
        await press(pilot, "r", "home", "enter")  # another one in its place
        await watched(pilot, app)
        assert app.workbench.charts.charts[0].points[-1][0] == 5
        assert not any(isinstance(one, Start | Resume) for session in sessions for one in session.asked)
        await press(pilot, "r", "v")
        assert not app.bridge.viewing


async def watched(pilot: Pilot[Any], app: WorkbenchApp) -> None:
    def seen() -> bool:
        app.show_events(app.bridge.drain())
        return app.bridge.state is not None

    await until(pilot, seen)
    await pilot.pause()


async def test_a_run_goes_on_here_with_its_own_settings_and_its_curves(
    app: WorkbenchApp, sessions: Sessions, three: list[RunDir]
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "down", "t")

        def taken_up() -> bool:
            app.show_events(app.bridge.drain())
            return sessions.last.busy

        await until(pilot, taken_up)
        assert Resume(three[1].path) in sessions.last.asked
        await pilot.pause()
        assert app.edited.config.kl.coef == 0.5
        assert app.workbench.charts.charts[0].points[-1][0] == 3
        await press(pilot, "r", "t")
        assert "F5 stops it first" in said(app)
        await press(pilot, "enter")
        assert "F5 stops it first" in said(app)


async def test_a_run_that_is_driven_elsewhere_is_not_resumed_and_one_that_is_done_only_for_more_steps(
    app: WorkbenchApp, sessions: Sessions, three: list[RunDir], config: RunConfig
) -> None:
    make_run(app.bridge.runs_root, replace(config, {"train.steps": 3}), "done", state=RunState.FINISHED)
    held = make_run(app.bridge.runs_root, config, "held", state=RunState.PAUSED)
    async with app.run_test(size=WIDE) as pilot:
        with held.lock():
            await press(pilot, "r", "s", "home")
            assert "t Resume" in shown(app)
            await press(pilot, "end", "up", "t")
            assert "finished (3/3); trains to step 6" in shown(app)
            await press(pilot, "escape", "end", "t")
            assert "held is driven by another process" in said(app)
            assert "Resume" not in shown(app)
            await press(pilot, "x", "y")
            assert "driven by another process (pid" in shown(app)
            await press(pilot, "escape", "R", "2", "enter")
            assert "driven by another process (pid" in shown(app)
        assert not sessions.last.busy
    assert held.path.is_dir()


async def test_a_fork_is_checked_in_the_engines_words_and_begun(
    app: WorkbenchApp, sessions: Sessions, three: list[RunDir], config: RunConfig
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "f")
        for label in ("from", "step 5", "step 0", "under these settings", "name of the fork"):
            assert label in shown(app), label
        # found by words of its help, checked while it is typed
        await press(pilot, "tab", "tab", "slash", *"weight of the kl", "enter", "enter", *["backspace"] * 3, *"-1")
        assert "a number from 0" in shown(app)
        assert "step 5" in shown(app)
        await press(pilot, "f5")
        assert isinstance(app.screen, ForkScreen)
        assert "KL coef: " in shown(app)
        await press(pilot, "enter", "end", *["backspace"] * 2, "7", "enter")
        assert "from step 5: kl.coef 0.1→7" in shown(app)
        await press(pilot, "escape", "shift+tab", "shift+tab", "down")  # out of the search, and back to the checkpoints
        assert "from step 0: kl.coef 0.1→7" in shown(app)
        await press(pilot, "tab", "tab", "tab", *"amber", "f5")
        assert "already a run named amber" in shown(app)
        await press(pilot, "2", "f5")
        assert sessions.last.asked[-1] == Fork(three[0].path, app.bridge.runs_root, {"kl.coef": 7.0}, 0, "amber2")
        assert isinstance(app.screen, WorkbenchScreen)
        child = make_run(app.bridge.runs_root, replace(config, {"kl.coef": 7.0}), "amber2", steps=4, parent=three[0])
        await tell(pilot, sessions, RunStarted("amber2", str(child.path), child.config(), 2))
        assert app.edited.config.kl.coef == 7.0
        assert [point[0] for point in app.workbench.charts.charts[0].points] == [1, 2]


async def test_escape_closes_what_is_open_first_and_what_was_changed_only_when_told_twice(
    app: WorkbenchApp, three: list[RunDir]
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "f", "tab", "tab", "slash", *"kl.coef", "escape")  # the search
        assert isinstance(app.screen, ForkScreen)
        await press(pilot, "escape")
        assert not isinstance(app.screen, ForkScreen)
        await press(pilot, "f", "tab", "tab", "slash", *"kl.coef", "enter", "enter", *"5", "escape")  # the field
        assert isinstance(app.screen, ForkScreen)
        await press(pilot, "enter", *"5", "enter", "escape", "escape")
        assert isinstance(app.screen, ForkScreen)
        assert "Esc once more" in shown(app)
        await press(pilot, "escape")
        assert not isinstance(app.screen, ForkScreen)


async def test_the_charts_mark_where_a_fork_began_and_what_was_changed(
    app: WorkbenchApp, three: list[RunDir], config: RunConfig
) -> None:
    changes = (("kl.coef", 0.1, 0.5), ("train.seed", 0, 7))
    child = RunDir.create(app.bridge.runs_root, config, name="child",
                          parent=Parent("amber", 2, three[0].id, changes))
    for step in range(1, 5):
        child.append_metrics(step, step / 2, step_metrics(step))
    with child.lock():
        child.write_status(RunState.STOPPED, 4, 9)
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "slash", *"child", "enter", "enter")
        await until(pilot, lambda: "fork of amber@2" in shown(app))
        assert app.workbench.charts.curves.edits == [2, 2, 2]


async def test_a_fork_of_a_run_whose_base_is_another_model_now_asks_first(
    app: WorkbenchApp, sessions: Sessions, config: RunConfig
) -> None:
    run = make_run(app.bridge.runs_root, config, "amber")
    for path in run.checkpoints.glob("*/state.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base": {"weights": "of a model of before"}}))
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, SureScreen))
        await until(pilot, lambda: "amber was trained on another base model" in shown(app))
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, ForkScreen))
        await press(pilot, *"kl.coef=7", "f5")
        (asked,) = sessions.last.asked
        assert isinstance(asked, Fork)
        assert asked.accept_base


async def test_what_the_fork_proposed_itself_is_left_without_a_question(
    app: WorkbenchApp, three: list[RunDir], config: RunConfig
) -> None:
    make_run(app.bridge.runs_root, replace(config, {"train.steps": 3}), "done", state=RunState.FINISHED)
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "slash", *"done", "enter", "f")
        assert "train.steps 3→6" in shown(app)
        await press(pilot, "escape")
        assert not isinstance(app.screen, ForkScreen)


async def test_a_run_without_a_checkpoint_has_no_fork(app: WorkbenchApp, config: RunConfig) -> None:
    RunDir.create(app.bridge.runs_root, config, name="fresh")
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "f")
        assert "has no checkpoint yet" in said(app)


# --- two or more ---


async def test_a_run_shows_its_reward_as_a_sparkline_and_when_it_began(
    app: WorkbenchApp, three: list[RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    three[0].append_metrics(6, 3.0, {"objective/scores": 99.0})
    async with app.run_test(size=(160, 40)) as pilot:
        await press(pilot, "r", "home")
        lines = shown(app).split("\n")
        assert any("amber" in line and "▁▁▁▁▁█" in line for line in lines)  # five low steps, then one that is high
        assert shown(app).count("2026-11-26 09:30") >= 2  # in the list, and in the details
        assert "started" in shown(app)


def test_when_a_run_began_is_told_only_if_it_can_be_read() -> None:
    assert [started(text) for text in ("", "yesterday", "2026-13-01T00:00:00", "9999-12-31T23:59:59-23:59")] == [""] * 4


async def test_settings_of_two_runs_stand_side_by_side(app: WorkbenchApp, three: list[RunDir]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "i")
        assert "m marks runs" in said(app)
        await press(pilot, "down", "i")  # a fork, and where it came from
        assert isinstance(app.screen, DifferencesScreen)
        for part in ("1 setting differs", "amber", "bold", "kl.coef", "0.1", "0.5"):
            assert part in shown(app)
        await press(pilot, "escape", "home", "m", "end", "m", "i")
        assert "both have the same settings" in shown(app)


async def test_curves_of_marked_runs_go_to_the_charts(app: WorkbenchApp, three: list[RunDir]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "m", "m", "o")
        others = app.workbench.charts.scene.others
        assert {label: [x for x, _ in other.history.points("objective/scores")] for label, other in others.items()} == {
            "amber": [1, 2, 3, 4, 5], "bold": [1, 2, 3]}
        assert said(app) in ("the charts show amber, bold too · O takes them out",
                             "the charts show bold, amber too · O takes them out")
        await press(pilot, "O")
        assert not others


async def test_a_run_is_not_laid_over_itself_and_what_is_laid_over_keeps_no_stale_name_or_curve(
    app: WorkbenchApp, three: list[RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench, "LOOK_SECONDS", 0.05)
    _, bold, calm = three
    async with app.run_test(size=WIDE) as pilot:
        charts, others = app.workbench.charts, app.workbench.charts.scene.others
        await press(pilot, "r", "home", "enter")
        await until(pilot, lambda: charts.scene.run.bounds == (1, 5))
        await press(pilot, "r", "home", "o")
        assert "amber is the run that the charts show" in said(app)
        assert not others
        await press(pilot, "down", "o", "down", "o")
        await until(pilot, lambda: set(charts.scene.others) == {"bold", "calm"})
        rename_run(calm, "zinc")  # by another process, say
        await until(pilot, lambda: set(charts.scene.others) == {"bold", "zinc"})
        RunDir(calm.path.with_name("zinc")).append_metrics(10, 5.0, step_metrics(10))  # and gone on with
        await until(pilot, lambda: charts.scene.others["zinc"].history.bounds == (1, 10))
        move_to_trash(bold)
        await until(pilot, lambda: set(charts.scene.others) == {"zinc"})
        assert "bold is not there any more" in said(app)
        app.bridge.watch(RunDir.open(calm.path.with_name("zinc")))
        await until(pilot, lambda: not charts.scene.others)


# --- names, notes, trash ---


async def test_renaming_says_what_is_wrong_and_keeps_the_fork_below(app: WorkbenchApp, three: list[RunDir]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "R", "end", "slash")
        assert "✗ letters, digits" in shown(app)
        await press(pilot, *["backspace"] * 6, *"calm", "enter")
        assert "already a run named calm" in shown(app)
        await press(pilot, "2", "enter")
        assert "└─ bold" in shown(app)
        assert "calm2" in names(app)
        await press(pilot, "down")
        assert shown(app).count("calm2") == 2  # in the list, and in what is told of its fork


async def test_a_note_is_kept_with_the_run_and_not_lost_by_one_esc(app: WorkbenchApp, three: list[RunDir]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "n", *"good", "enter", *"run", "escape")
        assert isinstance(app.screen, NoteScreen)
        assert "Esc once more drops" in shown(app)
        await press(pilot, "f2")
        assert three[0].note == "good\nrun"
        await press(pilot, "n", "x", "escape", "escape")
        assert isinstance(app.screen, RunsScreen)
        assert three[0].note == "good\nrun"
        await press(pilot, "n")
        app.screen.query_one(TextArea).text = long = "x" * 4001
        await press(pilot, "f2")
        assert "it has 4001 characters, 1 more" in shown(app)
        assert app.screen.query_one(TextArea).text == long


async def test_a_screen_that_cannot_be_handed_to_an_editor_keeps_what_was_typed(
    app: WorkbenchApp, three: list[RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "true")
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "E")
        assert isinstance(app.screen, NoteScreen)
        assert "cannot be handed to an editor" in shown(app)
        await press(pilot, *"good", "f9")
        assert app.screen.query_one(TextArea).text == "good"
        await press(pilot, "f2")
        assert three[0].note == "good"


async def test_deleting_asks_and_the_trash_gives_back(app: WorkbenchApp, three: list[RunDir]) -> None:
    root = app.bridge.runs_root
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "x", "n")
        assert len(names(app)) == 3
        await press(pilot, "m", "m", "x")
        assert isinstance(app.screen, SureScreen)
        assert "2 runs (amber, bold)" in shown(app)
        await press(pilot, "y")
        assert names(app) == ["calm"]
        await press(pilot, "T")
        assert isinstance(app.screen, TrashScreen)
        assert {thrown.name for thrown in list_trash(root)} == {"amber", "bold"}
        await press(pilot, "enter")
        assert len(list_trash(root)) == 1
        await press(pilot, "E")
        assert "Empty the trash of 1 run for good" in shown(app)
        await press(pilot, "escape")
        assert len(list_trash(root)) == 1
        await press(pilot, "E", "enter")
        assert "the trash is empty" in shown(app)
        await press(pilot, "escape")
        assert len(names(app)) == 2


async def test_what_the_workbench_shows_is_neither_deleted_nor_renamed(
    app: WorkbenchApp, three: list[RunDir]
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "enter", "r")
        for key in ("x", "R"):
            await press(pilot, key)
            assert "amber is open on the workbench: v leaves the view first" in said(app)


# --- faults ---


@pytest.mark.parametrize("key", ["enter", "t", "f", "i"])
async def test_a_run_that_goes_under_the_screen_is_said_to_be_gone(
    app: WorkbenchApp, three: list[RunDir], key: str
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "down")
        move_to_trash(three[1])
        await press(pilot, key)
        assert "is no run: it has no config.toml" in said(app)


async def test_a_dialog_over_a_run_that_goes_keeps_what_was_typed(app: WorkbenchApp, three: list[RunDir]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "n", *"words")
        move_to_trash(three[0])
        await press(pilot, "f2")
        assert "is no run" in shown(app)
        assert "words" in shown(app)


async def test_a_config_that_cannot_be_read_is_said(app: WorkbenchApp, three: list[RunDir]) -> None:
    (three[0].path / "config.toml").write_bytes(b"\xff [/x] \x1b[2J")
    (three[1].path / "config.toml").write_text("colour = '[/x]'\n")
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "enter")
        assert "config.toml could not be read" in said(app)
        await press(pilot, "i", "down", "enter")
        assert "config.toml" in said(app)
        assert isinstance(app.screen, RunsScreen)


async def test_hostile_names_notes_and_messages_are_only_shown(
    app: WorkbenchApp, config: RunConfig, tmp_path: Path
) -> None:
    from tui.test_hostile_screens import texts

    root = app.bridge.runs_root
    for number, text in enumerate(texts(12)):
        run = make_run(root, config, f"r{number}")
        run.write_note(text)
        status = json.loads((run.path / "status.json").read_text())
        (run.path / "status.json").write_text(json.dumps(status | {"message": text}))
        about = json.loads((run.path / "run.json").read_text())
        parent = {"run": text, "step": 1, "id": ""}
        (run.path / "run.json").write_text(json.dumps(about | {"preset": text, "parent": parent}))
        # a file's name is bytes: some that are no UTF-8, too
        name = text.encode("utf-8", "replace").translate(None, b"/\x00")[:100] + b"\xff" * (number % 2)
        if name.strip(b".") and not (root / os.fsdecode(name)).exists():
            run.path.rename(root / os.fsdecode(name))
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r")
        assert len(names(app)) == len(list_runs(root)) >= 12
        for _ in names(app):
            assert all(map(is_harmless, shown_lines(app)))
            await press(pilot, "n")
            assert all(map(is_harmless, shown_lines(app)))
            await press(pilot, "escape", "f")
            assert all(map(is_harmless, shown_lines(app)))
            await press(pilot, "escape", "x")
            assert all(map(is_harmless, shown_lines(app)))
            await press(pilot, "escape", "down")


def test_a_cleaned_run_keeps_its_path() -> None:
    run = RunSummary("a\x1b", Path("a\x1b"), "", "stopped", 0, 0, "", 0.0, Parent("b\x1b", 1, "i"))
    clean = clean_run(run)
    assert (clean.name, clean.path, clean.parent) == ("a␛", Path("a\x1b"), Parent("b␛", 1))
