"""One engine thread for many runs: starts, stops, and answers between and after steps."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_engine.config import RunConfig
from rlhf_engine.control import CompareRequest, GenerateRequest
from rlhf_engine.errors import RunError
from rlhf_engine.events import (
    ComparisonFinished,
    ComparisonProgress,
    Event,
    GenerationFinished,
    GenerationToken,
    RunStarted,
    RunState,
    StateChanged,
    StepFinished,
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
    served.session.close()
    served.thread.join(60)
    assert not served.thread.is_alive()


def generate(request_id: int, *, tuned: bool = True, tokens: int = 6) -> GenerateRequest:
    return GenerateRequest(request_id, "Once", tuned=tuned, temperature=1.0, max_new_tokens=tokens, seed=1)


def test_runs_one_after_another_and_refuses_a_second_at_once(
    served: Served, neo_config: RunConfig, tmp_path: Path
) -> None:
    served.session.start(neo_config, runs_root=tmp_path, name="one")
    assert served.session.busy
    with pytest.raises(RunError, match="a run is under way"):
        served.session.start(neo_config, runs_root=tmp_path, name="two")
    served.wait_for(StateChanged, state=RunState.FINISHED)
    while served.session.busy:
        time.sleep(0.01)
    served.session.start(neo_config, runs_root=tmp_path, name="two")
    assert served.wait_for(RunStarted).name == "two"  # type: ignore[attr-defined]
    served.wait_for(StateChanged, state=RunState.FINISHED)


def test_stop_then_resume_goes_on_from_the_same_step(served: Served, neo_config: RunConfig, tmp_path: Path) -> None:
    config = neo_config.model_copy(update={"train": neo_config.train.model_copy(update={"steps": 500})})
    served.session.start(config, runs_root=tmp_path, name="one")
    served.wait_for(StepFinished, step=2)
    served.session.stop()
    stopped = served.wait_for(StateChanged, state=RunState.STOPPED)
    while served.session.busy:
        time.sleep(0.01)
    served.session.resume(tmp_path / "one")
    assert served.wait_for(RunStarted).first_step == stopped.step  # type: ignore[attr-defined]
    assert served.wait_for(StepFinished).step == stopped.step + 1  # type: ignore[attr-defined]


def test_generates_before_any_run_with_the_shown_model(served: Served, neo_config: RunConfig) -> None:
    served.session.ask(generate(7, tuned=False), neo_config)
    finished = served.wait_for(GenerationFinished, request_id=7)
    tokens = [e.text for e in served.seen if isinstance(e, GenerationToken)]
    assert len(tokens) == finished.tokens == 6  # type: ignore[attr-defined]
    assert finished.text == tokens[-1]  # type: ignore[attr-defined]
    assert finished.kl == 0.0  # type: ignore[attr-defined]


def test_answers_between_the_steps_of_a_run_and_after_it(served: Served, neo_config: RunConfig, tmp_path: Path) -> None:
    served.session.pause()
    served.session.start(neo_config, runs_root=tmp_path)
    served.wait_for(StateChanged, state=RunState.PAUSED)
    served.session.ask(generate(1), neo_config)
    served.wait_for(GenerationFinished, request_id=1)
    assert not any(isinstance(e, StepFinished) for e in served.seen)
    served.session.unpause()
    served.wait_for(StateChanged, state=RunState.FINISHED)
    served.session.ask(CompareRequest(2, responses=4, seed=0), neo_config)
    result = served.wait_for(ComparisonFinished, request_id=2).result  # type: ignore[attr-defined]
    assert len(result.pairs) == 4
    assert [e for e in served.seen if isinstance(e, ComparisonProgress)][-1].done == 4


def test_a_wrong_request_is_answered_in_one_sentence(served: Served, neo_config: RunConfig) -> None:
    served.session.ask(generate(3, tokens=500), neo_config)
    assert "context of 64" in served.wait_for(GenerationFinished, request_id=3).error  # type: ignore[attr-defined]
    nowhere = neo_config.model_copy(update={"model": neo_config.model.model_copy(update={"name": "/no/such"})})
    served.session.ask(CompareRequest(4, responses=4, seed=0), nowhere)
    assert "there is no folder" in served.wait_for(ComparisonFinished, request_id=4).error  # type: ignore[attr-defined]


def test_a_run_that_cannot_start_fails_in_one_sentence_and_frees_the_session(
    served: Served, neo_config: RunConfig, tmp_path: Path
) -> None:
    nowhere = neo_config.model_copy(update={"model": neo_config.model.model_copy(update={"name": "/no/such"})})
    served.session.start(nowhere, runs_root=tmp_path)
    assert "there is no folder" in served.wait_for(StateChanged, state=RunState.FAILED).message  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []
    served.session.ask(generate(1), neo_config)
    served.wait_for(GenerationFinished, request_id=1, error="")


def test_a_cancelled_comparison_ends_early(served: Served, neo_config: RunConfig) -> None:
    served.session.ask(CompareRequest(5, responses=100_000, seed=0), neo_config)
    served.wait_for(ComparisonProgress, request_id=5)
    served.session.cancel(5)
    assert served.wait_for(ComparisonFinished, request_id=5).error == "cancelled"  # type: ignore[attr-defined]


def test_closing_saves_the_run_under_way(neo_config: RunConfig, tmp_path: Path) -> None:
    served = Served()
    config = neo_config.model_copy(update={"train": neo_config.train.model_copy(update={"steps": 500})})
    served.session.start(config, runs_root=tmp_path, name="one")
    served.wait_for(StepFinished, step=1)
    served.session.close()
    served.thread.join(60)
    assert not served.thread.is_alive()
    assert served.wait_for(StateChanged, state=RunState.STOPPED)
