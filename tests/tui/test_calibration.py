"""A reward model's calibration on the screen, of runs that are listed, viewed, trained here, or part of a loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loop_runs import judgement, reward_model_config, write_labels, write_run
from moments import until
from textual.pilot import Pilot
from tui.test_generate import shown
from tui.test_over_optimization import opened
from tui.test_runs_screen import press

from rlhf_engine.config import presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import RunState
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.over_optimization import screen as over_optimization
from rlhf_tui.areas.workbench.keys import keys
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.engine.bridge import EngineBridge

SURE = {"eval/calibration/50": 0.55, "eval/calibration/60": 0.62, "eval/calibration/80": 0.71,
        "eval/calibration/90": 0.95, "eval/calibration_error": 0.043}
COUNTED = SURE | {f"eval/calibration_pairs/{low}": pairs for low, pairs in ((50, 40), (60, 50), (80, 310), (90, 20))}
SIZES = [(120, 40), (80, 24)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_optimization, "READ_SECONDS", 0.05)


@pytest.fixture
def settings(tmp_path: Path) -> RunConfig:
    labels = write_labels(tmp_path / "labels" / "human-feedback.jsonl", [judgement(place) for place in range(30)])
    return reward_model_config(labels)


def drawn(app: WorkbenchApp) -> str:
    return opened(app).pictures[1]


@pytest.mark.parametrize("size", SIZES)
async def test_of_an_ended_run_from_the_list(app: WorkbenchApp, settings: RunConfig, size: tuple[int, int]) -> None:
    write_run(app.bridge.runs_root, settings, "liked", [{"loss": 0.7}, SURE, {"loss": 0.5}])
    async with app.run_test(size=size) as pilot:
        await press(pilot, "r", "K")
        await until(pilot, lambda: drawn(app).count("o") == 4)  # a bin without a pair has no mark
        await until(pilot, lambda: "step 2" in opened(app).told)
        assert "80 to 90 %, 71 % were preferred" in opened(app).told
        assert "surer" in opened(app).told
        assert "4.3" in opened(app).told


@pytest.mark.parametrize("size", SIZES)
async def test_each_mark_has_its_interval_and_count(
    app: WorkbenchApp, settings: RunConfig, size: tuple[int, int]
) -> None:
    write_run(app.bridge.runs_root, settings, "liked", [COUNTED])
    async with app.run_test(size=size) as pilot:
        await press(pilot, "r", "K")
        await until(pilot, lambda: drawn(app).count("o") == 4)
        await until(pilot, lambda: drawn(app).count("·") > 8)
        await until(pilot, lambda: "n 310)" in shown(app) and "n 20)" in shown(app))
        assert "surer" in opened(app).told


async def test_it_follows_a_run_that_goes_on(app: WorkbenchApp, settings: RunConfig) -> None:
    run = write_run(app.bridge.runs_root, settings, "liked", [{"loss": 0.7}], RunState.TRAINING)
    app.bridge.watch(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: ("K", "Calibration", "screen.over_optimization") in keys(
            "charts", app.bridge, one_chart=False))
        await press(pilot, "K")
        await until(pilot, lambda: "evaluate_every" in opened(app).told)
        run.append_metrics(2, 2.0, SURE)
        await until(pilot, lambda: drawn(app).count("o") == 4)
        run.append_metrics(3, 3.0, {"eval/calibration/50": 0.65})
        await until(pilot, lambda: drawn(app).count("o") == 1)
        await until(pilot, lambda: "more often than it says" in opened(app).told)
        await press(pilot, "K")
        await until(pilot, lambda: isinstance(app.screen, WorkbenchScreen))


async def test_without_held_out_pairs_it_says_what_is_needed(app: WorkbenchApp, settings: RunConfig) -> None:
    none = settings.model_copy(update={"data": settings.data.model_copy(update={"held_out_share": 0.0})})
    write_run(app.bridge.runs_root, none, "liked", [{"loss": 0.7}])
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "r", "K")
        await until(pilot, lambda: "data.held_out_share" in opened(app).told)
        await until(pilot, lambda: "data.held_out_share" in drawn(app).replace("\n", ""))


async def test_from_the_stage_of_the_reward_model(
    bridge: EngineBridge, settings: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(bridge.runs_root, settings, "liked", [SURE])
    app = WorkbenchApp(bridge, presets.load("human-feedback"), "human-feedback")
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "H")
        await until(pilot, lambda: "liked" in shown(app))
        await press(pilot, "home", "down", "K")
        await until(pilot, lambda: drawn(app).count("o") == 4)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_snapshot(
    snap_compare: Callable[..., bool], app: WorkbenchApp, settings: RunConfig, size: tuple[int, int]
) -> None:
    write_run(app.bridge.runs_root, settings, "liked", [COUNTED])

    async def before(pilot: Pilot[Any]) -> None:
        await press(pilot, "r", "K")
        await until(pilot, lambda: drawn(app).count("o") == 4)
        await until(pilot, lambda: "at step 1" in shown(app))

    assert snap_compare(app, terminal_size=size, run_before=before)
