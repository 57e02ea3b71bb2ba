"""A run that another process drives, on the screen of this one; and leaving a run running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moments import PATIENCE, trusted, wait_until
from textual.pilot import Pilot
from textual.widgets import Static
from tui.fake_session import Sessions, step_metrics, story_sample
from tui.questions import agree
from tui.test_generate import shown
from tui.test_workbench import WIDE, alarm, keys, show, status

from rlhf_engine.config.rewards import FunctionRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import EditApplied, RunStarted, RunState
from rlhf_engine.requests import Edit, Resume, Start
from rlhf_engine.rewards.function import pinned
from rlhf_engine.runs.run_care import rename_run
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_lines import sample_row, to_line
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.settings_form.hyperparameters import HyperparametersPane
from rlhf_tui.areas.settings_form.setting_rows import VIEWED_LOCKED_REASON, VIEWED_REASON
from rlhf_tui.engine import viewer
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.engine.sample_store import KEPT_SAMPLES
from rlhf_tui.widgets.dialogs import SureScreen

# in the place of a trainer: holds the lock, says that it trains, and leaves when asked to
HOLDER = """
import signal, sys, time
from pathlib import Path
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_lines import sample_row, to_line

run = RunDir.open(Path(sys.argv[1]))
left = []
signal.signal(signal.SIGTERM, lambda *_: left.append(1))
with run.lock():
    run.write_status(RunState.TRAINING, 3, 100)
    while not left:
        time.sleep(0.01)
    run.append_metrics(4, 2.0, {"objective/scores": 1.0, "objective/kl": 2.0})
    run.write_status(RunState.STOPPED, 4, 100, "stopped after step 4")
