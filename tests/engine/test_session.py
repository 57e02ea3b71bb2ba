"""One engine thread for many runs: starts, stops, and answers between and after steps."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RunError
from rlhf_engine.events import (
    CheckpointSaved,
    ComparisonFinished,
    ComparisonProgress,
    EditApplied,
    EditRefused,
    Event,
    GenerationFinished,
    GenerationToken,
    RunStarted,
    RunState,
    StateChanged,
    StepFinished,
)
from rlhf_engine.requests import (
    Cancel,
    Close,
    Compare,
    Edit,
    Generate,
    Pause,
    Resume,
    SaveCheckpoint,
    Start,
    Stop,
    Unpause,
)
from rlhf_engine.session import Session


class Served:
    """A session in a thread of its own, and its events."""

    def __init__(self) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.seen: list[Event] = []
        self.session = Session(self.events.put)
        self.thread = threading.Thread(target=self.session.serve, daemon=True)
        self.thread.start()

    def wait_for(self, kind: type, **fields: object) -> Event:
        """The next event of this kind with these field values; fails after a minute."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            event = self.events.get(timeout=60)
            self.seen.append(event)
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items()):
                return event
        raise AssertionError(f"no {kind.__name__} {fields} in a minute")


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.session.ask(Close())
    served.thread.join(60)
    assert not served.thread.is_alive()


def generate(request_id: int, config: RunConfig, *, tuned: bool = True, tokens: int = 6) -> Generate:
    return Generate(request_id, config, "Once", tuned=tuned, temperature=1.0, max_new_tokens=tokens, seed=1)


def test_runs_one_after_another_and_refuses_a_second_at_once(
    served: Served, neo_config: RunConfig, tmp_path: Path
) -> None:
    served.session.ask(Start(neo_config, tmp_path, "one"))
    assert served.session.busy
    with pytest.raises(RunError, match="stop it before another one starts"):
        served.session.ask(Start(neo_config, tmp_path, "two"))
    served.wait_for(StateChanged, state=RunState.FINISHED)
    while served.session.busy:
        time.sleep(0.01)
    served.session.ask(Start(neo_config, tmp_path, "two"))
    assert served.wait_for(RunStarted).name == "two"  # type: ignore[attr-defined]
    served.wait_for(StateChanged, state=RunState.FINISHED)


def test_stop_then_resume_goes_on_from_the_same_step(served: Served, neo_config: RunConfig, tmp_path: Path) -> None:
    config = neo_config.model_copy(update={"train": neo_config.train.model_copy(update={"steps": 1_000_000})})
    served.session.ask(Start(config, tmp_path, "one"))
    served.wait_for(StepFinished, step=2)
    served.session.ask(Stop())
    stopped = served.wait_for(StateChanged, state=RunState.STOPPED)
    while served.session.busy:
        time.sleep(0.01)
    served.session.ask(Resume(tmp_path / "one"))
    assert served.wait_for(RunStarted).first_step == stopped.step  # type: ignore[attr-defined]
    assert served.wait_for(StepFinished).step == stopped.step + 1  # type: ignore[attr-defined]


def test_generates_before_any_run_with_the_shown_model(served: Served, neo_config: RunConfig) -> None:
    served.session.ask(generate(7, neo_config, tuned=False))
    finished = served.wait_for(GenerationFinished, request_id=7)
    tokens = [e.text for e in served.seen if isinstance(e, GenerationToken)]
    assert len(tokens) == finished.tokens == 6  # type: ignore[attr-defined]
    assert finished.text == tokens[-1]  # type: ignore[attr-defined]
    assert finished.kl == 0.0  # type: ignore[attr-defined]


def test_answers_between_the_steps_of_a_run_and_after_it(served: Served, neo_config: RunConfig, tmp_path: Path) -> None:
    served.session.ask(Start(neo_config, tmp_path))
    served.session.ask(Pause())
    served.wait_for(StateChanged, state=RunState.PAUSED)
    served.session.ask(generate(1, neo_config))
    served.wait_for(GenerationFinished, request_id=1)
    assert not any(isinstance(e, StepFinished) for e in served.seen)
    served.session.ask(Unpause())
    served.wait_for(StateChanged, state=RunState.FINISHED)
    served.session.ask(Compare(2, neo_config, 4, 0))
    result = served.wait_for(ComparisonFinished, request_id=2).result  # type: ignore[attr-defined]
    assert len(result.pairs) == 4
    assert [e for e in served.seen if isinstance(e, ComparisonProgress)][-1].done == 4


