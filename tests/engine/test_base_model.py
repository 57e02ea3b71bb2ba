"""A run belongs to one base model: another one under its path is told, a moved one is found, both on every way in."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import warm
from tiny_models import save_tiny_model, tiny_config
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config import preset_writer
from rlhf_engine.errors import BaseChangedError, ModelError
from rlhf_engine.evaluation.compare import compare
from rlhf_engine.evaluation.generate import load_tuned
from rlhf_engine.events import Event, GenerationFinished, PairsSampled, RolledBack, RunState, StateChanged, StepFinished
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import TUNED, Close, Edit, Fork, Generate, RequestQueue, Resume, SamplePairs, Side
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.base_model import BaseChoice
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.session import Session
from rlhf_engine.training.trainer import Trainer

FLAG = "--accept-changed-base"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(make_app(), [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def train(model: Path, root: Path, name: str, **sections: object) -> RunDir:
    usual = {"train": {"steps": 2, "max_rollbacks": 1}, "optimizer": {"learning_rate": 0.05}}
    config = tiny_config(model, **usual | sections)
    run_dir = RunDir.create(root, config, name=name)
    assert Trainer(config, run_dir=run_dir, emit=lambda _: None).run() is RunState.FINISHED
    return run_dir


def stir_weights(folder: Path, seed: int = 7) -> None:
    """Other weights of the same shapes, in a file of the same size and time: a fine-tune copied over with cp -p."""
    path = folder / "model.safetensors"
    stat, tensors = path.stat(), safetensors.torch.load_file(path)
    generator = torch.Generator().manual_seed(seed)
    safetensors.torch.save_file({name: tensor + torch.randn(tensor.shape, generator=generator) * 0.1
                                 for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a run that was trained on it."""
    root = tmp_path_factory.mktemp("home")
    train(save_tiny_model(root / "model", "gpt_neo"), root / "runs", "mine")
    return root


@pytest.fixture
def model(home: Path, tmp_path: Path) -> Iterator[Path]:
    """Where the run's base lies; afterwards everything is as it was."""
    kept = Path(shutil.copytree(home, tmp_path / "kept"))
    yield home / "model"
    shutil.rmtree(home)
    shutil.copytree(kept, home)


@pytest.fixture
def mine(home: Path) -> RunDir:
    return RunDir.open(home / "runs" / "mine")


def commands(mine: RunDir, tmp_path: Path) -> dict[str, list[object]]:
    """Every command that puts the run's adapters on its base."""
    aside = ["--runs-dir", tmp_path / "new-runs"]
    return {
        "resume": ["resume", mine.path, "--set", "train.steps=3"],
        "fork": ["fork", mine.path, "--set", "train.steps=3", *aside],
        "compare": ["compare", mine.path, "--responses", 2],
        "compare two": ["compare", f"{mine.path}@1", mine.path, "--responses", 2],
        "generate": ["generate", mine.path],
        "generate by the reference": ["generate", mine.path, "--reference"],
        "export": ["export", mine.path, tmp_path / "adapter"],
        "export merged": ["export", mine.path, tmp_path / "merged", "--merged"],
    }


WAYS = list(commands(RunDir(Path()), Path()))


@pytest.mark.parametrize("way", WAYS)
def test_other_weights_under_the_path_stop_every_way_in_until_accepted(
    mine: RunDir, model: Path, tmp_path: Path, way: str
) -> None:
    stir_weights(model)
    before = sorted(mine.path.rglob("*")), mine.status()
    refused = run(*commands(mine, tmp_path)[way])
    assert refused.exit_code == 2
    for named in ("mine", str(model), "weights", FLAG):
        assert named in refused.stderr
    assert "tokenizer" not in refused.stderr
    assert "Traceback" not in refused.output
    assert (sorted(mine.path.rglob("*")), mine.status()) == before
    assert not any((tmp_path / name).exists() for name in ("new-runs", "adapter", "merged"))
    accepted = run(*commands(mine, tmp_path)[way], FLAG)
    assert accepted.exit_code == 0, accepted.output


