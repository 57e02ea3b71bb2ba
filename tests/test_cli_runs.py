"""Commands about runs: what they mean when none is named, and a run exported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from configs import SMALL
from tiny_models import save_tiny_model
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.cli import make_workbench_app

QUICK = ["sampling.max_new_tokens=6", "algorithm.responses_per_step=4", "algorithm.minibatch_size=2", "train.threads=1"]


def invoke(*arguments: str, workbench: bool = False) -> Result:
    return CliRunner().invoke(make_workbench_app() if workbench else make_app(), list(arguments))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run, of three steps of a tiny model."""
    folder = tmp_path_factory.mktemp("trained")
    model, root = save_tiny_model(folder / "model", "gpt_neo"), folder / "runs"
    sets = [word for text in (f"model.name={model}", "train.steps=3", "train.checkpoint_every=1", *QUICK)
            for word in ("--set", text)]
    result = invoke("train", "animals", *sets, "--name", "first", "--runs-dir", str(root))
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture
def driven() -> Iterator[ExitStack]:
    """Holds what a test lets be driven: by this process, which is alive."""
    with ExitStack() as held:
        yield held


def _drive(root: Path, name: str, held: ExitStack) -> None:
    run = RunDir.create(root, SMALL, name=name)
    held.enter_context(run.lock())
    run.write_status(RunState.TRAINING, 1, 9)


# --- no run is named ---


def test_without_a_name_commands_that_look_take_the_newest_run_and_say_so(trained: Path) -> None:
    where = ["--runs-dir", str(trained)]
    for command in (["verify"], ["attach"], ["compare", "--responses", "2"], ["generate"],
                    ["resume", "--set", "train.steps=3"]):
        result = invoke(*command, *where)
        assert result.exit_code == 0, (command, result.output)
        assert "first" in result.stderr, command
    assert "first" in invoke("attach", *where, workbench=True).stderr


def test_without_a_name_fork_takes_the_newest_run(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    result = invoke("fork", "--set", "train.steps=4", "--name", "child", "--runs-dir", str(tmp_path / "runs"))
    assert result.exit_code == 0, result.output
    parent = RunDir.open(tmp_path / "runs" / "child").parent
    assert parent is not None
    assert (parent.run, parent.step) == ("first", 3)


@pytest.mark.parametrize("command", ["verify", "attach", "resume", "compare", "generate", "fork"])
def test_where_there_is_no_run_the_sentence_names_the_folder(command: str, tmp_path: Path) -> None:
    result = invoke(command, "--runs-dir", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert str(tmp_path / "none") in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_attach_means_the_run_that_goes_on_and_lists_them_where_it_could_be_several(
    trained: Path, tmp_path: Path, driven: ExitStack
) -> None:
    root = tmp_path / "runs"
    shutil.copytree(trained, root)
    _drive(root, "going", driven)
    _drive(root, "other", driven)
    for workbench in (False, True):
        result = invoke("attach", "--runs-dir", str(root), workbench=workbench)
        assert result.exit_code == 2
        assert "going" in result.stderr
        assert "other" in result.stderr
        assert "first" not in result.stderr


def test_attach_without_a_name_follows_the_one_that_goes_on_though_another_is_newer(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    code = f"""
import time
from pathlib import Path
from configs import SMALL
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
run = RunDir.create(Path({str(root)!r}), SMALL, name="going")
with run.lock():
    run.write_status(RunState.TRAINING, 1, 9)
    print("drives", flush=True)
    input()
    run.write_status(RunState.FINISHED, 9, 9, "finished after step 9")
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          cwd=Path(__file__).parent) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "drives\n"
        newer = RunDir.create(root, SMALL, name="newer")
        with newer.lock():
            newer.write_status(RunState.STOPPED, 1, 9)
        with subprocess.Popen([sys.executable, "-m", "rlhf_engine", "attach", "--runs-dir", str(root)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
            assert watching.stderr is not None
            assert "going" in watching.stderr.readline()
            process.stdin.write("\n")
            process.stdin.flush()
            assert watching.wait(60) == 0


def test_resume_without_a_name_leaves_a_run_alone_that_goes_on(
    trained: Path, tmp_path: Path, driven: ExitStack
) -> None:
    root = tmp_path / "runs"
    shutil.copytree(trained, root)
    _drive(root, "going", driven)
    result = invoke("resume", "--set", "train.steps=4", "--runs-dir", str(root))
    assert result.exit_code == 0, result.output
    status = RunDir.open(root / "first").status()
    assert status is not None
    assert (status.state, status.step) == (RunState.FINISHED, 4)


# --- export ---


def test_export_writes_a_folder_and_says_what_it_is(trained: Path, tmp_path: Path) -> None:
    where = ["--runs-dir", str(trained)]
    result = invoke("export", "first@2", str(tmp_path / "adapter"), *where)
    assert result.exit_code == 0, result.output
    assert "first@2" in result.stdout
    assert str(tmp_path / "adapter") in result.stdout
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= {
        path.name for path in (tmp_path / "adapter").iterdir()}

    result = invoke("export", "first@best", str(tmp_path / "merged"), "--merged", "--json", *where)
    told = json.loads(result.stdout)
    assert told.keys() == {"run", "step", "kind", "path", "base", "dtype", "kept", "bytes"}
    assert (told["run"], told["kind"], told["path"]) == ("first", "merged", str(tmp_path / "merged"))
    assert told["bytes"] == sum(path.stat().st_size for path in (tmp_path / "merged").iterdir())
    assert {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "README.md"} <= {
        path.name for path in (tmp_path / "merged").iterdir()}


def test_export_of_the_newest_run_and_the_folder_forgotten(trained: Path, tmp_path: Path) -> None:
    where = ["--runs-dir", str(trained)]
    result = invoke("export", str(tmp_path / "adapter"), *where)
    assert result.exit_code == 0, result.output
    assert "first" in result.stderr
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    for run in ("first", "first@2", "first@best"):
        result = invoke("export", run, *where)
        assert result.exit_code == 2
        assert "folder" in result.stderr
    assert not Path("first").exists()


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["first@9", "out"], 1, "1, 2, 3"), (["nobody", "out"], 2, "first"), (["first@x", "out"], 2, "whole number"),
    (["first", "."], 1, "not empty"),
])
def test_an_export_that_cannot_be_is_one_sentence(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("kept")
    result = invoke("export", *arguments, "--runs-dir", str(trained))
    assert result.exit_code == code
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["mine"]
