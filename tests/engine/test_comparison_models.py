"""Comparing any two: whatever a checkpoint is put into is afterwards as it was, bit for bit."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import pytest
import torch
from tiny_models import stir, tiny_config

from rlhf_engine.errors import CheckpointError, ModelError, RunError
from rlhf_engine.evaluation import compare as comparing
from rlhf_engine.evaluation.compare import Comparison, compare, compare_run
from rlhf_engine.evaluation.generate import load_tuned
from rlhf_engine.events import ComparisonFinished, Event, RunState, StateChanged, StepFinished
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import REFERENCE, TUNED, Close, Compare, RequestQueue, Side
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.session import Session
from rlhf_engine.training.trainer import Trainer


def train(root: Path, config, name: str) -> RunDir:
    run_dir = RunDir.create(root, config, name=name)
    Trainer(config, run_dir=run_dir, emit=lambda event: None).run()
    return run_dir


@pytest.fixture(scope="module")
def runs(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDir]:
    """Two runs of one model with different scales of their adapters, one of another rank, one of another model."""
    root = tmp_path_factory.mktemp("runs")
    neo = model_folders["gpt_neo"]
    lively = {"train": {"steps": 3}, "optimizer": {"learning_rate": 0.05}}
    return {
        "one": train(root, tiny_config(neo, **lively), "one"),
        "two": train(root, tiny_config(neo, **lively, lora={"rank": 4, "alpha": 64.0}), "two"),
        "wide": train(root, tiny_config(neo, **lively, lora={"rank": 8}), "wide"),
        "llama": train(root, tiny_config(model_folders["llama"], **lively), "llama"),
    }


def at(run: RunDir, step: int | None = None) -> Side:
    return Side("checkpoint", run.path, step)


def everything(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in
            [*policy.base.named_parameters(), *policy.base.named_buffers(), *policy.heads["value"].named_parameters()]}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def texts(result: Comparison | None, side: str) -> list[str]:
    assert result is not None
    return [getattr(pair, side).response for pair in result.pairs]


def test_a_checkpoint_answers_in_anothers_place_as_it_does_in_its_own(runs: dict[str, RunDir]) -> None:
    policy, config, step = load_tuned(runs["one"])
    before = everything(policy)
    result = compare(policy, config, responses=6, seed=3, step=step, sides=(TUNED, at(runs["two"])), may_load=False)
    own = Policy.from_config(runs["two"].config())
    alone = compare(*load_tuned(runs["two"])[:2], responses=6, seed=3)
    assert texts(result, "tuned") == texts(alone, "tuned")
    assert texts(result, "reference") == texts(compare_run(runs["one"], responses=6, seed=3), "tuned")
    assert texts(result, "tuned") != texts(result, "reference")
    assert result.labels == ("tuned", "two@3")
    assert result.settings_of == "the run on the workbench"
    assert same(everything(policy), before)
    assert own.adapters["actor"].keys() == policy.adapters["actor"].keys()


@pytest.mark.parametrize("breaking", ["raise", "cancel", "interrupt"])
def test_the_adapter_is_back_bit_for_bit_whatever_happens(
    runs: dict[str, RunDir], monkeypatch: pytest.MonkeyPatch, breaking: str
) -> None:
    policy, config, _ = load_tuned(runs["one"])
    stir(policy)
    first = next(iter(policy.adapters["actor"].values()))
    first.data.view(-1)[:3] = torch.tensor([float("nan"), -0.0, 1e-42])  # what a sum would not bring back
    before = {name: value.numpy().tobytes() for name, value in everything(policy).items()}
    scales = [layer.scaling["actor"] for layer in policy._layers]
    calls = 0

    def broken(*_: object, **__: object) -> None:
        assert not torch.equal(first.nan_to_num(), torch.zeros_like(first))
        raise KeyboardInterrupt if breaking == "interrupt" else torch.OutOfMemoryError("no room")

    def cancelled() -> bool:
        nonlocal calls
        calls += 1
        return calls > 1

    if breaking == "cancel":
        assert compare(policy, config, responses=64, seed=0, sides=(at(runs["two"]), TUNED), may_load=False,
                       cancelled=cancelled) is None
    else:
        monkeypatch.setattr("rlhf_engine.evaluation.generate.sample", broken)
        with pytest.raises((KeyboardInterrupt, torch.OutOfMemoryError)):
            compare(policy, config, responses=4, seed=0, sides=(at(runs["two"]), REFERENCE), may_load=False)
    assert {name: value.numpy().tobytes() for name, value in everything(policy).items()} == before
    assert [layer.scaling["actor"] for layer in policy._layers] == scales


def test_merged_copies_of_a_decoder_are_of_the_adapter_that_plays(runs: dict[str, RunDir]) -> None:
    policy, config, _ = load_tuned(runs["one"])
    decoder = PreparedDecoder(policy)
    ids, mask = policy.encode(["One day,"])
    before = decoder.start(ids, mask, 4).clone()
    compare(policy, config, responses=2, seed=0, sides=(at(runs["two"]), REFERENCE), may_load=False)
    assert torch.equal(decoder.start(ids, mask, 4), before)


@pytest.mark.parametrize("other", ["wide", "llama"])
def test_what_does_not_fit_is_refused_while_training_and_loaded_when_idle(
    runs: dict[str, RunDir], other: str
) -> None:
    policy, config, _ = load_tuned(runs["one"])
    before = everything(policy)
    with pytest.raises(ModelError, match=f"{other}@3 does not fit the model that trains now .* when no run is"):
        compare(policy, config, responses=4, seed=1, sides=(TUNED, at(runs[other])), may_load=False)
    result = compare(policy, config, responses=4, seed=1, sides=(TUNED, at(runs[other])))
    assert texts(result, "tuned") == texts(compare_run(runs[other], responses=4, seed=1), "tuned")
    assert same(everything(policy), before)


def test_two_checkpoints_need_no_policy_and_are_judged_by_the_first(
    runs: dict[str, RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    real = Policy.from_config.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Policy, "from_config", classmethod(lambda *given: loaded.append(given) or real(*given)))
    result = compare(None, None, responses=4, seed=1, sides=(at(runs["one"], 1), at(runs["one"])))
    assert len(loaded) == 1  # the second wears its adapter on the base of the first
    assert (result.labels, result.settings_of) == (("one@1", "one@3"), "one@1")
    assert texts(result, "tuned") == texts(compare_run(runs["one"], responses=4, seed=1), "tuned")
    assert texts(result, "reference") == texts(compare_run(runs["one"], 1, responses=4, seed=1), "tuned")
    again = compare(None, None, responses=4, seed=1, sides=(at(runs["one"]), at(runs["one"])))
    assert all(row.difference.value == 0 for row in again.rows)


def test_what_is_not_there_is_said_before_anybody_answers(runs: dict[str, RunDir], tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    for side, error in ((at(runs["one"], 77), CheckpointError), (Side("checkpoint", tmp_path / "gone"), RunError)):
        with pytest.raises(error):
            compare(None, None, responses=4, seed=1, sides=(at(runs["one"]), side),
                    progress=lambda done, total: progress.append((done, total)))
    assert progress == []


def test_a_run_takes_the_same_course_with_a_comparison_in_its_middle(
    runs: dict[str, RunDir], model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny_config(model_folders["gpt_neo"], train={"steps": 4}, optimizer={"learning_rate": 0.05})
    ends = []
    for name in ("plain", "asked"):
        run_dir = RunDir.create(tmp_path, config, name=name)
        requests, events = RequestQueue(), []

        def emit(event: Event, asks: bool = name == "asked", requests=requests, events=events) -> None:
            events.append(event)
            if asks and isinstance(event, StepFinished) and event.step == 2:
                requests.ask(Compare(1, config, 4, 0, at(runs["two"]), TUNED))
                requests.ask(Compare(2, config, 4, 0, at(runs["llama"]), TUNED))

        assert Trainer(config, run_dir=run_dir, requests=requests, emit=emit).run() is RunState.FINISHED
        ends.append(checkpoint.load_newest(run_dir)[0].tensors)
    assert same(*ends)
    answers = {event.request_id: event for event in events if isinstance(event, ComparisonFinished)}
    assert answers[1].result.labels == ("two@3", "tuned")
    assert "does not fit the model that trains now" in answers[2].error


def test_an_idle_session_compares_two_checkpoints_without_loading_its_own_model(
    runs: dict[str, RunDir], model_folders: dict[str, Path]
) -> None:
    events: queue.Queue[Event] = queue.Queue()
    session = Session(events.put)
    thread = threading.Thread(target=session.serve, daemon=True)
    thread.start()
    nowhere = tiny_config(model_folders["gpt_neo"] / "no-such-model")
    session.ask(Compare(1, nowhere, 4, 0, at(runs["one"]), at(runs["llama"])))
    session.ask(Compare(2, nowhere, 4, 0, REFERENCE, at(runs["llama"])))
    found = {}
    while len(found) < 2:
        event = events.get(timeout=60)
        assert not isinstance(event, StateChanged)
        if isinstance(event, ComparisonFinished):
            found[event.request_id] = event
    session.ask(Close())
    thread.join(60)
    assert found[1].result.labels == ("one@3", "llama@3")
    assert "no-such-model" in found[2].error


def test_the_screen_can_read_comparisons_without_torch() -> None:
    assert "torch" not in vars(comparing)
