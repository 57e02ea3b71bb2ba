"""A terminal that stalls while the run goes on: afterwards the screen shows what one that never stalled does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tui.fake_session import Sessions, step_metrics, story_sample

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import Event, RolledBack, RunStarted, RunState, StateChanged, StepFinished
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.engine.bridge import EngineBridge

STEPS = 1500


def finished(step: int) -> StepFinished:
    return StepFinished(step, STEPS, step_metrics(step), (story_sample(step, 0),), step / 2)


async def shown_after(folder: Path, config: RunConfig, stall: range) -> tuple[Any, ...]:
    """What the screen shows of a run of STEPS steps, that went back once, if it heard nothing in `stall`."""
    sessions = Sessions()
    app = WorkbenchApp(EngineBridge(folder, sessions), config, "animals")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        run_dir = RunDir.create(folder, config, name="long")
        emit = sessions.last.emit
        emit(RunStarted("long", str(run_dir.path), config, 0))
        emit(StateChanged(RunState.TRAINING, 0, STEPS))

        async def hear() -> None:
            events: list[Event] = app.bridge.drain()
            app.show_events(events)
            await pilot.pause()

        for step in range(1, STEPS + 1):
            run_dir.append_metrics(step, step / 2, step_metrics(step))
            emit(finished(step))
            if step == 700:
                run_dir.truncate_after(650, 0)
                emit(RolledBack(650, "back"))
                for again in range(651, 701):
                    run_dir.append_metrics(again, again / 2, step_metrics(again))
                    emit(finished(again))
            if step % 100 == 0 and step not in stall:
                await hear()
        await hear()
        await app.workers.wait_for_complete()
        await pilot.pause()
        history = app.workbench.charts.scene.run
        curves = [history.points(name) for name in ("objective/scores", "objective/kl", "loss/value_avg")]
        samples = [(sample.step, sample.response) for sample in app.workbench.samples.samples.newest()]
        sessions.last.release()
        return curves, samples, history.bounds, app.bridge.view.step


async def test_charts_and_samples_are_those_of_a_run_that_was_heard_all_the_time(
    tmp_path: Path, config: RunConfig
) -> None:
    heard = await shown_after(tmp_path / "heard", config, range(0))
    assert len(heard[0][0]) == STEPS
    assert await shown_after(tmp_path / "late", config, range(300, STEPS + 1)) == heard
    assert await shown_after(tmp_path / "never", config, range(STEPS + 1)) == heard
    assert await shown_after(tmp_path / "once", config, range(200, 1200)) == heard