def test_what_is_asked_while_nothing_runs_reaches_no_later_run(
    served: Served, neo_config: RunConfig, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        served.session.ask(Pause())
        served.session.ask(Stop())
        served.session.ask(SaveCheckpoint())
        served.session.ask(Edit("kl.coef", 0.9))
        assert served.wait_for(EditRefused, path="kl.coef")
        served.session.ask(Start(neo_config, tmp_path, name))
        assert served.wait_for(StateChanged, state=RunState.FINISHED).step == 3  # type: ignore[attr-defined]
    assert not any(isinstance(e, EditApplied) or getattr(e, "state", "") is RunState.PAUSED for e in served.seen)


def test_an_edit_that_comes_after_the_last_step_is_refused_and_does_not_reach_the_next_run(
    neo_config: RunConfig, tmp_path: Path
) -> None:
    served = Served()
    served.session.ask(Close())
    emit, train = served.events.put, neo_config.train
    # saved at the end alone: after what is asked between steps was looked at for the last time
    config = neo_config.model_copy(update={"train": train.model_copy(update={"checkpoint_every": 100})})

    def late(event: Event) -> None:
        emit(event)
        if isinstance(event, CheckpointSaved) and event.step == 3 and "one" in event.path:
            session.ask(Edit("kl.coef", 0.9))
            session.ask(Pause())
            session.ask(generate(1, neo_config))

    session = served.session = Session(late)
    served.thread = threading.Thread(target=session.serve, daemon=True)
    served.thread.start()
    session.ask(Start(config, tmp_path, "one"))
    served.wait_for(StateChanged, state=RunState.FINISHED)
    assert not session.busy
    assert served.wait_for(EditRefused).path == "kl.coef"  # type: ignore[attr-defined]
    session.ask(Start(neo_config, tmp_path, "two"))
    served.wait_for(GenerationFinished, request_id=1, error="")
    started = served.wait_for(RunStarted, name="two")
    assert started.config.kl.coef == neo_config.kl.coef  # type: ignore[attr-defined]
    served.wait_for(StateChanged, state=RunState.FINISHED)
    assert not any(getattr(event, "state", "") is RunState.PAUSED for event in served.seen)
    session.ask(Close())


def test_each_question_is_answered_with_the_settings_that_came_with_it(neo_config: RunConfig) -> None:
    events: queue.Queue[Event] = queue.Queue()
    session = Session(events.put)
    for request_id, penalty in ((1, 1.0), (2, 3.0)):
        reward = LengthRewardConfig(name="length", min_words=50, penalty_per_word=penalty, max_penalty=1000)
        session.ask(generate(request_id, neo_config.model_copy(update={"rewards": [reward]})))
    thread = threading.Thread(target=session.serve, daemon=True)
    thread.start()
    answers = []
    while len(answers) < 2:
        event = events.get(timeout=60)
        answers += [event] if isinstance(event, GenerationFinished) else []
    session.ask(Close())
    thread.join(60)
    assert answers[0].text == answers[1].text
    assert answers[0].score < 0
    assert answers[1].score == pytest.approx(3 * answers[0].score)


def test_a_run_waits_for_the_questions_that_were_asked_before_it(
    neo_config: RunConfig, tmp_path: Path
) -> None:
    events: queue.Queue[Event] = queue.Queue()
    session = Session(events.put)
    session.ask(Compare(1, neo_config, 2, 0))
    session.ask(Compare(2, neo_config, 100_000, 0))
    session.ask(Start(neo_config, tmp_path))
    session.ask(Cancel(2))
    session.ask(Cancel(7))  # nobody asked that yet, or not any more
    session.ask(generate(7, neo_config))
    thread = threading.Thread(target=session.serve, daemon=True)
    thread.start()
    seen: list[Event] = []
    while not (seen and isinstance(seen[-1], StateChanged) and seen[-1].state.ended):
        seen.append(events.get(timeout=60))
    session.ask(Close())
    thread.join(60)
    told = [event for event in seen if isinstance(event, ComparisonFinished | RunStarted | GenerationFinished)]
    assert [type(event) for event in told] == [ComparisonFinished, ComparisonFinished, RunStarted, GenerationFinished]
    assert [getattr(event, "error", "") for event in told] == ["", "cancelled", "", ""]


def test_when_the_end_is_told_the_next_run_may_start(neo_config: RunConfig, tmp_path: Path) -> None:
    busy: list[bool] = []
    done = threading.Event()

    def heard(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state.ended:
            busy.append(session.busy)
            if len(busy) == 1:
                session.ask(Start(neo_config, tmp_path))
            else:
                done.set()

    session = Session(heard)
    threading.Thread(target=session.serve, daemon=True).start()
    session.ask(Start(neo_config, tmp_path))
    assert done.wait(120)
    session.ask(Close())
    assert busy == [False, False]


def test_a_wrong_request_is_answered_in_one_sentence(served: Served, neo_config: RunConfig) -> None:
    served.session.ask(generate(3, neo_config, tokens=500))
    assert "context of 64" in served.wait_for(GenerationFinished, request_id=3).error  # type: ignore[attr-defined]
    nowhere = neo_config.model_copy(update={"model": neo_config.model.model_copy(update={"name": "/no/such"})})
    served.session.ask(Compare(4, nowhere, 4, 0))
    assert "there is no folder" in served.wait_for(ComparisonFinished, request_id=4).error  # type: ignore[attr-defined]


def test_a_run_that_cannot_start_fails_in_one_sentence_and_frees_the_session(
    served: Served, neo_config: RunConfig, tmp_path: Path
) -> None:
    nowhere = neo_config.model_copy(update={"model": neo_config.model.model_copy(update={"name": "/no/such"})})
    served.session.ask(Start(nowhere, tmp_path))
    assert "there is no folder" in served.wait_for(StateChanged, state=RunState.FAILED).message  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []
    served.session.ask(generate(1, neo_config))
    served.wait_for(GenerationFinished, request_id=1, error="")


def test_a_cancelled_comparison_ends_early(served: Served, neo_config: RunConfig) -> None:
    served.session.ask(Compare(5, neo_config, 100_000, 0))
    served.wait_for(ComparisonProgress, request_id=5)
    served.session.ask(Cancel(5))
    assert served.wait_for(ComparisonFinished, request_id=5).error == "cancelled"  # type: ignore[attr-defined]


def test_closing_saves_the_run_under_way(neo_config: RunConfig, tmp_path: Path) -> None:
    served = Served()
    config = neo_config.model_copy(update={"train": neo_config.train.model_copy(update={"steps": 1_000_000})})
    served.session.ask(Start(config, tmp_path, "one"))
    served.wait_for(StepFinished, step=1)
    served.session.ask(Close())
    served.thread.join(60)
    assert not served.thread.is_alive()
    assert served.wait_for(StateChanged, state=RunState.STOPPED)