"""


@pytest.fixture
def run(bridge: EngineBridge, config: RunConfig) -> RunDir:
    run = RunDir.create(bridge.runs_root, config, name="quiet-owl", preset="animals")
    for number in (1, 2, 3):
        run.append_metrics(number, number / 2, step_metrics(number))
        run.append_samples([story_sample(number, 0)])
    return run


@pytest.fixture
def driven(run: RunDir) -> Iterator[None]:
    """It is driven by this process, which may not be asked to leave it."""
    with run.lock():
        yield


@pytest.fixture
def holder(run: RunDir) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    def begin() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)],
                                   env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
        started.append(process)
        wait_until(lambda: (status := run.status()) is not None and status.process.pid == process.pid)
        return process

    started: list[subprocess.Popen[bytes]] = []
    yield begin
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def watching(app: WorkbenchApp, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], WorkbenchApp]]:
    monkeypatch.setattr(viewer, "POLL_SECONDS", 0.02)

    def watch() -> WorkbenchApp:
        app.bridge.watch(run)
        return app

    yield watch
    app.bridge.close()


async def until(app: WorkbenchApp, pilot: Pilot[None], true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, (status(app), alarm(app))
        await show(app, pilot)
        await pilot.pause(0.02)


def steps(app: WorkbenchApp) -> list[float]:
    return [x for x, _ in app.workbench.charts.charts[0].points]


@pytest.mark.usefixtures("driven")
async def test_a_run_is_shown_as_it_goes_on(watching: Callable[[], WorkbenchApp], run: RunDir) -> None:
    run.write_status(RunState.TRAINING, 3, 100)
    app = watching()
    async with app.run_test(size=WIDE) as pilot:
        await until(app, pilot, lambda: "step 3/100" in status(app))
        assert "quiet-owl · animals" in status(app)
        assert "◉ WATCHING" in status(app)
        assert "TRAINING" not in status(app)  # that would be said of a run that is driven from here
        assert len(app.workbench.samples.samples.shown) == 3
        run.append_edit(EditApplied(4, "kl.target", 6.0, 9.0))
        run.append_metrics(4, 2.0, step_metrics(4))
        run.write_status(RunState.TRAINING, 4, 100)
        await until(app, pilot, lambda: "step 4/100" in status(app))
        assert steps(app) == [1, 2, 3, 4]
        assert app.edited.config.kl.target == 9.0
        assert app.workbench.charts.curves.edits == [4]
        run.truncate_after(2, 0)
        await until(app, pilot, lambda: steps(app) == [1, 2])


async def test_a_long_run_is_shown_with_few_messages_and_its_newest_samples(
    watching: Callable[[], WorkbenchApp], run: RunDir
) -> None:
    with (run.path / "metrics.jsonl").open("a") as file:
        file.writelines(to_line({"step": at, "seconds": at / 2, "metrics": {"objective/scores": 1000.0 if at == 7777
                                                                            else at / 20_000}}) + "\n"
                        for at in range(4, 20_001))
    with (run.path / "samples.jsonl").open("a") as file:
        file.writelines(to_line(sample_row(story_sample(at, index), traced=False)) + "\n"
                        for at in range(4, 20_001, 4) for index in range(2))
    run.write_status(RunState.FINISHED, 20_000, 20_000, "finished after step 20000")
    told: list[EngineEvents] = []
    app = watching()
    async with app.run_test(size=WIDE, message_hook=lambda message: told.append(message)
                            if isinstance(message, EngineEvents) else None) as pilot:
        charts, samples = app.workbench.charts, app.workbench.samples.samples
        await until(app, pilot, lambda: charts.scene.run.bounds == (1, 20_000) and "✓ FINISHED" in status(app))
        events = [event for message in told for event in message.events]
        assert len({id(event) for event in events}) < 5000  # and not one for each step
        assert [sample.step for sample in samples.shown[:3]] == [20_000, 20_000, 19_996]
        assert len(samples.shown) == KEPT_SAMPLES
        assert max(bucket.high for bucket in charts.scene.run.buckets("objective/scores", 1, 20_000, 500)) == 1000.0


@pytest.mark.usefixtures("driven")
async def test_nothing_that_would_change_the_run_is_done(
    watching: Callable[[], WorkbenchApp], run: RunDir, sessions: Sessions
) -> None:
    run.write_status(RunState.TRAINING, 3, 100)
    app = watching()
    async with app.run_test(size=WIDE) as pilot:
        await until(app, pilot, lambda: "step 3/100" in status(app))
        assert "t Take over" in keys(app)
        assert not any(word in keys(app) for word in ("Generate", "Compare", "Checkpoint"))
        assert "F5" not in keys(app)
        assert not any(word in keys(app) for word in ("Edit", "Undo", "Del", "Reset all"))
        for key in ("f5", "space", "f9", "g", "c"):
            app.say("")
            await pilot.press(key)
            assert alarm(app) == "viewing: t takes over"
            assert app.screen is app.workbench
        before = app.edited.config
        app.workbench.post_message(HyperparametersPane.Edited("kl.coef", 0.3))
        await pilot.pause()
        assert app.edited.config == before
        assert [request for session in sessions for request in session.asked] == []
        await pilot.press("q")
    assert app.return_code == 0


@pytest.mark.usefixtures("driven")
async def test_settings_and_words_of_a_viewed_run_can_be_read_but_not_typed_over(
    watching: Callable[[], WorkbenchApp], run: RunDir
) -> None:
    run.write_status(RunState.TRAINING, 3, 100)
    app = watching()
    async with app.run_test(size=WIDE) as pilot:
        await until(app, pilot, lambda: "step 3/100" in status(app))
        form, words = app.workbench.hyperparameters, app.workbench.words
        for path, why in (("kl.coef", VIEWED_REASON), ("algorithm.responses_per_step", VIEWED_LOCKED_REASON),
                          ("kl.controller", VIEWED_LOCKED_REASON)):
            form.show_path(path)
            for key in ("enter", "right", "delete"):
                await pilot.press(key)
            await pilot.pause()
            assert app.screen.focused is form  # no field opened, in which something typed would be lost
            assert why in str(form.query_one("#help", Static).visual)
            assert "F5" not in str(form.query_one("#help", Static).visual)
        before = app.edited.config
        await pilot.press("3", "enter", "x", "x", "enter")
        await pilot.pause()
        assert app.screen.focused is words
        assert app.edited.config == before
        assert not words.drafts


async def test_taking_over_waits_for_the_holder_to_leave(
    watching: Callable[[], WorkbenchApp], run: RunDir, holder: Callable[[], subprocess.Popen[bytes]],
    sessions: Sessions,
) -> None:
    process = holder()
    app = watching()
    async with app.run_test(size=WIDE) as pilot:
        await until(app, pilot, lambda: "step 3/100" in status(app))
        await pilot.press("t")
        await until(app, pilot, lambda: Resume(run.path) in sessions.last.asked)
        assert process.wait(10) == 0
        assert steps(app) == [1, 2, 3, 4]  # the step that it finished on its way out
        assert not app.bridge.viewing
        assert "watching" not in status(app)
        assert "◌ LOADING" in status(app)
        with run.lock():
            pass


async def test_a_run_whose_process_is_gone_is_resumed_by_t(
    watching: Callable[[], WorkbenchApp], run: RunDir, holder: Callable[[], subprocess.Popen[bytes]],
    sessions: Sessions,
) -> None:
    process = holder()
    process.send_signal(signal.SIGKILL)
    app = watching()
    async with app.run_test(size=WIDE) as pilot:
        await until(app, pilot, lambda: "■ STOPPED" in status(app))
        assert "interrupted after step 3" in alarm(app)
        assert alarm(app).endswith("t resumes it")
        await pilot.press("f5")
        assert alarm(app) == "viewing a run that nobody drives: t resumes it"
        await pilot.press("t")
        await until(app, pilot, lambda: Resume(run.path) in sessions.last.asked)


@pytest.mark.usefixtures("driven")
async def test_t_says_why_who_drives_a_run_is_not_asked_to_leave_it(
    watching: Callable[[], WorkbenchApp], run: RunDir, sessions: Sessions
) -> None:
    run.write_status(RunState.TRAINING, 3, 100)
    app = watching()
    async with app.run_test(size=WIDE) as pilot:
        await until(app, pilot, lambda: "step 3/100" in status(app))
        for _ in range(2):  # whatever is done meanwhile, it may be asked again
            app.say("")
            await pilot.press("t")
            await until(app, pilot, lambda: str(os.getpid()) in alarm(app))
            assert not app.bridge.taking_over
        assert app.bridge.viewing
        assert [request for session in sessions for request in session.asked] == []


async def test_a_process_that_is_only_named_is_not_asked_when_a_run_is_resumed(
    watching: Callable[[], WorkbenchApp], run: RunDir, sessions: Sessions
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        run.write_status(RunState.TRAINING, 3, 100)
        row = json.loads((run.path / "status.json").read_text())
        (run.path / "status.json").write_text(json.dumps(row | {"pid": innocent.pid}))
        app = watching()
        async with app.run_test(size=WIDE) as pilot:
            await until(app, pilot, lambda: "■ STOPPED" in status(app))
            await pilot.press("t")
            await until(app, pilot, lambda: Resume(run.path) in sessions.last.asked)
        assert innocent.poll() is None
        innocent.kill()


async def test_a_finished_run_is_extended_by_t(
    watching: Callable[[], WorkbenchApp], run: RunDir, sessions: Sessions
) -> None:
    run.write_status(RunState.FINISHED, 100, 100, "finished after step 100")
    app = watching()
    async with app.run_test(size=WIDE) as pilot:
        assert "F5" not in alarm(app)
        await until(app, pilot, lambda: "✓ FINISHED" in status(app))
        assert alarm(app).endswith("finished after step 100 · t resumes it, or loads it to generate and compare")
        await pilot.press("g")
        assert alarm(app) == "viewing a finished run: t resumes it"
        await pilot.press("t", "escape")
        assert not sessions.last.busy
        await pilot.press("t", *["backspace"] * 3, *"x", "enter")  # as many again are proposed
        assert "a whole number" in shown(app)
        await pilot.press("backspace", *"50", "enter")
        await until(app, pilot, lambda: Edit("train.steps", 150) in sessions.last.asked)
        assert Resume(run.path) in sessions.last.asked
        assert sessions.last.asked[-1] == Edit("train.steps", 150)


async def test_a_run_that_has_just_finished_here_is_extended_by_t(
    app: WorkbenchApp, sessions: Sessions, config: RunConfig
) -> None:
    run = RunDir.create(app.bridge.runs_root, config, name="brave-otter")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("t")
        assert "no run to resume" in alarm(app)
        await pilot.press("f5")
        sessions.last.emit(RunStarted("brave-otter", str(run.path), config, 0))
        with run.lock():
            run.write_status(RunState.FINISHED, 100, 100, "finished after step 100")
        sessions.last.steps(100)
        sessions.last.end(RunState.FINISHED, "finished after step 100")
        await show(app, pilot)
        assert "t resumes it" in alarm(app)
        await pilot.press("t", "enter")  # as many again
        await until(app, pilot, lambda: Edit("train.steps", 200) in sessions.last.asked)
        assert [type(request) for request in sessions.last.asked] == [Start, Resume, Edit]


async def test_a_run_whose_reward_is_other_code_now_goes_on_only_after_a_yes(
    bridge: EngineBridge, config: RunConfig, tmp_path: Path, sessions: Sessions
) -> None:
    file = tmp_path / "own.py"
    file.write_text("def own(prompts, responses): return [1.0] * len(responses)")
    reward = FunctionRewardConfig(name="own", function=f"{trusted(file)}:own")
    kept = pinned(config.model_copy(update={"rewards": [reward]}))
    run = RunDir.create(bridge.runs_root, kept, name="quiet-owl")
    run.write_status(RunState.STOPPED, 3, 100, "stopped after step 3")
    file.write_text("def own(prompts, responses): return [2.0] * len(responses)")
    bridge.watch(run)
    app = WorkbenchApp(bridge, kept, "")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("t")
        assert str(app.screen.query_one("#text", Static).content).startswith(
            f"The run scores with code that has changed since: {file} (SHA-256 ")
        await pilot.press("escape")
        assert not app.bridge.taking_over
        await pilot.press("t")
        await agree(pilot)
        await until(app, pilot, lambda: Resume(run.path, accept_code=True) in sessions.last.asked)


async def test_a_run_whose_base_is_another_model_now_goes_on_only_after_a_yes(
    bridge: EngineBridge, config: RunConfig, sessions: Sessions
) -> None:
    run = RunDir.create(bridge.runs_root, config, name="quiet-owl")
    run.write_status(RunState.STOPPED, 3, 100, "stopped after step 3")
    (run.checkpoints / "step-000003").mkdir(parents=True)
    state = {"step": 3, "config": config.model_dump(), "base": {"weights": "of a model of before"}}
    (run.checkpoints / "step-000003" / "state.json").write_text(json.dumps(state))
    bridge.watch(run)
    app = WorkbenchApp(bridge, config, "")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("t")
        await until(app, pilot, lambda: isinstance(app.screen, SureScreen))
        told = str(app.screen.query_one("#text", Static).content)
        assert "quiet-owl" in told
        assert "storyteller" in told
        assert "weights" in told
        await pilot.press("escape")
        await until(app, pilot, lambda: not isinstance(app.screen, SureScreen))
        assert not app.bridge.taking_over
        await pilot.press("t")
        await until(app, pilot, lambda: isinstance(app.screen, SureScreen))
        await pilot.press("y")
        await until(app, pilot, lambda: Resume(run.path, accept_base=True) in sessions.last.asked)


async def test_a_run_that_cannot_be_read_says_so(watching: Callable[[], WorkbenchApp], run: RunDir) -> None:
    (run.path / "metrics.jsonl").unlink()
    (run.path / "metrics.jsonl").mkdir()
    app = watching()
    async with app.run_test(size=WIDE) as pilot:
        await until(app, pilot, lambda: "could not be read" in alarm(app))


async def test_a_viewer_is_told_of_a_run_that_was_renamed(
    watching: Callable[[], WorkbenchApp], run: RunDir, sessions: Sessions
) -> None:
    run.write_status(RunState.STOPPED, 3, 100, "stopped after step 3")
    app = watching()
    async with app.run_test(size=WIDE) as pilot:
        await until(app, pilot, lambda: "step 3/100" in status(app))
        rename_run(run, "bold-fox")
        lost = "The run quiet-owl was renamed elsewhere: it is bold-fox now. r opens another run."
        await until(app, pilot, lambda: alarm(app) == lost)
        assert steps(app) == [1, 2, 3]  # what was read stays
        for key in ("f5", "t"):
            app.say("")
            await pilot.press(key)
            assert alarm(app) == lost
        assert [request for session in sessions for request in session.asked] == []


# --- leaving a run running ---


async def test_d_hands_a_run_over_and_leaves(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("d")
        assert alarm(app) == "nothing is running: q quits"
        await pilot.press("f5")
        await show(app, pilot)
        sessions.last.slow_to_stop = True
        await pilot.press("q", "d")
        assert app.leaving.hands_over
        assert app.leaving.code == 0
        sessions.last.release()
        await until(app, pilot, lambda: app.return_code is not None)
    assert app.return_code == 0


async def test_a_paused_run_is_not_left_running(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "space")
        await show(app, pilot)
        await pilot.press("d")
        assert "Space resumes it" in alarm(app)
        assert not app.leaving.hands_over
        assert not app.bridge.is_training