def test_an_accepted_base_is_recorded_and_not_asked_about_again(mine: RunDir, model: Path) -> None:
    (before, _), old = checkpoint.load_newest(mine), len(mine.edits())
    stir_weights(model)
    assert run("resume", mine.path, "--set", "train.steps=3", FLAG).exit_code == 0
    (edit,) = [edit for edit in mine.edits()[old:] if edit.path == "model.fingerprint"]
    after, _ = checkpoint.load_newest(mine)
    assert before.base is not None
    assert after.base is not None
    assert (edit.step, edit.old, edit.new) == (3, before.base.hex, after.base.hex)
    assert run("resume", mine.path, "--set", "train.steps=4").exit_code == 0
    assert run("verify", mine.path).exit_code == 0
    assert run("fork", f"{mine.path}@2", "--set", "train.steps=3").exit_code == 2  # that one is of the base before


def test_a_fork_that_accepts_another_base_says_so_in_its_own_edits(mine: RunDir, model: Path, tmp_path: Path) -> None:
    stir_weights(model)
    root = tmp_path / "new"
    assert run("fork", mine.path, "--set", "train.steps=3", "--runs-dir", root, "--name", "child", FLAG).exit_code == 0
    assert [edit.path for edit in RunDir.open(root / "child").edits()] == ["model.fingerprint"]


@pytest.mark.parametrize("way", WAYS)
def test_another_architecture_is_one_sentence_even_when_accepted(
    mine: RunDir, model: Path, tmp_path: Path, way: str
) -> None:
    shutil.rmtree(model)
    save_tiny_model(model, "llama")
    refused = run(*commands(mine, tmp_path)[way])
    assert refused.exit_code == 2
    assert "weights and architecture" in refused.stderr
    accepted = run(*commands(mine, tmp_path)[way], FLAG)
    assert accepted.exit_code == 1
    assert "Traceback" not in accepted.output
    assert len([line for line in accepted.stderr.splitlines() if line.startswith("error:")]) == 1
    assert not any((tmp_path / name).exists() for name in ("adapter", "merged"))
    assert not [*(tmp_path / "new-runs").glob("*")]


def test_another_tokenizer_is_another_base(mine: RunDir, model: Path) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": "a"}))
    refused = run("generate", mine.path)
    assert refused.exit_code == 2
    assert "not the same tokenizer" in refused.stderr


def test_a_base_that_was_put_back_is_the_same(mine: RunDir, model: Path, tmp_path: Path) -> None:
    kept = shutil.copytree(model, tmp_path / "aside")
    stir_weights(model)
    assert run("generate", mine.path).exit_code == 2
    shutil.rmtree(model)
    shutil.copytree(kept, model)
    assert run("generate", mine.path).exit_code == 0


@pytest.mark.parametrize(("change", "code", "state"), [
    (lambda model: None, 0, "same"),
    (stir_weights, 1, "changed"),
    (shutil.rmtree, 0, "unknown"),
])
def test_verify_tells_about_the_base(mine: RunDir, model: Path, change, code: int, state: str) -> None:
    change(model)
    told = run("verify", mine.path)
    assert told.exit_code == code
    assert str(model) in told.stdout.splitlines()[-1]
    report = json.loads(run("verify", mine.path, "--json").stdout)
    assert (report["sound"], report["base"]["state"]) == (True, state)


def test_a_run_that_does_not_say_what_its_base_was_goes_on_and_says_it_from_then_on(mine: RunDir, model: Path) -> None:
    for path in checkpoint.candidates(mine):
        state = json.loads((path / "state.json").read_text())
        del state["base"]
        (path / "state.json").write_text(json.dumps(state))
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["files"]["state.json"] = hashlib.sha256((path / "state.json").read_bytes()).hexdigest()
        (path / "manifest.json").write_text(json.dumps(manifest))
    assert checkpoint.load_newest(mine)[0].base is None
    assert run("generate", mine.path).exit_code == 0
    assert run("verify", mine.path).exit_code == 0
    assert run("resume", mine.path, "--set", "train.steps=3").exit_code == 0
    assert [edit.path for edit in mine.edits()] == ["train.steps"]
    assert checkpoint.load_newest(mine)[0].base is not None
    stir_weights(model)
    assert run("generate", mine.path).exit_code == 2


