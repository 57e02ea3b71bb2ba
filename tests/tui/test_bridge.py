"""The bridge keeps engine and screen apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest
from configs import SMALL
from hypothesis import given, settings
from hypothesis import strategies as st
from tui.fake_session import Sessions, story_sample, story_trace

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RunError
from rlhf_engine.events import (
    CheckpointSaved,
    ComparisonFinished,
    EditApplied,
    EditRefused,
    Event,
    GenerationFinished,
    GenerationToken,
    Notice,
    RolledBack,
    RunStarted,
    RunState,
    StateChanged,
    StepFinished,
    StepProgress,
)
from rlhf_engine.requests import Cancel, Compare, Edit, Generate, Start
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.event_ring import EventRing, StepsMissed
from rlhf_tui.engine.sample_store import KEPT_SAMPLES


def test_no_session_is_made_before_it_is_needed(bridge: EngineBridge, sessions: Sessions) -> None:
    assert sessions == []
    assert not bridge.busy
    assert bridge.state is None


def test_events_arrive_in_order_and_update_the_view(
    bridge: EngineBridge, sessions: Sessions, config: RunConfig
) -> None:
    bridge.ask(Start(config, bridge.runs_root, preset="animals"))
    sessions.last.steps(3)
    kinds = [type(event).__name__ for event in bridge.drain()]
    assert kinds == ["RunStarted", "StateChanged", "ModelLoaded", "StateChanged", *["StepFinished"] * 3]
    view = bridge.view
    assert (view.name, view.preset, view.state, view.step) == ("brave-otter", "animals", RunState.TRAINING, 3)
    assert view.eta_seconds == pytest.approx(97 * 0.5)
    assert bridge.drain() == []


def test_a_second_start_is_refused_while_one_is_busy(bridge: EngineBridge, config: RunConfig) -> None:
    bridge.ask(Start(config, bridge.runs_root))
    with pytest.raises(RunError):
        bridge.ask(Start(config, bridge.runs_root))


def test_only_the_newest_of_superseded_events_is_kept(bridge: EngineBridge, sessions: Sessions) -> None:
    bridge.open()
    emit = sessions.last.emit
    for share in (0.1, 0.5, 0.9):
        emit(StepProgress(1, "rollout", share))
        emit(GenerationToken(7, "x" * int(share * 10)))
    emit(GenerationToken(8, "other"))
    emit(GenerationFinished(8, "other, whole"))
    events = bridge.drain()
    assert [event for event in events if isinstance(event, StepProgress)] == [StepProgress(1, "rollout", 0.9)]
    assert [event.request_id for event in events if isinstance(event, GenerationToken)] == [7]
    assert isinstance(events[-1], GenerationFinished)


def test_whatever_is_rare_survives_a_stall_and_of_steps_the_newest(
    bridge: EngineBridge, sessions: Sessions, config: RunConfig
) -> None:
    bridge.ask(Start(config, bridge.runs_root))
    sessions.last.steps(300)
    for index in range(1000):
        sessions.last.emit(Notice(str(index)))
        sessions.last.emit(CheckpointSaved(index, "there"))
        sessions.last.emit(EditApplied(index, "kl.coef", index, index + 1))
    sessions.last.steps(3000)
    sessions.last.emit(StateChanged(RunState.FINISHED, 3300, 3300))
    events = bridge.drain()
    assert [event.text for event in events if isinstance(event, Notice)] == [str(index) for index in range(1000)]
    assert sum(isinstance(event, CheckpointSaved | EditApplied) for event in events) == 2_000
    assert isinstance(events[-1], StateChanged)
    assert bridge.state is RunState.FINISHED
    steps = [event.step for event in events if isinstance(event, StepFinished)]
    assert steps == list(range(3300 - len(steps) + 1, 3301))
    assert len(steps) < 1000
    (missed,) = [event for event in events if isinstance(event, StepsMissed)]
    assert missed.step == steps[0] - 1
    assert [sample.step for sample in missed.samples[-4:]] == [steps[0] - 2] * 2 + [steps[0] - 1] * 2
    assert len(missed.samples) <= KEPT_SAMPLES


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["step", "back", "run", "notice", "progress", "token", "answer", "take"]), max_size=80))
def test_each_step_is_told_or_named_as_missed_and_nothing_else_is_left_out(happens: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlhf_tui.engine.event_ring.KEPT_STEPS", 3)
        patch.setattr("rlhf_tui.engine.event_ring.TRACED_STEPS", 1)
        ring, put, heard, run, step = EventRing(), [], [], 0, 0
        for number, what in enumerate([*happens, "take"]):
            if what == "take":
                heard += ring.take()
                continue
            step = {"step": step + 1, "back": max(0, step - 2), "run": 0}.get(what, step)
            run += what == "run"
            put.append({
                "step": StepFinished(step, 99, {}, (story_sample(step, 0),), 0.0),
                "back": RolledBack(step, ""), "run": RunStarted(f"r{run}", f"runs/r{run}", SMALL, 0),
                "notice": Notice(str(number)), "progress": StepProgress(step, "rollout", number / 100),
                "token": GenerationToken(1, str(number)), "answer": GenerationFinished(1, "done"),
            }[what])
            ring.put(put[-1])
    kept = (RolledBack, RunStarted, Notice, GenerationFinished)
    assert [event for event in heard if isinstance(event, kept)] == [event for event in put if isinstance(event, kept)]
    known: dict[str, set[int]] = {}
    shown: dict[str, set[int]] = {}
    for events, curves in ((put, known), (heard, shown)):
        at = "."
        for event in events:
            at = event.path if isinstance(event, RunStarted) else at
            curve = curves.setdefault(at, set())
            if isinstance(event, StepFinished):
                curve.add(event.step)
            elif isinstance(event, StepsMissed):
                assert str(event.run) == at
                curve.update(range(1, event.step + 1))
            elif isinstance(event, RolledBack):
                curves[at] = {one for one in curve if one <= event.step}
    assert {at: curve for at, curve in shown.items() if curve} == {at: curve for at, curve in known.items() if curve}


def test_while_the_screen_stalls_only_the_newest_steps_keep_their_traces(
    bridge: EngineBridge, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_tui.engine.event_ring.TRACED_STEPS", 2)
    bridge.open()
    sample = story_sample(1, 0)
    traced = replace(sample, trace=story_trace(sample))
    for step in range(1, 6):
        sessions.last.emit(StepFinished(step, 100, {}, (traced,), 1.0))
    told = [event.samples for event in bridge.drain() if isinstance(event, StepFinished)]
    assert told == [(sample,), (sample,), (sample,), (traced,), (traced,)]


def test_draining_is_fast_only_while_text_streams(bridge: EngineBridge, sessions: Sessions, config: RunConfig) -> None:
    def drains_in(ticks: int) -> int:
        count = 0
        for _ in range(ticks):
            sessions.last.emit(Notice("x"))
            count += bool(bridge.tick())
        return count

    bridge.open()
    assert drains_in(30) == 10
    bridge.ask(Generate(bridge.new_id(), config, "Once", True, 1.0, 20, 0))
    assert drains_in(30) == 30
    sessions.last.emit(GenerationFinished(1, "done"))
    bridge.drain()
    assert drains_in(30) == 10


def test_mere_progress_is_told_once_a_second_and_never_keeps_other_news_waiting(
    bridge: EngineBridge, sessions: Sessions
) -> None:
    def told_in(ticks: int, *events: Event) -> list[list[Event]]:
        told = []
        for _ in range(ticks):
            for event in events:
                sessions.last.emit(event)
            told += filter(None, [bridge.tick()])
        return told

    bridge.open()
    assert told_in(90, StepProgress(1, "rollout", 0.5)) == [[StepProgress(1, "rollout", 0.5)]] * 10
    assert told_in(90, StepProgress(1, "rollout", 0.5), Notice("x"))[0][-1] == Notice("x")
    assert len(told_in(90, Notice("x"), StepProgress(1, "rollout", 0.5))) == 30


def test_steps_are_told_as_often_as_the_screen_has_time_for_and_other_news_at_once(
    tmp_path: Path, sessions: Sessions
) -> None:
    computed = 0.0
    bridge = EngineBridge(tmp_path, sessions, computed=lambda: computed)
    bridge.open()
    step = StepFinished(1, 100, {}, (), 1.0)

    def told_at(ticks: int, cost: float, news: Event = step) -> list[int]:
        """Ticks that told something, which costs the screen's thread so many seconds each."""
        nonlocal computed
        at = []
        for tick in range(1, ticks + 1):
            sessions.last.emit(news)
            if bridge.tick():
                at.append(tick)
                computed += cost
        return at

    assert told_at(24, cost=0.001) == [3, 6, 9, 12, 15, 18, 21, 24]
    assert told_at(24, cost=0.02) == [3, 9, 15, 21]  # 4 % of a core: half a second for each
    bridge.drain()
    assert told_at(27, cost=9.0) == [3, 15, 27]  # and yet there is something to see
    assert told_at(9, cost=9.0, news=Notice("x")) == [3, 6, 9]


