"""The bridge keeps engine and screen apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest
from tui.fake_session import Sessions, story_sample, story_trace

from rlhf_engine.config import RunConfig
from rlhf_engine.errors import RunError
from rlhf_engine.events import (
    ComparisonFinished,
    EditRefused,
    Event,
    GenerationFinished,
    GenerationToken,
    Notice,
    RunState,
    StateChanged,
    StepFinished,
    StepProgress,
)
from rlhf_tui.bridge import RING_SIZE, EngineBridge


def test_no_session_is_made_before_it_is_needed(bridge: EngineBridge, sessions: Sessions) -> None:
    assert sessions == []
    assert not bridge.busy
    assert bridge.state is None


def test_events_arrive_in_order_and_update_the_view(
    bridge: EngineBridge, sessions: Sessions, config: RunConfig
) -> None:
    bridge.start(config, "animals")
    sessions.last.steps(3)
    kinds = [type(event).__name__ for event in bridge.drain()]
    assert kinds == ["RunStarted", "StateChanged", "ModelLoaded", "StateChanged", *["StepFinished"] * 3]
    view = bridge.view
    assert (view.name, view.preset, view.state, view.step) == ("brave-otter", "animals", RunState.TRAINING, 3)
    assert view.eta_seconds == pytest.approx(97 * 0.5)
    assert bridge.drain() == []


def test_a_second_start_is_refused_while_one_is_busy(bridge: EngineBridge, config: RunConfig) -> None:
    bridge.start(config)
    with pytest.raises(RunError):
        bridge.start(config)


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


def test_the_ring_is_bounded_and_the_newest_state_survives(bridge: EngineBridge, sessions: Sessions) -> None:
    bridge.open()
    for index in range(RING_SIZE * 2):
        sessions.last.emit(Notice(str(index)))
    sessions.last.emit(StateChanged(RunState.FINISHED, 5, 5))
    assert len(bridge.drain()) == RING_SIZE
    assert bridge.state is RunState.FINISHED


def test_while_the_screen_stalls_only_the_newest_steps_keep_their_traces(
    bridge: EngineBridge, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_tui.bridge.TRACED_EVENTS", 3)
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
    request = bridge.generate("Once", True, 1.0, 20, 0, config)
    assert drains_in(30) == 30
    sessions.last.emit(GenerationFinished(request, "done"))
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


def test_a_crash_of_the_engine_is_told_and_logged_and_a_new_start_works(
    bridge: EngineBridge, sessions: Sessions, config: RunConfig
) -> None:
    bridge.start(config)
    sessions.last.break_down(ZeroDivisionError("division \x1b[2J by zero"))
    assert bridge.join(5)
    assert not bridge.busy
    notices = [event for event in bridge.drain() if isinstance(event, Notice)]
    assert "the engine crashed (ZeroDivisionError): division ␛[2J by zero" in notices[-1].text
    assert bridge.state is RunState.FAILED
    folder = Path(platformdirs.user_log_dir("rlhf-tui", appauthor=False))
    (log,) = folder.glob("crash-*.log")
    assert "Traceback" in log.read_text()
    bridge.start(config)
    assert len(sessions) == 2
    assert bridge.busy


def test_everything_that_is_open_when_the_engine_crashes_is_answered(
    bridge: EngineBridge, sessions: Sessions, config: RunConfig
) -> None:
    bridge.start(config)
    sessions.last.edit = lambda path, value: None  # type: ignore[method-assign]  # it has no time for that any more
    wanted = bridge.generate("Once", True, 1.0, 5, 0, config), bridge.compare(8, 0, config)
    answered = bridge.compare(8, 0, config)
    bridge.edit("kl.coef", 0.3)
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
    bridge.compare(8, 0, config)
    assert len(sessions) == 2


def test_an_engine_that_ends_answers_what_is_open(bridge: EngineBridge, config: RunConfig) -> None:
    bridge.open()
    asked = bridge.compare(8, 0, config)
    bridge.close()
    assert bridge.join(5)
    assert [event.request_id for event in bridge.drain() if isinstance(event, ComparisonFinished)] == [asked]


def test_closing_ends_the_thread(bridge: EngineBridge, config: RunConfig) -> None:
    bridge.start(config)
    bridge.close()
    assert bridge.join(5)
    assert not bridge.alive


def test_requests_have_ids_of_their_own(bridge: EngineBridge, sessions: Sessions, config: RunConfig) -> None:
    first = bridge.generate("a", True, 1.0, 5, 0, config)
    second = bridge.compare(8, 0, config)
    assert first != second
    bridge.cancel(second)
    assert sessions.last.calls[-1] == ("cancel", second)
