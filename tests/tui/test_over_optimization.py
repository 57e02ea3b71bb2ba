"""Score and gold over √KL on the screen, of runs that are listed, viewed, or trained here."""

from __future__ import annotations

import pytest
from judged_runs import judged_metrics, judged_run, with_gold
from moments import until
from tui.test_runs_screen import make_run, press

from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.over_optimization import screen as over_optimization
from rlhf_tui.areas.over_optimization.screen import OverOptimizationScreen
from rlhf_tui.areas.runs.screen import RunsScreen
from rlhf_tui.areas.workbench.screen import WorkbenchScreen


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_optimization, "READ_SECONDS", 0.05)


def opened(app: WorkbenchApp) -> OverOptimizationScreen:
    assert isinstance(app.screen, OverOptimizationScreen)
    return app.screen


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_from_the_list_of_runs(app: WorkbenchApp, config: RunConfig, size: tuple[int, int]) -> None:
    judged_run(app.bridge.runs_root, with_gold(config), "amber")
    async with app.run_test(size=size) as pilot:
        await press(pilot, "r", "K")
        await until(pilot, lambda: "step 15" in opened(app).told)
        await until(pilot, lambda: all("stop: step 15" in picture for picture in opened(app).pictures))
        assert all("o" in picture.replace("stop: step 15", "") for picture in opened(app).pictures)
        assert "0.50" in opened(app).told  # score against length
        await press(pilot, "escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))


async def test_it_follows_a_run_that_goes_on(app: WorkbenchApp, config: RunConfig) -> None:
    run = judged_run(app.bridge.runs_root, with_gold(config), "amber", steps=2)
    app.bridge.watch(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "K")
        await until(pilot, lambda: "too few" in opened(app).told)
        for step in range(3, 32):
            run.append_metrics(step, step / 2, judged_metrics(step, 31))
        await until(pilot, lambda: "go back to step" in opened(app).told)
        await press(pilot, "K")
        await until(pilot, lambda: isinstance(app.screen, WorkbenchScreen))


async def test_a_run_without_gold_is_told_what_it_lacks(app: WorkbenchApp, config: RunConfig) -> None:
    make_run(app.bridge.runs_root, config, "plain")
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "r", "K")
        await until(pilot, lambda: "weight = 0" in opened(app).told)


async def test_before_any_run_the_key_says_so(app: WorkbenchApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "K")
        await until(pilot, lambda: "no run" in app.screen._alarm.text)  # type: ignore[attr-defined]
