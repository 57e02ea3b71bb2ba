"""Checkpoints: whole or absent, verified, and never at the price of the one before."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
import torch
import warm
from configs import SMALL

from rlhf_engine.errors import CheckpointError, RunError
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.checkpoint import Quality, TrainingState
from rlhf_engine.runs.run_dir import RunDir

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(runs_root: Path) -> RunDir:
    return RunDir.create(runs_root, SMALL)


def state_at(step: int) -> TrainingState:
    generator = torch.Generator().manual_seed(step)
    matrix = torch.randn(4, 6, generator=generator)
    tensors = {"matrix": matrix, "view of it": matrix.t(), "scalar": torch.tensor(step),
               "generator": generator.get_state(), "half": matrix.bfloat16(), "none": torch.zeros(0, 3)}
    return TrainingState(step, tensors, {"order": [3, 1, 2], "β": 0.1, "seconds": 1 / 3, "big": 2**80}, SMALL)


def same(a: TrainingState, b: TrainingState) -> bool:
    return ((a.step, a.numbers, a.config) == (b.step, b.numbers, b.config) and a.tensors.keys() == b.tensors.keys()
            and all(torch.equal(a.tensors[name], b.tensors[name]) and a.tensors[name].dtype == b.tensors[name].dtype
                    for name in a.tensors))


def names(run: RunDir) -> list[str]:
    return [path.name for path in checkpoint.candidates(run)]


def test_a_state_comes_back_bit_for_bit(run: RunDir):
    path = checkpoint.save(run, state_at(7), keep=1)
    assert path.name == "step-000007"
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", "state.json", "tensors.safetensors"]
    loaded, notices = checkpoint.load_newest(run)
    assert same(loaded, state_at(7))
    assert notices == []


def test_the_newest_are_kept(run: RunDir):
    for step in (1, 2, 10, 100):
        checkpoint.save(run, state_at(step), keep=2)
    assert names(run) == ["step-000100", "step-000010"]


def test_saving_a_step_again_never_removes_the_first_before_the_second_is_there(run: RunDir):
    checkpoint.save(run, state_at(3), keep=2)
    checkpoint.save(run, state_at(3), keep=2)
    assert names(run) == ["step-000003.2", "step-000003"]


def rated(step: int, value: float, metric: str = "objective/scores", more_is_better: bool = True) -> TrainingState:
    state = state_at(step)
    state.quality = Quality(metric, value, more_is_better)
    return state


def test_the_best_is_kept_besides_the_newest_and_comes_back(run: RunDir):
    for step, value in enumerate((1.0, 5.0, 2.0, 3.0, 4.0), 1):
        checkpoint.save(run, rated(step, value), keep=2)
    assert names(run) == ["step-000005", "step-000004", "step-000002"]
    assert checkpoint.best(run) == run.checkpoints / "step-000002"
    assert checkpoint.load(run.checkpoints / "step-000002").quality == Quality("objective/scores", 5.0, True)
    checkpoint.save(run, rated(6, 6.0), keep=2)
    assert names(run) == ["step-000006", "step-000005"]


def test_where_less_is_better_the_least_is_best_and_another_metric_does_not_count(run: RunDir):
    checkpoint.save(run, rated(1, 9.0), keep=1)
    for step, value in enumerate((1.0, 3.0, 2.0), 2):
        checkpoint.save(run, rated(step, value, "loss/value_avg", more_is_better=False), keep=1)
    assert names(run) == ["step-000004", "step-000002"]
    checkpoint.save(run, state_at(5), keep=1)
    assert names(run) == ["step-000005"]
    assert checkpoint.best(run) is None


def test_a_best_one_that_is_damaged_is_not_taken_for_the_best(run: RunDir):
    checkpoint.save(run, rated(1, 9.0), keep=1)
    (run.checkpoints / "step-000001" / "state.json").write_text("{")
    checkpoint.save(run, rated(2, 1.0), keep=1)
    assert names(run) == ["step-000002"]


def test_a_course_that_was_given_up_goes_with_the_next_save(run: RunDir):
    for step in (10, 20):
        checkpoint.save(run, state_at(step), keep=3)
    checkpoint.save(run, state_at(15), keep=1)
    assert names(run) == ["step-000015"]


def test_a_run_without_checkpoints_says_so(run: RunDir):
    assert checkpoint.candidates(run) == []
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        checkpoint.load_newest(run)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "append"])
def test_damage_is_found_named_and_the_checkpoint_before_is_used(run: RunDir, name: str, damage: str):
    checkpoint.save(run, state_at(1), keep=2)
    file = checkpoint.save(run, state_at(2), keep=2) / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    match damage:
        case "flip":
            file.write_bytes(data)
        case "truncate":
            file.write_bytes(data[:-5])
        case "append":
            file.write_bytes(file.read_bytes() + b"}")
        case "remove":
            file.unlink()
    loaded, notices = checkpoint.load_newest(run)
    assert same(loaded, state_at(1))
    assert len(notices) == 1
    assert str(file.parent if name == "manifest.json" else file) in notices[0]
    assert "checkpoint before it" in notices[0]


def test_every_flipped_byte_of_a_checkpoint_is_found_or_harmless(run: RunDir):
    path = checkpoint.save(run, state_at(1), keep=1)
    for file in path.iterdir():
        data = file.read_bytes()
        for place in random.Random(0).sample(range(len(data)), min(len(data), 120)):
            file.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1:])
            with contextlib.suppress(CheckpointError):
                assert same(checkpoint.load(path), state_at(1)), f"{file.name} byte {place}"
        file.write_bytes(data)
    assert same(checkpoint.load(path), state_at(1))


def test_when_none_can_be_used_every_file_is_named(run: RunDir):
    for step in (1, 2):
        (checkpoint.save(run, state_at(step), keep=2) / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"step-000002.*step-000001"):
        checkpoint.load_newest(run)


def test_a_number_that_json_cannot_hold_is_no_checkpoint(run: RunDir):
    checkpoint.save(run, state_at(1), keep=2)
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(run, TrainingState(2, {}, {"x": float("nan")}, SMALL), keep=2)
    assert names(run) == ["step-000001"]
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000001"]


def test_settings_that_would_not_be_read_again_are_not_saved(run: RunDir):
    checkpoint.save(run, state_at(1), keep=2)
    prompts = ["狐" * 1000] * 25_000  # three bytes each
    config = SMALL.model_copy(update={"data": SMALL.data.model_copy(update={"prompts": prompts})})
    with pytest.raises(RunError, match="prompts"):
        checkpoint.save(run, TrainingState(2, {}, {}, config), keep=2)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000001"]


@pytest.mark.parametrize("limit", [100, 3000])  # within state.json or the manifest, and within the tensors
def test_a_full_disk_is_one_sentence_and_leaves_the_checkpoint_before(run: RunDir, limit: int):
    checkpoint.save(run, state_at(1), keep=1)
    script = f"""
