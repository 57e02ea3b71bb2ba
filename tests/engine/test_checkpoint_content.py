"""Checkpoints whose SHA-256 sums are right and whose content is not: told in a sentence, with the one before used.

Each mutation rewrites the newest checkpoint of a copy of one real run, with the sums that belong to it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_ppo, tiny_config
from torch import Tensor
from typer.testing import CliRunner, Result

from rlhf_engine.algorithms.base import State
from rlhf_engine.algorithms.ppo import PPO
from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError
from rlhf_engine.evaluation.questions import answer_question
from rlhf_engine.events import ComparisonFinished, Event, Notice, RolledBack, RunStarted, RunState, StepFinished
from rlhf_engine.requests import Compare, Edit, RequestQueue, Side
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

Tensors = dict[str, Tensor]
NAN, INFINITY = math.nan, math.inf
LORA_A = "base_model.model.transformer.h.0.attn.attention.q_proj.lora_A.{role}.weight"
ACTOR, CRITIC = f"actor/{LORA_A.format(role='actor')}", f"critic/{LORA_A.format(role='critic')}"
MOMENT = f"optimizer/{ACTOR}"


@pytest.fixture(scope="module")
def trained(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Two steps, each with its checkpoint."""
    config = tiny_config(model_folders["gpt_neo"], lora={"target_modules": "q_proj"},
                         train={"steps": 2, "checkpoint_every": 1}, probe={"every": 0})
    run_dir = RunDir.create(tmp_path_factory.mktemp("runs"), config, name="mine")
    trainer = Trainer(config, run_dir=run_dir, emit=lambda event: None)
    assert trainer.run() is RunState.FINISHED
    return run_dir


@pytest.fixture(scope="module")
def ppo(trained: RunDir) -> PPO:
    """One learner for all that is only looked at."""
    config = trained.config()
    return make_ppo(config)


@pytest.fixture
def mine(trained: RunDir, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(trained.path, tmp_path / "runs" / "mine")))


def newest(run: RunDir) -> Path:
    return checkpoint.candidates(run)[0]


def passed_over(run: RunDir, file: Path) -> checkpoint.TrainingState:
    """The state of the checkpoint before, which is taken with one sentence that names `file`."""
    state, notices = checkpoint.load_newest(run)
    assert state.step == 1
    assert len(notices) == 1
    assert str(file) in notices[0]
    assert "\n" not in notices[0]
    return state


def signed(path: Path) -> None:
    """Write the sums of what is there now into the manifest."""
    digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest()
               for name in ("tensors.safetensors", "state.json")}
    (path / "manifest.json").write_text(json.dumps({"format": 1, "files": digests}))


def with_tensors(path: Path, change: Callable[[Tensors], None]) -> None:
    tensors = safetensors.torch.load_file(path / "tensors.safetensors")
    change(tensors)
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()},
                                path / "tensors.safetensors")
    signed(path)