class Asked:
    """A session in a thread of its own, as the workbench has one."""

    def __init__(self) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.session = Session(self.events.put)
        self.thread = threading.Thread(target=self.session.serve, daemon=True)
        self.thread.start()

    def next(self, found: Callable[[Event], object]) -> Any:
        """The next event of that kind; fails when there is none for a minute."""
        while not found(event := self.events.get(timeout=60)):
            pass
        return event

    def ended(self) -> StateChanged:
        return self.next(lambda event: isinstance(event, StateChanged) and event.state.ended)


@pytest.fixture
def asked() -> Iterator[Asked]:
    asked = Asked()
    yield asked
    asked.session.ask(Close())
    asked.thread.join(60)


def test_the_workbench_is_refused_and_goes_on_when_told_to(
    mine: RunDir, model: Path, tmp_path: Path, asked: Asked
) -> None:
    stir_weights(model)
    asked.session.ask(Resume(mine.path))
    refused = asked.ended()
    assert refused.state is RunState.FAILED
    assert "mine was trained on another base model" in refused.message
    asked.session.ask(Fork(mine.path, tmp_path / "forks", {"train.steps": 3}))
    assert asked.ended().state is RunState.FAILED
    newest = Side("checkpoint", mine.path)
    for accepted, pairs in ((False, 0), (True, 2)):
        asked.session.ask(SamplePairs(int(accepted), mine.config(), 2, 0, newest, newest, accept_base=accepted))
        assert len(asked.next(lambda event: isinstance(event, PairsSampled)).pairs) == pairs
    asked.session.ask(Resume(mine.path, accept_base=True))
    assert asked.ended().state is RunState.FINISHED
    asked.session.ask(Fork(mine.path, tmp_path / "forks", {"train.steps": 3}, step=2, accept_base=True))
    assert asked.ended().state is RunState.FINISHED


def test_an_untrained_model_is_loaded_anew_when_other_weights_lie_there(model: Path, asked: Asked) -> None:
    config = tiny_config(model)

    def answer(request_id: int) -> str:
        asked.session.ask(Generate(request_id, config, "Once", False, 1.0, 12, 5))
        event = asked.next(lambda event: isinstance(event, GenerationFinished) and event.request_id == request_id)
        assert not event.error
        return str(event.text)

    before = answer(1)
    assert answer(2) == before
    stir_weights(model)
    assert answer(3) != before


# --- a base that moved ---


@pytest.mark.parametrize("way", WAYS)
def test_a_base_that_moved_is_named_and_found_where_a_person_says_it_is(
    mine: RunDir, model: Path, tmp_path: Path, way: str
) -> None:
    new = shutil.move(model, tmp_path / "models" / "elsewhere")
    gone = run(*commands(mine, tmp_path)[way])
    assert gone.exit_code == 1
    assert str(model) in gone.stderr
    assert "--set model.name=" in gone.stderr
    assert "reached" not in gone.stderr  # a whole path is no hub name
    assert not [*(tmp_path / "new-runs").glob("*")]
    found = run(*commands(mine, tmp_path)[way], "--set", f"model.name={new}")
    assert found.exit_code == 0, found.output


def test_a_resume_from_a_moved_base_is_recorded(mine: RunDir, model: Path, tmp_path: Path) -> None:
    new = shutil.move(model, tmp_path / "elsewhere")
    assert run("resume", mine.path, "--set", "train.steps=3", "--set", f"model.name={new}").exit_code == 0
    assert [(edit.path, edit.new) for edit in mine.edits()] == [("model.name", str(new)), ("train.steps", 3)]
    assert run("resume", mine.path, "--set", "train.steps=4").exit_code == 0
    assert run("generate", mine.path).exit_code == 0


@pytest.mark.parametrize("way", WAYS)
def test_what_did_not_move_but_is_another_model_is_refused(
    mine: RunDir, model: Path, model_folders: dict[str, Path], tmp_path: Path, way: str
) -> None:
    refused = run(*commands(mine, tmp_path)[way], "--set", f"model.name={model_folders['llama']}")
    assert refused.exit_code == 2
    assert str(model_folders["llama"]) in refused.stderr
    assert run(*commands(mine, tmp_path)[way]).exit_code == 0


def test_other_settings_are_no_business_of_what_only_reads(mine: RunDir, model: Path) -> None:
    for command in ("compare", "generate"):
        refused = run(command, mine.path, "--set", "kl.coef=1")
        assert refused.exit_code == 2
        assert "kl.coef" in refused.stderr


