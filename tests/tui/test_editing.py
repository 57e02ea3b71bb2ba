"""Undo, redo and reset at the workbench: of settings between runs, and of live ones in a run that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from tui.fake_session import Sessions
from tui.test_hostile_screens import check, hostile_config, texts
from tui.test_screen_snapshots import SIZES, SnapCompare

from rlhf_engine.config import presets
from rlhf_engine.config.fields import replace
from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import EditRefused, RunState
from rlhf_engine.requests import Edit
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.settings_form.reset import ResetScreen
from rlhf_tui.engine.bridge import EngineBridge

WIDE = (120, 40)


async def show(app: WorkbenchApp, pilot: Pilot[None]) -> None:
    app.show_events(app.bridge.drain())
    await pilot.pause()


def alarm(app: WorkbenchApp) -> str:
    return app.workbench._alarm.text


async def test_u_takes_changes_back_newest_first_and_shift_u_makes_them_again(
    app: WorkbenchApp, config: RunConfig
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("enter", *"0.01", "down", "enter", *"0.02", "enter")
        edited = app.edited.config
        assert (edited.optimizer.learning_rate, edited.algorithm.critic_learning_rate) == (0.01, 0.02)
        await pilot.press("u")
        assert alarm(app) == "undone: algorithm.critic_learning_rate 0.02 → 0.001"
        await pilot.press("u", "u")
        assert app.edited.config == app.workbench.hyperparameters.config == config
        assert alarm(app) == "there is no change that could be undone"
        await pilot.press("U", "U")
        assert app.edited.config.algorithm.critic_learning_rate == 0.02


async def test_undoing_a_live_edit_is_a_live_edit(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.steps(4)
        app.edited.edit("kl.coef", 0.3)
        await show(app, pilot)
        await pilot.press("u")
        await show(app, pilot)
        assert [request for request in sessions.last.asked if isinstance(request, Edit)] == [
            Edit("kl.coef", 0.3), Edit("kl.coef", 0.1)]
        assert alarm(app) == "from step 5: kl.coef 0.3 → 0.1"


async def test_what_a_run_fixes_is_not_undone_until_it_ends(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        app.edited.edit("train.seed", 7)
        await pilot.press("f5")
        await show(app, pilot)
        await pilot.press("u")
        assert alarm(app) == "not undone: train.seed was changed before the run began and is fixed until it ends"
        sessions.last.end(RunState.FINISHED)
        await show(app, pilot)
        await pilot.press("u")
        assert app.edited.config.train.seed == 0


async def test_a_run_that_has_finished_says_what_to_do_with_it(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        await show(app, pilot)
        sessions.last.end(RunState.FINISHED, "finished after step 5")
        await show(app, pilot)
        assert alarm(app).startswith("finished after step 5 · t resumes it")


async def test_a_refused_edit_is_no_step_to_undo(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        await show(app, pilot)
        app.edited.edit("kl.coef", 0.7)
        sessions.last.emit(EditRefused("kl.coef", "too late"))
        await show(app, pilot)
        await pilot.press("u")
        assert alarm(app) == "there is no change that could be undone"


async def test_marks_tell_the_start_of_the_run_from_the_preset(app: WorkbenchApp, config: RunConfig) -> None:
    async with app.run_test(size=WIDE) as pilot:
        form = app.workbench.hyperparameters.form
        app.edited.edit("kl.coef", 0.3)
        await pilot.press("f5")
        await show(app, pilot)
        app.edited.edit("kl.target", 9.0)
        app.workbench._load_panes()
        marks = {row.path: (form.changed(row), form.off_preset(row)) for row in form.rows}
        assert marks["kl.coef"] == (False, True)
        assert marks["kl.target"] == (True, True)


async def test_a_preset_that_was_loaded_is_undone_whole(
    app: WorkbenchApp, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "shipped_folder", lambda: tmp_path / "none")
    monkeypatch.setattr(presets, "user_folder", lambda: tmp_path)
    presets.save("animals", config)
    short = config.model_copy(update={"rewards": [LengthRewardConfig(max_words=9)]})
    presets.save("short", short)
    async with app.run_test(size=WIDE) as pilot:
        app.edited.edit("kl.coef", 0.3)
        app.edited.load_preset("short")
        assert app.edited.config == short == app.edited.original
        await pilot.press("u")
        assert (app.edited.preset, app.edited.config.kl.coef) == ("animals", 0.3)
        assert app.edited.original == config
        await pilot.press("u")
        assert app.edited.config == config


async def test_reset_goes_back_to_the_preset_and_all_of_it_is_one_undo(
    bridge: EngineBridge, config: RunConfig
) -> None:
    app = WorkbenchApp(bridge, replace(config, {"kl.coef": 0.3, "train.steps": 7, "optimizer.learning_rate": 0.1}),
                       "animals", original=config)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("delete")
        assert app.edited.config.optimizer.learning_rate == config.optimizer.learning_rate
        await pilot.press("R")
        assert isinstance(app.screen, ResetScreen)
        text = app.screen._text().plain
        assert "2 settings back to what animals says:" in text
        assert "  kl.coef      0.3 → 0.1\n  train.steps  7 → 100" in text
        await pilot.press("escape")
        assert app.edited.config.kl.coef == 0.3
        await pilot.press("R", "enter")
        assert app.edited.config == app.workbench.hyperparameters.config == config
        await pilot.press("R")
        assert alarm(app) == "these settings are the preset's"
        await pilot.press("u")
        assert (app.edited.config.kl.coef, app.edited.config.train.steps) == (0.3, 7)


async def test_resetting_all_in_a_run_says_what_stays(
    bridge: EngineBridge, config: RunConfig, sessions: Sessions
) -> None:
    app = WorkbenchApp(bridge, replace(config, {"kl.coef": 0.3, "train.seed": 7}), "animals", original=config)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        await show(app, pilot)
        await pilot.press("R")
        assert isinstance(app.screen, ResetScreen)
        text = app.screen._text().plain
        assert "1 setting back to what animals says, from the next step on:" in text
        assert "1 setting stays, since it is fixed during a run:\n  train.seed" in text
        await pilot.press("enter")
        assert sessions.last.asked[-1] == Edit("kl.coef", 0.1)
        await show(app, pilot)
        await pilot.press("R")
        assert "only train.seed" in alarm(app)


async def test_the_reset_screen_shows_any_config(tmp_path: Path, config: RunConfig) -> None:
    app = WorkbenchApp(EngineBridge(tmp_path, Sessions()), config, "[/x]")
    async with app.run_test(size=WIDE) as pilot:
        for text in texts(6):
            app.edited.config = hostile_config(config, text)
            app.workbench._load_panes()
            await pilot.press("R")
            check(app)
            await pilot.press("escape")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_reset(
        self, snap_compare: SnapCompare, bridge: EngineBridge, config: RunConfig, size: tuple[int, int]
    ) -> None:
        changed = replace(config, {"kl.coef": 0.3, "train.steps": 7, "rewards.0.repeat_penalty": 1.5})
        app = WorkbenchApp(bridge, changed, "animals", original=config)
        assert snap_compare(app, terminal_size=size, press=["R"])

    def test_settings_folded_and_sought(
        self, snap_compare: SnapCompare, bridge: EngineBridge, config: RunConfig, size: tuple[int, int]
    ) -> None:
        app = WorkbenchApp(bridge, replace(config, {"kl.target": 9.0}), "animals", original=config)
        assert snap_compare(app, terminal_size=size, press=["minus", "z", "slash", *"nats", "enter", "down"])


async def test_another_method_brings_its_own_settings_and_one_undo_brings_back_all_of_the_first(
    app: WorkbenchApp, config: RunConfig, sessions: Sessions
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        pane = app.workbench.hyperparameters
        app.edited.edit("algorithm.trace_decay", 0.5)
        before = app.edited.config
        pane.show_path("algorithm.kind")
        await pilot.press("right")
        method = app.edited.config.algorithm
        assert method.kind != "ppo"
        assert pane.config == app.edited.config
        assert {row.path.rpartition(".")[2] for row in pane.form.rows if row.path.startswith("algorithm.")} <= set(
            type(method).model_fields)
        await pilot.press("u")
        assert app.edited.config == pane.config == before
        await pilot.press("U")
        assert app.edited.config.algorithm == method
        app.edited.edit("algorithm.kind", "ppo")
        assert app.edited.config.algorithm == config.algorithm, "as the preset has it"
        await pilot.press("f5")
        app.edited.edit("algorithm.kind", method.kind)
        assert app.edited.config.algorithm == config.algorithm
        assert "between runs" in alarm(app)