def with_state(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    state = json.loads((path / "state.json").read_text())
    change(state)
    (path / "state.json").write_text(json.dumps(state))  # which writes NaN and Infinity, as others may
    signed(path)


def with_text(path: Path, old: str, new: str) -> None:
    text = (path / "state.json").read_text()
    assert old in text
    (path / "state.json").write_text(text.replace(old, new, 1))
    signed(path)


def resumed(run: RunDir, steps: int = 3) -> tuple[RunState, list[Event]]:
    events: list[Event] = []
    requests = RequestQueue()
    requests.ask(Edit("train.steps", steps))
    return Trainer.resume(run, requests=requests, emit=events.append).run(), events


def command(*words: object) -> Result:
    return CliRunner().invoke(make_app(), [str(word) for word in words])


def one_sentence(result: Result) -> str:
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    return line


# --- what is wrong with a tensor, whatever the model ---


def put(name: str, value: Callable[[Tensor], Tensor]) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = value(tensors[name])
    return change


def at_one_place(number: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed.view(-1)[-1] = number
        return changed
    return change


SELF_EVIDENT: dict[str, Callable[[Tensors], None]] = {
    "NaN in the actor": put(ACTOR, at_one_place(NAN)),
    "infinity in the critic": put(CRITIC, at_one_place(INFINITY)),
    "NaN in the value head": put("critic/value_head.weight", at_one_place(NAN)),
    "NaN in a mean of gradients": put(f"{MOMENT}/exp_avg", at_one_place(NAN)),
    "infinity in a mean of squares": put(f"{MOMENT}/exp_avg_sq", at_one_place(INFINITY)),
    "a negative mean of squares": put(f"{MOMENT}/exp_avg_sq", at_one_place(-1e-3)),
    "a negative count": put(f"{MOMENT}/step", lambda step: -step),
    "half a step": put(f"{MOMENT}/step", lambda step: step + 0.5),
    "a row of counts": put(f"{MOMENT}/step", lambda step: step.repeat(3)),
    "another rank": put(ACTOR, lambda weight: weight[:2]),
    "transposed": put(ACTOR, lambda weight: weight.t()),
    "float64": put(ACTOR, lambda weight: weight.double()),
    "whole numbers": put(ACTOR, lambda weight: weight.long()),
    "no dimension": put(ACTOR, lambda weight: weight.sum()),
    "a moment of another shape": put(f"{MOMENT}/exp_avg", lambda moment: moment[:, 1:]),
    "a generator that is short": put("generator/shuffle", lambda state: state[:-1]),
    "a generator of numbers": put("generator/shuffle", lambda state: state.float()),
    "a generator of nothing": put("generator/dropout", torch.zeros_like),
    "a generator of noise": put("generator/sampling", lambda state: torch.full_like(state, 7)),
    "a generator of a row": put("generator/sampling", lambda state: state[None]),
}


@pytest.mark.parametrize("wrong", SELF_EVIDENT)
def test_a_tensor_that_no_run_saves_is_told_without_the_model(mine: RunDir, wrong: str) -> None:
    path = newest(mine)
    with_tensors(path, SELF_EVIDENT[wrong])
    passed_over(mine, path / "tensors.safetensors")


# --- what only the model tells ---


def without(*names: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        gone = [name for name in tensors if any(word in name for word in names)]
        assert gone
        for name in gone:
            del tensors[name]
    return change


def extra(name: str, tensor: Tensor) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: tensor})


FOR_THE_MODEL: dict[str, Callable[[Tensors], None]] = {
    "no weight of a module": without("h.1.attn"),
    "no actor": without("actor/"),
    "no critic": without("critic/"),
    "no value head": without("critic/value_head.bias"),
    "no moments of one weight": without(MOMENT),
    "no moments at all": without("optimizer/"),
    "a lost mean of squares": without(f"{MOMENT}/exp_avg_sq"),
    "no generator of one kind": without("generator/shuffle"),
    "an unknown generator": extra("generator/other", torch.Generator().get_state()),
    "a generator of a GPU for the order": extra("generator/shuffle", torch.zeros(16, dtype=torch.uint8)),
    "one more weight": extra("actor/other", torch.zeros(2)),
    "one more moment": extra("optimizer/actor/other/exp_avg", torch.zeros(2)),
    "an unknown part": extra("planner/weight", torch.zeros(2)),
}


@pytest.mark.parametrize("wrong", FOR_THE_MODEL)
def test_what_is_not_of_the_runs_model_is_refused_before_anything_is_changed(
    mine: RunDir, ppo: PPO, wrong: str
) -> None:
    with_tensors(newest(mine), FOR_THE_MODEL[wrong])
    before = {name: tensor.clone() for name, tensor in ppo.state()[0].items()}
    state = checkpoint.load(newest(mine))
    with pytest.raises(CheckpointError) as refused:
        ppo.load_state(State(state.tensors, state.numbers))
    assert "\n" not in str(refused.value)
    after = ppo.state()[0]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    taken, notices = checkpoint.load_newest(mine, lambda state: ppo.require_fit(State(state.tensors, state.numbers)))
    assert (taken.step, len(notices)) == (1, 1)
    assert str(newest(mine)) in notices[0]


# --- what is wrong with what stands beside the tensors ---


def number(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state["numbers"].update({name: value})


def setting(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    section, _, name = path.rpartition(".")
    return lambda state: state["config"][section].update({name: value})


NESTED: Any = 1
for _ in range(400):
    NESTED = [NESTED]

STATES: dict[str, Callable[[dict[str, Any]], None]] = {
    **{f"step {value!r}": lambda state, value=value: state.update(step=value)
       for value in (-1, 3, 2.5, 1e300, 2**70, True, "2", None, [2], NAN, INFINITY)},
    **{f"kl_coef {value!r}": number("kl_coef", value) for value in (-0.1, NAN, 1e300, 10**400, True, "0.1", None, {})},
    **{f"token_count {value!r}": number("token_count", value)
       for value in (-1, 0.5, 2**60, 10**400, False, "7", None, [])},
    **{f"moments {value!r}": number("moments", value) for value in (None, [1], {"actor": -1}, {"critic": "4"})},
    **{f"edits {value!r}": number("edits", value) for value in (-1, 1.5, "1", None)},
    **{f"seconds {value!r}": number("seconds", value) for value in (-1.0, INFINITY, 1e300, None)},
    **{f"scores {value!r}": number("scores", value) for value in (
        7, [], {}, {"mean": 0.0, "variance": -1.0, "steps": 2}, {"mean": None, "variance": 1.0, "steps": 2},
        {"mean": 0.0, "variance": 1.0, "steps": -2}, {"mean": 0.0, "variance": 1.0, "steps": True})},
    **{f"numbers {value!r}": lambda state, value=value: state.update(numbers=value) for value in (None, [], 7)},
    **{f"quality {value!r}": lambda state, value=value: state.update(quality=value) for value in (
        7, [1], {"metric": "objective/scores", "value": None, "more_is_better": True}, {"metric": 1, "value": 1.0})},
    **{f"base {value!r}": lambda state, value=value: state.update(base=value) for value in (7, ["x"], {"weights": 1})},
    **{f"config {value!r}": lambda state, value=value: state.update(config=value) for value in (None, [], {}, "x")},
    **{f"no {name}": lambda state, name=name: state.pop(name) for name in ("step", "numbers", "config")},
    "another rank": setting("lora.rank", 8),
    "another scale of the adapters": setting("lora.alpha", 99.0),
    "another model": setting("model.name", "storyteller"),
    "other modules": setting("lora.target_modules", "v_proj"),
    "an unknown setting": setting("lora.spread", 8),
    "a setting out of bounds": setting("lora.rank", -8),
    "another kind of reward": lambda state: state["config"].update(
        rewards=[{"kind": "word_list", "name": "x", "liked": ["fox"]}]),
    "nested": lambda state: state["numbers"].update(kl_coef=NESTED),
}


@pytest.mark.parametrize("wrong", STATES)
def test_what_stands_beside_the_tensors_is_checked_too(mine: RunDir, wrong: str) -> None:
    path = newest(mine)
    with_state(path, STATES[wrong])
    state = passed_over(mine, path / "state.json")
    assert checkpoint.newest_config(mine) == state.config


@pytest.mark.parametrize("text", ["1e999", "-1e999", "NaN", "[" * 100_000, "9" * 10_000])
def test_json_that_no_computer_counts_with_is_damage(mine: RunDir, text: str) -> None:
    with_text(newest(mine), '"step": 2', f'"step": 2, "x": {text}')
    state, (notice,) = checkpoint.load_newest(mine)
    assert state.step == 1
    assert "state.json" in notice


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=5)


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_stands_in_a_state_it_loads_or_is_one_sentence(
    trained: RunDir, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    run = RunDir(Path(shutil.copytree(trained.path, tmp_path_factory.mktemp("drawn") / "mine")))
    path = newest(run)
    state = json.loads((path / "state.json").read_text())
    part = data.draw(st.sampled_from([state, state["numbers"], state["config"], state["config"]["lora"]]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    (path / "state.json").write_text(json.dumps(state))
    signed(path)
    loaded, notices = checkpoint.load_newest(run)
    assert loaded.step == 2 - len(notices)
    assert not any("\n" in notice or str(path) not in notice for notice in notices)


# --- files that are not what they say ---


def header_of(path: Path, header: bytes, behind: int, length: int | None = None) -> None:
    """A tensor file with this header, which says to have `length` bytes, and a hole of `behind` bytes."""
    with open(path / "tensors.safetensors", "wb") as file:
        file.write((len(header) if length is None else length).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + behind)


def table(**entries: tuple[str, list[int], list[int]]) -> bytes:
    return json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}
                       for name, (dtype, shape, offsets) in entries.items()}).encode()


TERABYTES = 2 * 10**12  # of a hole, which no machine has the memory for
def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else in the place of a file, made by `make`."""
    def change(path: Path) -> None:
        (path / name).rename(path.parent / "aside")
        make(path / name)
    return change


FILES: dict[str, Callable[[Path], None]] = {
    "a header as long as can be": lambda path: header_of(path, b"{}", 0, 2**63),
    "a header of a hole": lambda path: header_of(path, b"", 10**11, 10**11),
    "a hole": lambda path: header_of(path, table(x=("F32", [4], [0, 16])), 2 * 10**11),
    "a tensor of a hole": lambda path: header_of(path, table(x=("U8", [TERABYTES], [0, TERABYTES])), TERABYTES),
    "a tensor beyond the end": lambda path: header_of(path, table(x=("F32", [10**12], [0, 4 * 10**12])), 16),
    "tensors that lie on each other": lambda path: header_of(
        path, table(x=("F32", [4], [0, 16]), y=("F32", [4], [8, 24])), 24),
    "a gap": lambda path: header_of(path, table(x=("F32", [4], [0, 16]), y=("F32", [4], [20, 36])), 36),
    "a shape of more": lambda path: header_of(path, table(x=("F32", [2**40, 2**40], [0, 16])), 16),
    "a shape of nothing, endless": lambda path: header_of(path, table(x=("F32", [0, 2**52, 2**52], [0, 0])), 0),
    "a thousand dimensions": lambda path: header_of(path, table(x=("F32", [1] * 1000, [0, 4])), 4),
    "an unknown type": lambda path: header_of(path, table(x=("F128", [1], [0, 16])), 16),
    "negative places": lambda path: header_of(path, table(x=("F32", [1], [-4, 0])), 4),
    "a header that is no object": lambda path: header_of(path, b"[1]", 0),
    "a header nested without an end": lambda path: header_of(path, b"[" * 100_000, 0),
    "half a length": instead("tensors.safetensors", lambda file: file.write_bytes(b"123")),
    "nothing": instead("tensors.safetensors", lambda file: file.write_bytes(b"")),
    "a FIFO": instead("tensors.safetensors", os.mkfifo),
    "a FIFO as state": instead("state.json", os.mkfifo),
    "a folder as manifest": instead("manifest.json", Path.mkdir),
    "a link": instead("state.json", lambda file: file.symlink_to(file.parent.parent / "aside")),
    "an endless device": instead("tensors.safetensors", lambda file: file.symlink_to("/dev/zero")),
    "a state of a hole": lambda path: os.truncate(path / "state.json", 2 * 10**11),
    "a manifest of a hole": lambda path: os.truncate(path / "manifest.json", 2 * 10**11),
}


@pytest.mark.parametrize("wrong", FILES)
def test_files_that_are_not_what_they_say_are_told_at_once(mine: RunDir, wrong: str) -> None:
    path = newest(mine)
    FILES[wrong](path)
    state, notices = checkpoint.load_newest(mine)
    assert state.step == 1
    assert len(notices) == 1
    assert str(path) in notices[0]
    assert "\n" not in notices[0]


# --- names ---


def test_only_folders_are_checkpoints_and_what_a_link_leads_to_is_left_alone(mine: RunDir, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(newest(mine), tmp_path / "elsewhere"))
    (mine.checkpoints / "step-000008").symlink_to(elsewhere)
    (mine.checkpoints / "step-000009").write_text("x")
    os.mkfifo(mine.checkpoints / "step-000010")
    for name in (".tmp-0000", ".old-0000", ".tmp-0001"):
        (mine.checkpoints / name).symlink_to(elsewhere)
    (mine.checkpoints / ".old-0002").mkdir()
    (mine.checkpoints / ".old-0002" / "inner").symlink_to(elsewhere)
    assert [path.name for path in checkpoint.candidates(mine)] == ["step-000002", "step-000001", "step-000000"]
    assert resumed(mine)[0] is RunState.FINISHED
    assert newest(mine).name == "step-000003"
    assert sorted(path.name for path in elsewhere.iterdir()) == ["manifest.json", "state.json", "tensors.safetensors"]
    assert command("verify", mine.path).exit_code == 0


def test_names_beyond_all_counting_and_thousands_of_them_cost_a_run_nothing(mine: RunDir) -> None:
    for name in ("step-000002.99999999999999999999", "step-99999999999999999999", f"step-{'9' * 200}"):
        (mine.checkpoints / name).mkdir()
    for place in range(1000):
        (mine.checkpoints / f"step-{10_000 + place:06d}").mkdir()
    state, events = resumed(mine)
    assert state is RunState.FINISHED
    assert len([event for event in events if isinstance(event, Notice)]) < 10
    assert [event.step for event in events if isinstance(event, StepFinished)] == [3]
    assert newest(mine).name == "step-000003"


@pytest.mark.parametrize("digits", [1, 8, 9, 10, 15, 16, 200])
def test_a_step_that_is_saved_again_is_found_again_whatever_lies_there(mine: RunDir, digits: int) -> None:
    state = checkpoint.load(newest(mine))
    (mine.checkpoints / f"step-000002.{'9' * digits}").mkdir()
    path = checkpoint.save(mine, state, keep=9)
    assert checkpoint.load(path).step == 2
    assert path in checkpoint.candidates(mine)


# --- the ways in ---


def test_a_resume_goes_on_from_the_checkpoint_before_whatever_was_wrong(mine: RunDir) -> None:
    with_tensors(newest(mine), SELF_EVIDENT["NaN in the actor"])
    state, events = resumed(mine)
    assert state is RunState.FINISHED
    assert next(event for event in events if isinstance(event, RunStarted)).first_step == 1
    assert [event.step for event in events if isinstance(event, StepFinished)] == [2, 3]
    assert [line.step for line in mine.metrics()] == [1, 2, 3]
    assert any("not finite" in event.text for event in events if isinstance(event, Notice))
    assert command("verify", mine.path).exit_code == 0  # the one that could not be used is gone


def test_a_resume_goes_on_from_the_checkpoint_before_where_only_the_model_tells(
    trained: RunDir, mine: RunDir, tmp_path: Path
) -> None:
    """And ends where a run ends that had no newer checkpoint."""
    with_tensors(newest(mine), FOR_THE_MODEL["no weight of a module"])
    state, events = resumed(mine)
    assert state is RunState.FINISHED
    assert [event.step for event in events if isinstance(event, RolledBack)] == [1]
    assert [event.step for event in events if isinstance(event, StepFinished)] == [2, 3]
    assert [line.step for line in mine.metrics()] == [1, 2, 3]
    assert [edit.path for edit in mine.edits()] == ["train.steps"]
    other = RunDir(Path(shutil.copytree(trained.path, tmp_path / "runs" / "other")))
    shutil.rmtree(newest(other))
    assert resumed(other)[0] is RunState.FINISHED
    ours, theirs = checkpoint.load(newest(mine)), checkpoint.load(newest(other))
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in theirs.tensors)


def test_a_roll_back_takes_no_checkpoint_that_does_not_fit(mine: RunDir) -> None:
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepFinished) and event.step == 4 and not rolled_back():
            with_tensors(mine.checkpoints / "step-000003", FOR_THE_MODEL["no critic"])
            next(iter(trainer.policy.adapters["actor"].values())).data.fill_(NAN)  # type: ignore[union-attr]

    def rolled_back() -> list[int]:
        return [event.step for event in events if isinstance(event, RolledBack)]

    requests = RequestQueue()
    requests.ask(Edit("train.max_rollbacks", 1))
    requests.ask(Edit("train.steps", 4))
    trainer = Trainer.resume(mine, requests=requests, emit=emit)
    assert trainer.run() is RunState.FINISHED
    assert rolled_back() == [2]
    assert [line.step for line in mine.metrics()] == [1, 2, 3, 4]


@pytest.mark.parametrize("changes", [SELF_EVIDENT["NaN in the actor"], FOR_THE_MODEL["no actor"]])
def test_where_no_checkpoint_can_be_used_every_way_in_is_one_sentence(
    mine: RunDir, tmp_path: Path, changes: Callable[[Tensors], None]
) -> None:
    for path in checkpoint.candidates(mine):
        with_tensors(path, changes)
    lines = [line.step for line in mine.metrics()]
    new = tmp_path / "new"
    for words in (["resume", mine.path], ["generate", mine.path], ["compare", mine.path, "--responses", 2],
                  ["compare", mine.path, f"{mine.path}@1", "--responses", 2],
                  ["fork", mine.path, "--set", "train.steps=5", "--runs-dir", new]):
        one_sentence(command(*words))
    one_sentence(command("export", mine.path, new / "adapter"))
    one_sentence(command("export", f"{mine.path}@2", new / "merged", "--merged"))
    if changes is SELF_EVIDENT["NaN in the actor"]:
        told = command("verify", mine.path, "--json")
        assert told.exit_code == 1
        assert [row["sound"] for row in json.loads(told.stdout)["checkpoints"]] == [False] * 3
    assert [line.step for line in mine.metrics()] == lines
    assert not [path for path in new.glob("*") if path.name != ".trash"]


def test_what_answers_from_an_older_checkpoint_says_so(mine: RunDir, tmp_path: Path) -> None:
    with_tensors(newest(mine), SELF_EVIDENT["NaN in the actor"])
    for words in (["generate", mine.path], ["compare", mine.path, "--responses", 2],
                  ["compare", mine.path, mine.path, "--responses", 2], ["export", mine.path, tmp_path / "adapter"],
                  ["fork", mine.path, "--set", "train.steps=2", "--runs-dir", tmp_path / "new"]):
        told = command(*words)
        assert told.exit_code == 0, told.output
        assert str(mine.checkpoints / "step-000002") in told.stderr
    one_sentence(command("export", f"{mine.path}@2", tmp_path / "other"))


def test_a_side_that_is_not_finite_is_no_answer_on_the_workbench(mine: RunDir, ppo: PPO) -> None:
    for path in checkpoint.candidates(mine):
        with_tensors(path, SELF_EVIDENT["NaN in the actor"])
    told: list[Event] = []
    request = Compare(1, mine.config(), 4, 0, Side("reference"), Side("checkpoint", mine.path))
    answer_question(request, ppo.policy, mine.config(), 1, told.append)
    (finished,) = [event for event in told if isinstance(event, ComparisonFinished)]
    assert finished.result is None
    assert "not finite" in finished.error


def test_a_run_that_moved_its_base_goes_on_knowing_that(mine: RunDir, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(mine.config().model.name, tmp_path / "moved"))
    assert command("resume", mine.path, "--set", f"model.name={moved}", "--set", "train.steps=3").exit_code == 0
    assert command("verify", mine.path).exit_code == 0
    assert command("resume", mine.path, "--set", "train.steps=4").exit_code == 0
    config: RunConfig = checkpoint.load(newest(mine)).config
    assert config.model.name == str(moved)