def test_a_relative_folder_is_found_from_everywhere(
    home: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(preset_writer.to_toml(tiny_config(Path("models/tiny"), train={"steps": 1})))
    (tmp_path / "there" / "models").mkdir(parents=True)
    shutil.copytree(model, tmp_path / "there" / "models" / "tiny")
    monkeypatch.chdir(tmp_path / "there")
    assert run("train", preset, "--name", "r", "--runs-dir", tmp_path / "runs").exit_code == 0
    run_dir = RunDir.open(tmp_path / "runs" / "r")
    assert run_dir.config().model.name == str(tmp_path / "there" / "models" / "tiny")
    monkeypatch.chdir(tmp_path)
    for command in reversed(commands(run_dir, tmp_path).values()):
        done = run(*command)
        assert done.exit_code == 0, done.output


def test_a_tilde_means_the_home_of_the_one_who_starts(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, Path(os.environ["HOME"]) / "my-model")
    preset = tmp_path / "mine.toml"
    preset.write_text(preset_writer.to_toml(tiny_config(Path("~/my-model"), train={"steps": 1})))
    assert run("train", preset, "--name", "r", "--runs-dir", tmp_path / "runs").exit_code == 0
    assert RunDir.open(tmp_path / "runs" / "r").config().model.name == str(folder)


def process(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command with the hub's folder `warm.HUB`, which a library looks up when it is imported."""
    return warm.run(["-m", "rlhf_engine", *map(str, arguments)], cwd=folder)


@pytest.fixture
def repository() -> Iterator[Path]:
    """Where the files of the hub's model `someone/tiny` lie."""
    folder = warm.HUB / "hub" / "models--someone--tiny"
    yield folder
    shutil.rmtree(folder)


def test_a_hub_model_stays_at_the_commit_that_the_run_was_started_with(
    model: Path, tmp_path: Path, repository: Path
) -> None:
    first, second = "a" * 40, "b" * 40
    for commit in (first, second):
        shutil.copytree(model, repository / "snapshots" / commit)
    stir_weights(repository / "snapshots" / second)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(first)
    preset = tmp_path / "mine.toml"
    preset.write_text(preset_writer.to_toml(tiny_config(Path("someone/tiny"), train={"steps": 1})))
    runs = tmp_path / "runs"
    trained = process(tmp_path, "train", preset, "--name", "r", "--runs-dir", runs)
    assert trained.returncode == 0, trained.stderr
    (repository / "refs" / "main").write_text(second)
    resumed = process(tmp_path, "resume", runs / "r", "--set", "train.steps=2")
    assert resumed.returncode == 0, resumed.stderr
    assert [edit.new for edit in RunDir.open(runs / "r").edits() if edit.path == "model.revision"] == [first]
    shutil.rmtree(repository / "snapshots" / first)
    shutil.copytree(repository / "snapshots" / second, repository / "snapshots" / first)
    refused = process(tmp_path, "generate", runs / "r")
    assert refused.returncode == 2
    assert "someone/tiny" in refused.stderr
    assert "weights" in refused.stderr


def test_what_was_fetched_from_the_hub_is_looked_over_before_a_library_reads_it(
    model: Path, tmp_path: Path, repository: Path
) -> None:
    snapshot = repository / "snapshots" / ("a" * 40)
    shutil.copytree(model, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    tokenizer = json.loads((snapshot / "tokenizer.json").read_text())
    grows = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}  # ends a process that applies it
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [grows] * 4}
    (snapshot / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused = process(tmp_path, "generate", "someone/tiny", "--prompt", "a")
    assert refused.returncode in (1, 2)
    assert "someone/tiny" in refused.stderr
    assert "tokenizer.json" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_folder_goes_before_a_hub_model_of_that_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(preset_writer.to_toml(tiny_config(Path("gpt2"), train={"steps": 1})))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("gpt2").write_text("notes on a model, and no model")
    said = run("train", preset, "--runs-dir", tmp_path / "runs")
    assert said.exit_code == 1
    assert f"'gpt2' is no folder in {tmp_path / 'here'}" in said.stderr
    Path("gpt2").unlink()
    shutil.copytree(model, "gpt2")
    assert run("train", preset, "--name", "r", "--runs-dir", tmp_path / "runs").exit_code == 0
    assert RunDir.open(tmp_path / "runs" / "r").config().model.name == str(tmp_path / "here" / "gpt2")


# --- adapters that do not fit ---


def _lacks(tensors: dict[str, torch.Tensor], name: str) -> None:
    del tensors[name]


def _narrower(tensors: dict[str, torch.Tensor], name: str) -> None:
    tensors[name] = tensors[name][:, :-1].contiguous()


def _one_more(tensors: dict[str, torch.Tensor], name: str) -> None:
    tensors[name + ".extra"] = tensors[name].clone()


@pytest.mark.parametrize("change", [_lacks, _narrower, _one_more])
@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("fork", "export", "export merged")])
def test_adapters_that_do_not_fit_are_one_sentence(
    mine: RunDir, model: Path, tmp_path: Path, way: str, change
) -> None:
    for path in checkpoint.candidates(mine):
        tensors = safetensors.torch.load_file(path / "tensors.safetensors")
        name = next(name for name in sorted(tensors) if name.startswith("actor/") and "lora_A" in name)
        change(tensors, name)
        safetensors.torch.save_file(tensors, path / "tensors.safetensors")
        manifest = json.loads((path / "manifest.json").read_text())
        digest = hashlib.sha256((path / "tensors.safetensors").read_bytes()).hexdigest()
        manifest["files"]["tensors.safetensors"] = digest
        (path / "manifest.json").write_text(json.dumps(manifest))
    refused = run(*commands(mine, tmp_path)[way])
    assert refused.exit_code == 1
    assert name.removeprefix("actor/") in refused.stderr
    assert "Traceback" not in refused.output


