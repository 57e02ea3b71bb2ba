"""What a command prints arrives whatever the stream is like: without UTF-8, full, closed, or read by nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from tiny_models import save_tiny_model
from typer.testing import CliRunner

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.kinds import algorithm_kinds, reward_kinds
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir

ROOT = Path(__file__).parents[1]
QUICK = ["train.steps=2", "sampling.max_new_tokens=4", "algorithm.responses_per_step=2", "algorithm.minibatch_size=2",
         "train.threads=1", "probe.every=0"]
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in a folder whose name is not ASCII."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "modèle-模型", "gpt_neo")


def run(cwd: Path, *arguments: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own; shell: what a shell does with its streams."""
    command = [sys.executable, "-m", "rlhf_engine", *arguments]
    if shell:
        command = ["bash", "-c", f'"$@" {shell}', "bash", *command]
    return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, timeout=250)


def train(model: Path, *more: str) -> list[str]:
    return ["train", "animals", *(word for text in (f"model.name={model}", *QUICK) for word in ("--set", text)),
            "--name", "one", *more]


@pytest.mark.parametrize("environment", [
    {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "ascii:strict"}, PLAIN,
])
def test_what_an_encoding_lacks_is_written_in_other_characters(tmp_path: Path, environment: dict[str, str]) -> None:
    done = run(tmp_path, "presets", "--fields", **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("latin-1")
    assert "kl.coef" in text
    assert "β" not in text
    wrong = run(tmp_path, "train", "ночь…", **environment)
    assert wrong.returncode == 2
    assert b"Traceback" not in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1


def test_a_run_bears_a_stream_that_cannot_spell_its_model(tmp_path: Path, tiny: Path) -> None:
    done = warm.run(["-m", "rlhf_engine", *train(tiny)], cwd=tmp_path, PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0, done.stderr
    assert "mod\\xe8le" in done.stdout
    assert "step 2/2" in done.stdout
    status = RunDir.open(tmp_path / "runs" / "one").status()
    assert status is not None
    assert status.state is RunState.FINISHED
    rows = run(tmp_path, "runs", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(rows.stdout)["runs"][0]["name"] == "one"


def test_a_full_disk_behind_stdout_costs_the_lines_and_not_the_run(tmp_path: Path, tiny: Path) -> None:
    listed = run(tmp_path, "presets", shell=">/dev/full")
    assert listed.returncode == 1
    assert listed.stderr.count(b"\n") == 1
    assert b"stdout could not be written: the disk is full" in listed.stderr

    with open("/dev/full", "wb") as full, (tmp_path / "said").open("wb") as said:
        trained = warm.Process(["-m", "rlhf_engine", *train(tiny, "--json")], cwd=tmp_path, stdout=full.fileno(),
                               stderr=said.fileno())
        assert trained.wait() == 1
    complaint = (tmp_path / "said").read_text()
    assert complaint.count("the disk is full") == 1
    assert "Traceback" not in complaint
    status = RunDir.open(tmp_path / "runs" / "one").status()
    assert status is not None
    assert (status.state, status.step) == (RunState.FINISHED, 2)


@pytest.mark.parametrize("arguments", [["presets", "--fields"], ["presets", "--fields", "--json"], ["--help"]])
def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments, shell="| head -c 1; exit ${PIPESTATUS[0]}")
    assert done.stderr == b""
    assert done.returncode in (0, 1, 141)  # whether the writer is ready before the reader has left is not ours
    full = run(tmp_path, *arguments, shell="| true; exit ${PIPESTATUS[0]}")
    assert full.stderr == b""


def test_closed_streams_take_nothing_and_break_nothing(tmp_path: Path, tiny: Path) -> None:
    silent = run(tmp_path, "presets", shell=">&-")
    assert silent.returncode == 1
    assert b"stdout is closed" in silent.stderr
    # what goes to stderr must not come out of stdout in its place
    wrong = run(tmp_path, "train", "nowhere", shell="2>&-")
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    trained = warm.Process(["-m", "rlhf_engine", *train(tiny)], cwd=tmp_path, stdout=warm.CLOSED, stderr=warm.CLOSED)
    assert trained.wait() == 0
    assert {path.name for path in (tmp_path / "runs" / "one").iterdir()} >= {"config.toml", "metrics.jsonl"}


def test_a_name_that_is_no_text_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "rlhf_engine", "train", "animals", "--set", b"model.name=/tmp/m\xff"],
                          cwd=tmp_path, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=250)
    assert done.returncode in (1, 2)
    assert b"Traceback" not in done.stderr
    assert b"model.name" in done.stderr
    assert b"is not UTF-8 text" in done.stderr
    assert not (tmp_path / "runs").exists()
    odd = subprocess.run([sys.executable, "-m", "rlhf_engine", "runs", "--runs-dir", b"r\xff"], cwd=tmp_path,
                         capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=250)
    assert (odd.returncode, odd.stderr) == (0, b"")


def test_every_setting_of_every_kind_of_method_and_reward_is_listed() -> None:
    listed = CliRunner().invoke(make_app(), ["presets", "--fields", "--json"])
    rows = json.loads(listed.stdout)["fields"]
    found = {(row["algorithm_kind"], row["reward_kind"], row["path"]) for row in rows}
    for kind, model in reward_kinds().items():
        assert {(None, kind, f"rewards.N.{name}") for name in model.model_fields if name != "kind"} <= found
    for kind, method in algorithm_kinds().items():
        assert {(kind, None, f"algorithm.{name}") for name in method.model_fields if name != "kind"} <= found
    assert len(found) == len(rows)
    text = CliRunner().invoke(make_app(), ["presets", "--fields"]).stdout
    assert "rewards.N.function (function)" in text
    assert "rewards.N.sha256 (function)" in text