def test_a_crash_of_the_engine_is_told_and_logged_and_a_new_start_works(
    bridge: EngineBridge, sessions: Sessions, config: RunConfig
) -> None:
    bridge.ask(Start(config, bridge.runs_root))
    sessions.last.break_down(ZeroDivisionError("division \x1b[2J by zero"))
    assert bridge.join(5)
    assert not bridge.busy
    notices = [event for event in bridge.drain() if isinstance(event, Notice)]
    assert "the engine crashed (ZeroDivisionError): division ␛[2J by zero" in notices[-1].text
    assert bridge.state is RunState.FAILED
    folder = Path(platformdirs.user_log_dir("rlhf-tui", appauthor=False))
    (log,) = folder.glob("crash-*.log")
    assert "Traceback" in log.read_text()
    bridge.ask(Start(config, bridge.runs_root))
    assert len(sessions) == 2
    assert bridge.busy


def test_everything_that_is_open_when_the_engine_crashes_is_answered(
    bridge: EngineBridge, sessions: Sessions, config: RunConfig
) -> None:
    bridge.ask(Start(config, bridge.runs_root))
    sessions.last.ask = lambda request: None  # type: ignore[method-assign]  # it has no time for that any more
    wanted, answered = (1, 2), 3
    bridge.ask(Generate(1, config, "Once", True, 1.0, 5, 0))
    bridge.ask(Compare(2, config, 8, 0))
    bridge.ask(Compare(answered, config, 8, 0))
    bridge.ask(Edit("kl.coef", 0.3))
    sessions.last.emit(ComparisonFinished(answered, None, "cancelled"))
    sessions.last.break_down(ZeroDivisionError("division by zero"))
    assert bridge.join(5)
    events = bridge.drain()
    told = {event.request_id: event.error for event in events
            if isinstance(event, GenerationFinished | ComparisonFinished)}
    assert told.keys() == {*wanted, answered}
    assert all("ZeroDivisionError" in told[request] for request in wanted)
    assert told[answered] == "cancelled"
    assert [event.path for event in events if isinstance(event, EditRefused)] == ["kl.coef"]
    bridge.ask(Compare(4, config, 8, 0))
    assert len(sessions) == 2


def test_an_engine_that_ends_answers_what_is_open(bridge: EngineBridge, config: RunConfig) -> None:
    bridge.open()
    bridge.ask(Compare(1, config, 8, 0))
    bridge.close()
    assert bridge.join(5)
    assert [event.request_id for event in bridge.drain() if isinstance(event, ComparisonFinished)] == [1]


def test_what_is_given_up_once_the_engine_has_ended_starts_no_other(
    bridge: EngineBridge, sessions: Sessions, config: RunConfig
) -> None:
    bridge.ask(Compare(1, config, 8, 0))
    bridge.close()
    assert bridge.join(5)
    bridge.ask(Cancel(1))
    bridge.close()
    assert not bridge.alive
    assert len(sessions) == 1


def test_closing_ends_the_thread(bridge: EngineBridge, config: RunConfig) -> None:
    bridge.ask(Start(config, bridge.runs_root))
    bridge.close()
    assert bridge.join(5)
    assert not bridge.alive


def test_questions_have_ids_of_their_own(bridge: EngineBridge) -> None:
    assert bridge.new_id() != bridge.new_id()