# --- two runs ---


def test_two_runs_of_one_path_and_two_bases_are_never_put_on_one(mine: RunDir, model: Path, tmp_path: Path) -> None:
    kept = Path(shutil.copytree(model, tmp_path / "kept-model"))
    stir_weights(model)
    other = train(model, tmp_path / "runs", "other")
    refused = run("compare", mine.path, other.path, "--responses", 2)
    assert refused.exit_code == 2
    assert "mine" in refused.stderr
    found = run("compare", mine.path, other.path, "--responses", 2, "--set", f"model.name={kept}", "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["sides"] == ["mine@2", "other@2"]
    policy, config, step = load_tuned(other)
    side = Side("checkpoint", mine.path)
    with pytest.raises(ModelError, match=r"mine@2 does not fit .* other files by that name"):
        compare(policy, config, responses=2, seed=0, step=step, sides=(TUNED, side), may_load=False)
    with pytest.raises(BaseChangedError, match="mine"):
        compare(policy, config, responses=2, seed=0, step=step, sides=(TUNED, side))


def test_a_copy_of_the_base_elsewhere_is_the_same_base(
    mine: RunDir, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = train(Path(shutil.copytree(model, tmp_path / "copy")), tmp_path / "runs", "other")
    loaded = []
    real = Policy.from_config.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Policy, "from_config", classmethod(lambda *given: loaded.append(given) or real(*given)))
    assert run("compare", mine.path, other.path, "--responses", 2).exit_code == 0
    assert len(loaded) == 1


def test_a_roll_back_to_before_the_accepted_change_keeps_saying_that_it_was_accepted(
    mine: RunDir, model: Path
) -> None:
    stir_weights(model)
    requests, events = RequestQueue(), []

    def emit(event: Event) -> None:
        events.append(event)
        first = not any(isinstance(e, RolledBack) for e in events)
        if isinstance(event, StepFinished) and event.step == 3 and first:
            next(iter(trainer.policy.adapters["actor"].values())).data.fill_(float("nan"))  # type: ignore[union-attr]

    trainer = Trainer.resume(mine, requests=requests, emit=emit, base=BaseChoice(accept=True))
    requests.ask(Edit("train.steps", 3))
    assert trainer.run() is RunState.FINISHED
    assert [event.step for event in events if isinstance(event, RolledBack)] == [2]
    assert [edit.path for edit in mine.edits()].count("model.fingerprint") == 1
    assert run("resume", mine.path, "--set", "train.steps=4").exit_code == 0
