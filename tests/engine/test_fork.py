"""Forks: another course from a checkpoint, which leaves the parent alone and remembers it."""

from __future__ import annotations

import errno
import queue
import shutil
import threading
from pathlib import Path

import pytest
import torch
from moments import wait_until
from tiny_models import tiny_config

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import BaseChangedError, CheckpointError, ConfigError, RunError
from rlhf_engine.events import Event, RunState, StateChanged, StepFinished
from rlhf_engine.requests import Close, Edit, Fork, RequestQueue, Resume
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.parent import Parent
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import RunSummary, as_tree, list_runs
from rlhf_engine.session import Session
from rlhf_engine.training.fork import fork
from rlhf_engine.training.trainer import Trainer


@pytest.fixture(scope="module")
def parent(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Four steps, each with its checkpoint, the KL coefficient edited before the third."""
    config = tiny_config(model_folders["gpt_neo"], train={"steps": 4})
    run_dir = RunDir.create(tmp_path_factory.mktemp("runs"), config, name="parent", preset="p")
    requests = RequestQueue()

    def emit(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == 2:
            requests.ask(Edit("kl.coef", 0.3))

    Trainer(config, run_dir=run_dir, requests=requests, emit=emit).run()
    return run_dir


def files(run_dir: RunDir) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run_dir.path.rglob("*") if path.is_file()}


def finish(run_dir: RunDir) -> RunState:
    return Trainer.resume(run_dir, emit=lambda event: None).run()


def curve(run_dir: RunDir) -> list[tuple[int, dict[str, float]]]:
    return [(line.step, {name: value for name, value in line.metrics.items() if not name.startswith(("time", "thr"))})
            for line in run_dir.metrics()]


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_fork_without_changes_is_its_parent_again_from_any_checkpoint(
    parent: RunDir, tmp_path: Path, step: int
) -> None:
    before = files(parent)
    child = fork(parent, step=step, changes={}, root=tmp_path, name="child")
    assert child.parent == Parent("parent", step)
    assert child.preset == "p"
    requests = RequestQueue()

    def emit(event: Event) -> None:  # the parent's edit came between the second and the third step
        if isinstance(event, StepFinished) and event.step == 2:
            requests.ask(Edit("kl.coef", 0.3))

    if step == 2:
        requests.ask(Edit("kl.coef", 0.3))
    assert Trainer.resume(child, requests=requests, emit=emit).run() is RunState.FINISHED
    assert curve(child) == curve(parent)
    ours, theirs = checkpoint.load_newest(child)[0].tensors, checkpoint.load_newest(parent)[0].tensors
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert files(parent) == before


def test_changes_hold_from_the_first_step_and_are_the_childs_own_beginning(parent: RunDir, tmp_path: Path) -> None:
    changes = {"kl.coef": 0.9, "train.steps": 6, "algorithm.responses_per_step": 4, "lora.alpha": 16.0, "train.seed": 7}
    child = fork(parent, changes=changes, root=tmp_path)
    assert child.config().kl.coef == 0.9
    assert finish(child) is RunState.FINISHED
    assert [line.metrics["kl_coef"] for line in child.metrics()] == [0.1, 0.1, 0.3, 0.3, 0.9, 0.9]
    assert child.edits() == []
    state = checkpoint.load(checkpoint.candidates(child)[-1])
    assert (state.step, state.numbers["kl_coef"]) == (4, 0.9)
    assert not any(name.startswith("generator/") for name in state.tensors)  # they begin with the new seed


@pytest.mark.parametrize(("changes", "said"), [
    ({"lora.rank": 8}, "lora.rank: a fork keeps the model"),
    ({"train.steps": 4}, "train.steps: the checkpoint is of step 4 already"),
    ({"kl.coef": -1.0}, "kl.coef: -1 is not"),
])
def test_what_does_not_fit_is_refused_before_anything_is_made(
    parent: RunDir, tmp_path: Path, changes: dict, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        fork(parent, changes={"train.steps": 9} | changes, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_another_model_is_refused_before_anything_is_made(parent: RunDir, tmp_path: Path) -> None:
    with pytest.raises(BaseChangedError, match=r"parent .* storyteller .* weights, architecture"):
        fork(parent, changes={"train.steps": 9, "model.name": "storyteller"}, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_step_without_a_checkpoint_is_named_with_those_there_are(parent: RunDir, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint of step 9; there are those of steps 0, 1, 2, 3, 4"):
        fork(parent, step=9, changes={}, root=tmp_path)


def test_a_session_forks(parent: RunDir, tmp_path: Path) -> None:
    events: queue.Queue[Event] = queue.Queue()
    session = Session(events.put)
    thread = threading.Thread(target=session.serve, daemon=True)
    thread.start()
    session.ask(Fork(parent.path, tmp_path, {"kl.coef": 0.5}, step=3, name="by-session"))
    while not (isinstance(event := events.get(timeout=60), StateChanged) and event.state.ended):
        pass
    session.ask(Close())
    thread.join(60)
    assert event.state is RunState.FINISHED
    assert RunDir.open(tmp_path / "by-session").parent == Parent("parent", 3)


def test_runs_stand_below_the_run_they_came_from(neo_config: RunConfig, tmp_path: Path) -> None:
    def make(name: str, parent: Parent | None = None) -> None:
        RunDir.create(tmp_path, neo_config, name=name, parent=parent)

    make("a")
    make("b", Parent("a", 5))
    make("c", Parent("b", 7))
    make("d", Parent("gone", 1))
    make("x", Parent("y", 1))  # a circle, as only an edited file can hold
    make("y", Parent("x", 1))
    tree = as_tree(sorted(list_runs(tmp_path), key=lambda run: run.name))
    assert [(depth, run.name) for depth, run in tree] == [(0, "a"), (1, "b"), (2, "c"), (0, "d"), (0, "x"), (0, "y")]
    parents: dict[str, RunSummary] = {run.name: run for _, run in tree}
    assert parents["b"].parent == Parent("a", 5)
    assert parents["a"].parent is None


@pytest.mark.parametrize("failing", ["append_metrics", "write_new", "save"])
def test_a_disk_that_fails_leaves_nothing_of_the_child(
    parent: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    def refused(*_: object, **__: object) -> None:
        raise RunError("it could not be written: the disk is full.")

    RunDir.create(tmp_path, parent.config(), name="other")
    before = files(parent)
    if failing == "write_new":
        monkeypatch.setattr("rlhf_engine.runs.run_dir.write_new", full)
    else:
        monkeypatch.setattr(RunDir if failing == "append_metrics" else checkpoint, failing, refused)
    with pytest.raises(RunError, match="the disk is full"):
        fork(parent, step=2, changes={}, root=tmp_path, name="child")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert files(parent) == before


def test_a_session_goes_on_with_a_finished_run_for_more_steps(parent: RunDir, tmp_path: Path) -> None:
    run = RunDir(shutil.copytree(parent.path, tmp_path / "runs" / "longer"))
    before = run.config().train.steps
    events: list[Event] = []
    session = Session(events.append)
    session.ask(Resume(run.path))
    session.ask(Edit("train.steps", before + 2))
    thread = threading.Thread(target=session.serve)
    thread.start()
    wait_until(lambda: any(isinstance(event, StateChanged) and event.state.ended for event in events))
    session.ask(Close())
    thread.join()
    assert [line.step for line in run.metrics()][-2:] == [before + 1, before + 2]
    assert [(edit.path, edit.new) for edit in run.edits()][-1] == ("train.steps", before + 2)