import resource, signal, sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import torch
from configs import SMALL
from rlhf_engine.runs import checkpoint
from rlhf_engine.errors import RunError
from rlhf_engine.runs.run_dir import RunDir
state = checkpoint.TrainingState(2, {{"w": torch.zeros(1000)}}, {{}}, SMALL)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    checkpoint.save(RunDir.open(Path({str(run.path)!r})), state, keep=1)
except RunError as error:
    print(error)
"""
    done = warm.run(["-c", script], cwd=run.path.parent)
    assert "The checkpoint of step 2 could not be written" in done.stdout, done.stderr
    assert "size limit" in done.stdout
    assert "earlier checkpoints are intact" in done.stdout
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000001"]
    assert same(checkpoint.load_newest(run)[0], state_at(1))


@pytest.mark.parametrize("error", [
    OSError(28, "No space left on device"), RuntimeError("[enforce fail] file write failed"),
    checkpoint.SafetensorError("I/O error: No space left on device (os error 28)"),
])
def test_whatever_the_libraries_raise_for_a_full_disk_is_a_run_error(run: RunDir, error: Exception,
                                                                      monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise error

    checkpoint.save(run, state_at(1), keep=1)
    monkeypatch.setattr(checkpoint.safetensors.torch, "save_file", refuse)
    with pytest.raises(RunError, match=r"disk is full|file write failed"):
        checkpoint.save(run, state_at(2), keep=1)
    assert names(run) == ["step-000001"]


KILL_AND_LOOK = f"""
import os, random, signal, sys, time
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import torch
from configs import SMALL
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir

torch.set_num_threads(1)
run, dice, newest = RunDir.open(Path(sys.argv[1])), random.Random(0), 0
for kill in range(40):
    pid = os.fork()
    step = newest
    while pid == 0:
        step += 1
        state = checkpoint.TrainingState(step, {{"w": torch.full((50_000,), step)}}, {{}}, SMALL)
        checkpoint.save(run, state, keep=2)
    if kill % 8 == 7:  # there must be something to lose, on a slow machine too
        while max(map(checkpoint.step_of, checkpoint.candidates(run)), default=0) <= newest:
            time.sleep(0.002)
    time.sleep(dice.uniform(0.002, 0.08))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    steps = [checkpoint.load(path).step for path in checkpoint.candidates(run)]
    assert steps == sorted(steps, reverse=True), steps
    assert max(steps, default=0) >= newest, (steps, newest)
    newest = max(steps, default=0)
print(newest)
"""


@pytest.mark.slow
def test_killed_at_any_moment_every_candidate_verifies_and_no_step_is_lost(run: RunDir):
    done = warm.run(["-c", KILL_AND_LOOK, str(run.path)], cwd=run.path.parent)
    assert done.returncode == 0, done.stderr
    newest = int(done.stdout)
    assert newest > 0
    checkpoint.save(run, state_at(newest + 1), keep=1)
    assert [path.name for path in run.checkpoints.iterdir()] == [f"step-{newest + 1:06d}"]
