"""What the folder of a run may say about code: no more than its configuration shows, and nothing where it is another
user's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from moments import trusted
from tiny_models import tiny_config
from typer.testing import CliRunner

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.fields import validate
from rlhf_engine.errors import CheckpointError
from rlhf_engine.rewards.function import pinned
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.checkpoint_list import config_at
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import settings_now
from rlhf_engine.training.trainer import Trainer

SOMEBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@pytest.fixture(scope="module")
def trained(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run of two steps without code."""
    config = tiny_config(model_folders["gpt_neo"], train={"steps": 2, "checkpoint_every": 1})
    run_dir = RunDir.create(tmp_path_factory.mktemp("runs"), config, name="r")
    Trainer(config, run_dir=run_dir, emit=lambda _: None).run()
    return run_dir


@pytest.fixture
def run_dir(trained: RunDir, tmp_path: Path) -> RunDir:
    """A copy of it."""
    return RunDir(Path(shutil.copytree(trained.path, tmp_path / "runs" / "r")))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """What the code of `named` leaves behind when it runs."""
    return tmp_path / "ran"


@pytest.fixture
def named(tmp_path: Path, trace: Path) -> dict[str, Any]:
    """A reward that is code, which this user trusts: that a run may not name it is another question."""
    file = tmp_path / "share" / "helper.py"
    file.parent.mkdir()
    file.write_text(f"open({str(trace)!r}, 'a').close()\ndef f(prompts, responses): return [1.0] * len(responses)\n")
    trusted(file)
    return {"kind": "function", "name": "own", "weight": 1.0, "function": f"{file}:f", "sha256": None}


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the state of a checkpoint, whose manifest then says that all is well."""
    state = json.loads((path / "state.json").read_text())
    change(state)
    (path / "state.json").write_text(json.dumps(state))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["state.json"] = hashlib.sha256((path / "state.json").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def name_code(run_dir: RunDir, reward: dict[str, Any], count: int = 99) -> None:
    """Puts `reward` into the newest `count` checkpoints."""
    for path in checkpoint.candidates(run_dir)[:count]:
        rewrite(path, lambda state: state["config"]["rewards"].append(reward))


def command(*arguments: str) -> Any:
    return CliRunner().invoke(make_app(), list(arguments))


@pytest.mark.parametrize("with_digest", [True, False])
def test_a_checkpoint_names_no_code_that_the_configuration_does_not(
    run_dir: RunDir, named: dict[str, Any], trace: Path, tmp_path: Path, with_digest: bool
) -> None:
    if with_digest:
        file = Path(named["function"].rpartition(":")[0])
        named["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    name_code(run_dir, named)
    path, root = str(run_dir.path), str(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"helper\.py"):
        checkpoint.newest_config(run_dir)
    with pytest.raises(CheckpointError, match=r"helper\.py"):
        config_at(run_dir, None)
    told = json.loads(command("verify", path, "--json").stdout)
    assert [row["sound"] for row in told["checkpoints"]] == [False] * 3
    for asked in (["resume", path], ["fork", f"{path}@1", "--runs-dir", root, "--set", "train.steps=3"],
                  ["generate", path], ["compare", path, "--responses", "2"],
                  ["compare", path, path, "--responses", "2"], ["export", path, str(tmp_path / "out")]):
        refused = command(*asked)
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1), (asked, refused.stderr)
        assert named["function"] in refused.stderr
    assert not trace.exists()


def test_one_that_does_is_passed_over_as_a_damaged_one_is(run_dir: RunDir, named: dict[str, Any], trace: Path) -> None:
    name_code(run_dir, named, 1)
    state, notices = checkpoint.load_newest(run_dir)
    assert (state.step, len(notices)) == (1, 1)
    assert command("resume", str(run_dir.path)).exit_code == 0
    assert checkpoint.load_newest(run_dir)[0].step == 2
    assert not trace.exists()


def test_a_recorded_change_names_a_digest_and_no_other_file(
    run_dir: RunDir, named: dict[str, Any], tmp_path: Path
) -> None:
    config = pinned(validate(run_dir.config().model_dump() | {"rewards": [named]}))
    own = RunDir.create(tmp_path / "own", config, name="own")
    (reward,) = config.model_dump()["rewards"]
    shutil.copytree(run_dir.checkpoints, own.checkpoints)
    newest = checkpoint.candidates(own)[0]
    other, accepted = str(tmp_path / "other.py") + ":f", "ab" * 32
    for changed, edits, known in (
        ({}, [], True),
        ({"weight": 2.0}, [], True),
        ({"sha256": accepted}, [], False),
        ({"sha256": accepted}, [("rewards.0.sha256", accepted)], True),
        ({"sha256": None}, [("rewards.0.sha256", None)], False),
        ({"sha256": accepted}, [("rewards.1.sha256", accepted)], False),
        ({"function": other}, [("rewards.0.function", other)], False),
        ({"function": other, "sha256": accepted}, [("rewards.0.sha256", accepted)], False),
        ({"function": named["function"].replace(":f", ":g")}, [], False),
    ):
        rewrite(newest, lambda state, changed=changed: state["config"].update(rewards=[reward | changed]))
        lines = [json.dumps({"step": 1, "path": path, "old": None, "new": new}) + "\n" for path, new in edits]
        (own.path / "edits.jsonl").write_text("".join(lines))
        try:
            checkpoint.load(newest)
            found = True
        except CheckpointError:
            found = False
        assert found is known, (changed, edits)
        assert settings_now(own).model_dump()["rewards"][0]["function"] == named["function"]


# --- of another user ---


@pytest.fixture
def with_code(model_folders: dict[str, Path], named: dict[str, Any], tmp_path: Path) -> RunDir:
    """A run whose reward is code that this user trusts."""
    config = pinned(tiny_config(model_folders["gpt_neo"], train={"steps": 2, "checkpoint_every": 1}, rewards=[named]))
    run_dir = RunDir.create(tmp_path / "runs", config, name="theirs")
    Trainer(config, run_dir=run_dir, emit=lambda _: None).run()
    return run_dir


@as_root
def test_no_code_is_loaded_for_a_run_of_another_user(with_code: RunDir, tmp_path: Path) -> None:
    path = str(with_code.path)
    newest = checkpoint.candidates(with_code)[0]
    assert json.loads(command("generate", path, "--json").stdout)["samples"][0]["score"] == 1.0
    for file in (with_code.path, with_code.path / "config.toml", newest, newest / "state.json"):
        os.chown(file, SOMEBODY, SOMEBODY)
        answered = command("generate", path, "--json")
        assert answered.exit_code == 0, answered.stderr
        told = json.loads(answered.stdout)
        assert (told["samples"][0]["score"], "another user" in told["no_scores"]) == (None, True)
        for both in ([path], [path, path]):
            compared = json.loads(command("compare", *both, "--responses", "2", "--json").stdout)
            assert ("no_scores" in compared, "mean_score" in compared["difference"]) == (True, False)
        before = with_code.status()
        refused = command("resume", path, "--set", "train.steps=3", "--accept-changed-code")
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert with_code.status() == before
        os.chown(file, 0, 0)
    os.chown(with_code.path, SOMEBODY, SOMEBODY)
    child = command("fork", path, "--runs-dir", str(tmp_path / "mine"), "--name", "mine", "--set", "train.steps=3")
    assert child.exit_code == 0, child.stderr  # the code is trusted, and the fork this user's own
