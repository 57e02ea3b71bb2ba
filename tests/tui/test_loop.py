"""The guided path: what is missing at each stage, and the key that goes there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loop_runs import (
    POLICY_METRICS,
    held_out,
    judgement,
    policy_config,
    reward_model_config,
    write_labels,
    write_run,
)
from moments import until
from textual.pilot import Pilot
from tui.fake_session import Sessions
from tui.test_generate import shown, tell

from rlhf_engine.config import presets
from rlhf_engine.events import RunState
from rlhf_engine.labels.pair import Origin
from rlhf_engine.requests import REFERENCE, Resume, SamplePairs, Side, Start
from rlhf_engine.runs.pipeline_dir import PipelineDir, PipelinePlan
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.compare.screen import CompareScreen
from rlhf_tui.areas.label.screen import LabelScreen
from rlhf_tui.areas.loop import screen as loop_screen
from rlhf_tui.areas.loop.screen import LoopScreen
from rlhf_tui.areas.over_optimization.screen import OverOptimizationScreen
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.engine.bridge import EngineBridge

SIZES = [(120, 40), (80, 24)]
PLAN = PipelinePlan("human-feedback", "human-feedback-reward", ("lora.rank=4",), "", 0.0, 0.0, 2, 2, 200, 7)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_screen, "READ_SECONDS", 0.05)
    monkeypatch.setenv("LOGNAME", "ann")


@pytest.fixture
def app(bridge: EngineBridge) -> WorkbenchApp:
    return WorkbenchApp(bridge, presets.load("human-feedback"), "human-feedback")


@pytest.fixture
def labels(bridge: EngineBridge) -> Path:
    return bridge.runs_root.parent / "labels" / "human-feedback.jsonl"


@pytest.fixture
def reward(bridge: EngineBridge, labels: Path) -> RunDir:
    """A reward model that has learnt from all that was judged."""
    write_labels(labels, [judgement(place) for place in range(300)])
    return write_run(bridge.runs_root, reward_model_config(labels), "liked", [held_out(0.88, 0.4)])


@pytest.fixture
def policy(bridge: EngineBridge, reward: RunDir) -> RunDir:
    """A policy that this rewards."""
    return write_run(bridge.runs_root, policy_config(reward.path), "tuned-fox", POLICY_METRICS)


def stage(app: WorkbenchApp) -> int | None:
    """The place of the stage under the cursor, from 1."""
    assert isinstance(app.screen, LoopScreen)
    at = app.screen.query_one("#stages").highlighted  # type: ignore[attr-defined]
    return None if at is None else at + 1


async def opened(pilot: Pilot[Any], app: WorkbenchApp, key: str = "H") -> LoopScreen:
    await pilot.press(key)
    await until(pilot, lambda: isinstance(app.screen, LoopScreen))
    assert isinstance(app.screen, LoopScreen)
    await until(pilot, lambda: stage(app) is not None and "Judge the tuned model" in shown(app))
    return app.screen


def started(sessions: Sessions) -> list[Start]:
    return [request for request in sessions.last.asked if isinstance(request, Start)]


@pytest.mark.parametrize("size", SIZES)
async def test_f5_without_its_reward_model_leads_to_what_is_missing(
    app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await opened(pilot, app, "f5")
        assert "human-feedback-reward-1" in shown(app)
        assert "0 of 300" in shown(app)
        assert not started(sessions)
        assert stage(app) == 1
        for below in (2, 3, 4):  # none of them can be begun
            await pilot.press("down", "enter")
            await until(pilot, lambda: "not yet" in shown(app))
            assert stage(app) == below
        assert isinstance(app.screen, LoopScreen)


async def test_enter_on_the_first_stage_judges_the_untrained_model(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LabelScreen))
        await until(pilot, lambda: any(isinstance(request, SamplePairs) for request in sessions.last.asked))
        asked = next(request for request in sessions.last.asked if isinstance(request, SamplePairs))
        assert (asked.first, asked.second, asked.config.model.name) == (REFERENCE, REFERENCE, "storyteller")
        await tell(pilot, sessions)
        await until(pilot, lambda: "(0)" in shown(app))
        await pilot.press("a", "b")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LoopScreen))
        await until(pilot, lambda: "2 of 300" in shown(app))
        assert labels.exists()


async def test_the_second_stage_trains_a_reward_model_on_these_labels(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    write_labels(labels, [judgement(place) for place in range(300)])
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        await until(pilot, lambda: stage(app) == 2)
        await pilot.press("enter")
        await until(pilot, lambda: bool(started(sessions)))
        [start] = started(sessions)
        assert (start.config.algorithm.kind, start.config.data.source) == ("reward_model", str(labels.resolve()))
        assert start.config.lora == presets.load("human-feedback").lora  # one base for both
        await until(pilot, lambda: isinstance(app.screen, WorkbenchScreen))
        assert app.edited.config == start.config


async def test_the_third_stage_trains_a_policy_on_that_reward_model(
    app: WorkbenchApp, sessions: Sessions, reward: RunDir
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, app)
        await until(pilot, lambda: stage(app) == 3)
        await until(pilot, lambda: "88% [78%, 98%]" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: bool(started(sessions)))
        [start] = started(sessions)
        assert [getattr(found, "model", "") for found in start.config.rewards] == [str(reward.path.resolve())]
        assert start.preset == "human-feedback"


async def test_the_reward_model_guesses_also_where_the_settings_reward_something_else(
    app: WorkbenchApp, sessions: Sessions, labels: Path, reward: RunDir
) -> None:
    app.edited.load(presets.load("animals"), "human-feedback")
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, app)
        await until(pilot, lambda: "88% [78%, 98%]" in shown(app))
        await pilot.press("l")
        await until(pilot, lambda: any(isinstance(request, SamplePairs) for request in sessions.last.asked))
        asked = next(request for request in sessions.last.asked if isinstance(request, SamplePairs))
        assert [getattr(found, "model", "") for found in asked.config.rewards] == [str(reward.path.resolve())]
        assert asked.config.data == presets.load("animals").data


async def test_the_last_stage_judges_tuned_against_reference_and_tells_who_won(
    app: WorkbenchApp, sessions: Sessions, labels: Path, policy: RunDir
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, app)
        await until(pilot, lambda: stage(app) == 4)
        await until(pilot, lambda: "hidden score −2.10 → +0.40" in shown(app))
        assert "KL 2.5" in shown(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LabelScreen))
        await until(pilot, lambda: any(isinstance(request, SamplePairs) for request in sessions.last.asked))
        asked = next(request for request in sessions.last.asked if isinstance(request, SamplePairs))
        assert (asked.first, asked.second) == (Side("checkpoint", policy.path), REFERENCE)
        [guesses] = asked.config.rewards
        assert getattr(guesses, "model", "") == str(policy.path.with_name("liked").resolve())
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LoopScreen))
        tuned = Origin("checkpoint", "storyteller", str(policy.path), 2)
        write_labels(labels, [judgement(1000 + place, first=tuned, time="2026-11-27T00:00:00.000Z")
                              for place in range(3)])
        await until(pilot, lambda: "won 100%" in shown(app) and "of 3" in shown(app))
        await until(pilot, lambda: "3 pairs tell that were judged since" in shown(app))  # the loop goes on


async def test_what_stopped_is_resumed(app: WorkbenchApp, sessions: Sessions, labels: Path) -> None:
    write_labels(labels, [judgement(0)])
    run = write_run(app.bridge.runs_root, reward_model_config(labels), "half", [held_out(0.6, 0.5)], RunState.STOPPED)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "Changed data" in shown(app))  # its files do not tell what it had learnt from
        await pilot.press("y")
        await until(pilot, lambda: Resume(run.path, accept_data=True) in sessions.last.asked)


async def test_what_failed_is_told_and_begun_anew(app: WorkbenchApp, sessions: Sessions, labels: Path) -> None:
    write_labels(labels, [judgement(0)])
    write_run(app.bridge.runs_root, reward_model_config(labels), "bad", [held_out(0.6, 0.5)], RunState.DIVERGED)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        await until(pilot, lambda: "diverged" in shown(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: bool(started(sessions)))


async def test_nothing_is_begun_beside_a_run(app: WorkbenchApp, sessions: Sessions, reward: RunDir) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        app.edited.load(presets.load("animals"), "animals")
        await pilot.press("f5")
        await until(pilot, lambda: bool(started(sessions)))
        await opened(pilot, app)
        await until(pilot, lambda: stage(app) == 3 or "liked" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: "F5 stops it first" in shown(app))
        assert len(started(sessions)) == 1


async def test_keys_lead_to_the_run_to_a_comparison_and_to_over_optimization(
    app: WorkbenchApp, policy: RunDir
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, app)
        await until(pilot, lambda: stage(app) == 4)
        for key, screen in (("c", CompareScreen), ("K", OverOptimizationScreen)):
            await pilot.press(key)
            await until(pilot, lambda screen=screen: isinstance(app.screen, screen))  # type: ignore[misc]
            await pilot.press("escape")
            await pilot.press("escape")  # the first one gives up what is under way
            await until(pilot, lambda: isinstance(app.screen, LoopScreen | WorkbenchScreen))
            if isinstance(app.screen, WorkbenchScreen):
                await opened(pilot, app)
        await pilot.press("v")
        await until(pilot, lambda: app.bridge.watched == policy.path)
        await until(pilot, lambda: isinstance(app.screen, WorkbenchScreen))


async def test_a_pipeline_is_followed_while_it_goes_on_and_gone_on_with_by_hand(
    app: WorkbenchApp, sessions: Sessions, bridge: EngineBridge
) -> None:
    pipeline = PipelineDir.begin(bridge.runs_root, "by-itself", PLAN)
    write_labels(pipeline.labels, [judgement(place) for place in range(4)])
    async with app.run_test(size=(80, 24)) as pilot:
        with pipeline.driven.lock():
            await opened(pilot, app)
            await until(pilot, lambda: "round 1 of 2 · driven by" in shown(app))
            await until(pilot, lambda: "4 of 4" in shown(app) and stage(app) == 2)
            await pilot.press("enter")
            await until(pilot, lambda: "goes on by itself" in shown(app))
        await until(pilot, lambda: "nobody drives it" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: bool(started(sessions)))
        [start] = started(sessions)
        assert (start.name, start.preset) == ("by-itself-reward-1", "human-feedback-reward")
        assert (start.config.lora.rank, start.config.train.seed) == (4, 7)
        sessions.last.end(RunState.FINISHED)
        await tell(pilot, sessions)
        reward = write_run(bridge.runs_root, start.config, "by-itself-reward-1", [held_out(0.9, 0.3)])
        await opened(pilot, app)
        await until(pilot, lambda: stage(app) == 3)
        await pilot.press("enter")
        await until(pilot, lambda: len(started(sessions)) == 2)
        second = started(sessions)[1]
        assert second.name == "by-itself-policy-1"
        assert getattr(second.config.rewards[0], "model", "") == str(reward.path.resolve())


@pytest.mark.parametrize("keys", [("l",), ("l", "i")], ids=["judging", "its statistics"])
async def test_judging_leads_to_it_and_it_back_to_judging(
    app: WorkbenchApp, sessions: Sessions, labels: Path, keys: tuple[str, ...]
) -> None:
    write_labels(labels, [judgement(place) for place in range(300)])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(keys[0])
        await until(pilot, lambda: "300/100" in shown(app))
        await pilot.press(*keys[1:])
        await until(pilot, lambda: len(app.screen_stack) == 1 + len(keys))
        await opened(pilot, app)
        await until(pilot, lambda: stage(app) == 2)
        await pilot.press("l")
        await until(pilot, lambda: "open below" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: bool(started(sessions)))
        await until(pilot, lambda: not isinstance(app.screen, LoopScreen))


async def test_each_label_file_is_a_loop(app: WorkbenchApp, labels: Path) -> None:
    write_labels(labels, [judgement(0)])
    write_labels(labels.with_name("other.jsonl"), [judgement(place) for place in range(5)])
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        seen = set()
        for _ in range(2):
            await until(pilot, lambda: " of 300" in shown(app))
            seen |= {number for number in (1, 5) if f"{number} of 300" in shown(app)}
            before = shown(app)
            await pilot.press("right")
            await until(pilot, lambda before=before: shown(app) != before)  # type: ignore[misc]
        assert seen == {1, 5}


async def test_it_opens_at_the_loop_of_the_run_on_the_screen(app: WorkbenchApp, labels: Path, policy: RunDir) -> None:
    write_labels(labels.with_name("newer.jsonl"), [judgement(0)])
    app.bridge.watch(policy)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.bridge.view.config is not None)
        await opened(pilot, app)
        await until(pilot, lambda: "tuned-fox" in shown(app) and stage(app) == 4)


async def test_a_label_file_called_after_another_preset_holds_its_answers(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    write_labels(labels.with_name("sea.jsonl"), [judgement(0)])
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        await until(pilot, lambda: "1 of 300" in shown(app))
        await pilot.press("l")
        await until(pilot, lambda: any(isinstance(request, SamplePairs) for request in sessions.last.asked))
        asked = next(request for request in sessions.last.asked if isinstance(request, SamplePairs))
        assert asked.config == presets.load("sea")


async def test_what_is_no_label_file_is_said_and_loses_nothing(app: WorkbenchApp, labels: Path) -> None:
    labels.parent.mkdir()
    labels.write_text("[/x] no json\n")
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        await until(pilot, lambda: "label file" in shown(app))
        assert labels.read_text() == "[/x] no json\n"
