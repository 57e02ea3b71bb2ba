"""Reward code runs once this user has said so of these very contents, and never before."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import warm
from moments import PATIENCE, trusted
from tiny_models import tiny_config
from tui.terminal import Terminal
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.rewards import FunctionRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.events import Event, RunState
from rlhf_engine.requests import Close, RequestQueue, Start, Stop
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.function import code_at, pinned
from rlhf_engine.runs.hand_over import hand_over
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.trust import UntrustedCodeError, is_trusted, trust, trust_once
from rlhf_engine.session import Session
from rlhf_engine.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys\nsys.argv = ['rlhf-tui', {arguments}]\nfrom rlhf_tui.cli import main\nmain()\n"


def command(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), list(arguments))


def on_a_terminal(folder: Path, *arguments: str) -> Terminal:
    return Terminal(folder, PROGRAM.replace("{arguments}", ", ".join(map(repr, arguments))))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """What the code leaves behind when it runs."""
    return tmp_path / "ran"


@pytest.fixture
def file(tmp_path: Path, trace: Path) -> Path:
    """Reward code with a neighbour, which nobody has trusted; it says so when it, or the neighbour, runs."""
    path = tmp_path / "code" / "own.py"
    path.parent.mkdir()
    (path.parent / "helper.py").write_text(f"open({str(trace)!r}, 'a').close()\nPOINTS = 2.0\n")
    path.write_text(f"open({str(trace)!r}, 'a').close()\nfrom helper import POINTS\n"
                    "def f(prompts, responses): return [POINTS] * len(responses)\n")
    return path


@pytest.fixture
def config(model_folders: dict[str, Path], file: Path) -> RunConfig:
    reward = {"kind": "function", "name": "own", "function": f"{file}:f"}
    return tiny_config(model_folders["gpt_neo"], train={"steps": 1, "checkpoint_every": 1}, rewards=[reward])


@pytest.fixture
def preset(config: RunConfig, tmp_path: Path) -> str:
    (tmp_path / "mine.toml").write_text(to_toml(config))
    return str(tmp_path / "mine.toml")


@pytest.fixture
def score(file: Path, tmp_path: Path) -> Callable[[], float]:
    """What the file's function gives, asked of the engine."""
    def asked(function: str = "f") -> float:
        reward = FunctionRewardConfig(name="own", function=f"{file}:{function}")
        return build_rewards([reward]).score([""], ["x"]).scores[0].total

    return asked


def test_nothing_runs_what_nobody_has_trusted(preset: str, config: RunConfig, file: Path, trace: Path,
                                              tmp_path: Path) -> None:
    digest = code_at(file).digest
    for asked in (["score", preset, "a text"], ["train", preset, "--runs-dir", str(tmp_path / "runs")]):
        refused = command(*asked)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), refused.stderr
        for named in (str(file), digest, "rlhf-tui trust", "--trust-code"):
            assert named in refused.stderr
    assert not list((tmp_path / "runs").glob("*"))
    told: list[Any] = []

    def heard(event: Event) -> None:
        told.append(event)
        session.ask(Close())

    session = Session(heard)
    session.ask(Start(config, tmp_path / "runs"))
    session.serve()
    assert [event.state for event in told] == [RunState.FAILED]
    assert not list((tmp_path / "runs").glob("*"))
    assert command("presets").exit_code == 0
    assert not trace.exists()


def test_a_run_whose_code_is_not_trusted_answers_without_scores_and_is_not_resumed(
    preset: str, file: Path, trace: Path, tmp_path: Path
) -> None:
    """As one that began before anybody was asked, or that somebody sent."""
    trusted(file)
    assert command("train", preset, "--runs-dir", str(tmp_path / "runs"), "--name", "r").exit_code == 0
    command("trust", "--remove", str(file))
    trace.unlink()
    path = str(tmp_path / "runs" / "r")
    answered = json.loads(command("generate", path, "--json").stdout)
    assert (answered["samples"][0]["score"], str(file) in answered["no_scores"]) == (None, True)
    for both in ([path], [path, path]):
        compared = json.loads(command("compare", *both, "--responses", "2", "--json").stdout)
        assert str(file) in compared["no_scores"]
    for asked in (["resume", path, "--set", "train.steps=2"],
                  ["fork", path, "--runs-dir", str(tmp_path / "forks"), "--set", "train.steps=2"]):
        refused = command(*asked)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert code_at(file).digest in refused.stderr
    assert not list((tmp_path / "forks").glob("*"))
    assert not trace.exists()

    assert command("trust", str(file)).exit_code == 0
    assert json.loads(command("generate", path, "--json").stdout)["samples"][0]["score"] == 2.0
    assert command("resume", path, "--set", "train.steps=2").exit_code == 0


def test_trust_is_of_all_contents_and_can_be_withdrawn(file: Path, score: Callable[[], float], trace: Path) -> None:
    def listed() -> list[str]:
        return [row["digest"] for row in json.loads(command("trust", "--list", "--json").stdout)["trusted"]]

    (row,) = json.loads(command("trust", f"{file}:f", "--json").stdout)["trusted"]
    assert row["files"] == [str(file), str(file.parent / "helper.py")]
    assert listed() == [row["digest"]]
    assert score() == 2.0
    trace.unlink()
    helper, before = file.parent / "helper.py", (file.parent / "helper.py").read_text()
    helper.write_text(before.replace("2.0", "3.0"))
    with pytest.raises(UntrustedCodeError) as caught:
        score()
    assert caught.value.code.files == (file, helper)
    assert not trace.exists()
    helper.write_text(before)
    assert command("trust", "--remove", str(file)).exit_code == 0
    assert listed() == []
    with pytest.raises(UntrustedCodeError):
        score()
    command("trust", str(file))
    assert command("trust", "--remove", row["digest"], "--json").exit_code == 0
    assert not is_trusted(row["digest"])
    for wrong in (["trust"], ["trust", str(file.parent / "no.py")], ["trust", "--remove", "no.py"],
                  ["trust", "--list", str(file)], ["trust", "--remove"]):
        assert command(*wrong).exit_code == 2, wrong


def test_what_was_kept_is_this_user_s_alone(file: Path, tmp_path: Path) -> None:
    digest = code_at(file).digest

    def asked_elsewhere() -> bool:
        """In a process that nobody has told."""
        code = f"from rlhf_engine.runs.trust import is_trusted\nprint(is_trusted({digest!r}))"
        done = warm.run(["-c", code], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout == "True\n"

    assert not asked_elsewhere()
    command("trust", str(file))
    (kept,) = (tmp_path / "home").rglob("trusted_code.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert asked_elsewhere()
    kept.chmod(0o620)
    assert not asked_elsewhere()
    kept.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(kept, 65534, 65534)
        assert not asked_elsewhere()
        os.chown(kept, 0, 0)
    for damaged in ("", "[" * 100_000, "[1]", '{"' + digest + '": 1}'):
        kept.write_text(damaged)
        assert not asked_elsewhere()
    command("trust", str(file))
    assert asked_elsewhere()


def test_processes_that_trust_at_once_lose_nothing(tmp_path: Path) -> None:
    code = ("import sys, pathlib\nfrom rlhf_engine.runs.trust import trust\n"
            "for at in range(8):\n    trust(f'{int(sys.argv[1]) * 100 + at:064x}', pathlib.Path('x.py'))\n")
    started = [warm.Process(["-c", code, str(number)], cwd=tmp_path) for number in range(1, 5)]
    assert [process.wait(PATIENCE) for process in started] == [0] * 4
    kept = json.loads(command("trust", "--list", "--json").stdout)["trusted"]
    assert len(kept) == 32


def test_a_digest_on_the_command_line_holds_for_that_once(preset: str, file: Path, tmp_path: Path) -> None:
    digest = code_at(file).digest

    def scored(*options: str) -> int:
        return warm.run(["-m", "rlhf_engine", "score", preset, "a", *options], cwd=tmp_path).returncode

    assert scored("--trust-code", "ab" * 32, "--trust-code", digest) == 0
    assert scored("--trust-code", "ab" * 32) == 2
    assert scored("--trust-code", "abc") == 2


@pytest.mark.slow
def test_a_process_that_goes_on_with_a_run_may_run_what_the_first_might(
    config: RunConfig, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fork(command: list[str], *, env: dict[str, str], stdout: int, stderr: int, **_: Any) -> warm.Process:
        arguments = [word for word in command[1:] if word != "-P"]
        return warm.Process(arguments, cwd=tmp_path, environment=env, stdout=stdout, stderr=stderr)

    monkeypatch.setattr(subprocess, "Popen", fork)
    trust_once(code_at(file).digest)  # as the option does
    kept = pinned(config)
    run_dir, requests = RunDir.create(tmp_path / "runs", kept, name="r"), RequestQueue()
    requests.ask(Stop())
    trainer = Trainer(kept, run_dir=run_dir, requests=requests, emit=lambda _: None)
    assert trainer.run() is RunState.STOPPED
    handed = hand_over(run_dir)
    assert handed.process.wait(PATIENCE) == 0, handed.log and handed.log.read_text()
    assert [line.step for line in run_dir.metrics()] == [1]


# --- asking at a terminal ---


def test_a_person_at_a_terminal_is_asked_once(preset: str, file: Path, trace: Path, tmp_path: Path) -> None:
    file.write_text("# \x1b]52;c;aGk=\x07 \u202e hidden \x9b2J\n" + "#\n" * 40 + file.read_text())
    code = code_at(file)
    for typed in ("n\n", "\n", "\x03", "\x04"):
        terminal = on_a_terminal(tmp_path, "score", preset, "a text")
        written = terminal.read_until(b"[y/N] ")
        assert not trace.exists()
        for shown in (str(file), code.digest, str(file.parent / "helper.py")):
            assert shown.encode() in written
        assert b"hidden" in written
        for raw in (b"\x1b]", b"\x07", b"\xe2\x80\xae", b"\x9b2J", b"\xc2\x9b"):
            assert raw not in written
        terminal.type(typed)
        assert terminal.exit_code() == (130 if typed == "\x03" else 2)
        assert not trace.exists()
    terminal = on_a_terminal(tmp_path, "score", preset, "a text")
    terminal.read_until(b"[y/N] ")
    terminal.type("y\n")
    assert terminal.exit_code() == 0
    assert b"+2.00" in terminal.written
    again = on_a_terminal(tmp_path, "score", preset, "a text")
    assert again.exit_code() == 0
    assert b"[y/N]" not in again.written


def test_changed_code_of_a_run_is_one_question(config: RunConfig, preset: str, file: Path, tmp_path: Path) -> None:
    trusted(file)
    assert command("train", preset, "--runs-dir", str(tmp_path / "runs"), "--name", "r").exit_code == 0
    file.write_text(file.read_text() + "# another\n")
    terminal = on_a_terminal(tmp_path, "resume", "r", "--set", "train.steps=2")
    terminal.read_until(b"[y/N] ")
    assert code_at(file).digest.encode() in terminal.written
    terminal.type("y\n")
    assert terminal.exit_code() == 0
    assert terminal.written.count(b"[y/N]") == 1
    assert is_trusted(code_at(file).digest)
    assert [edit.new for edit in RunDir(tmp_path / "runs" / "r").edits() if edit.path.endswith("sha256")] == [
        code_at(file).digest]
    file.write_text(file.read_text() + "# and another\n")
    assert command("resume", str(tmp_path / "runs" / "r"), "--accept-changed-code").exit_code == 0
    assert is_trusted(code_at(file).digest)


def test_a_run_that_knows_the_digest_of_its_file_alone_is_asked_about_all(
    config: RunConfig, file: Path, tmp_path: Path
) -> None:
    """As runs were begun before neighbours were part of the digest."""
    code = trusted(file)
    alone = hashlib.sha256(code.read_bytes()).hexdigest()
    kept = config.model_copy(update={"rewards": [config.rewards[0].model_copy(update={"sha256": alone})]})
    run_dir = RunDir.create(tmp_path / "runs", kept, name="r")
    assert Trainer(kept, run_dir=run_dir, emit=lambda _: None).run() is RunState.FINISHED
    (file.parent / "helper.py").write_text("POINTS = 5.0\n")
    refused = command("resume", str(run_dir.path))
    assert (refused.exit_code, code_at(file).digest in refused.stderr) == (2, True)
    trusted(file)
    assert command("resume", str(run_dir.path), "--set", "train.steps=2").exit_code == 0
    assert [edit.new for edit in run_dir.edits() if edit.path == "rewards.0.sha256"] == [code_at(file).digest]
    assert run_dir.metrics()[-1].metrics["rewards/own/mean"] == 5.0


# --- files that are none, and ways round ---


def test_only_what_was_read_is_run(file: Path, score: Callable[[], float], trace: Path) -> None:
    """A module that comes into the folder of a trusted package afterwards is not what was trusted."""
    (file.parent / "deep").mkdir()
    (file.parent / "deep" / "__init__.py").write_text("")
    file.write_text("import deep\ndef f(prompts, responses):\n    try:\n        from deep import late as found\n"
                    "    except ImportError:\n        found = None\n"
                    "    return [1.0 if found is None else 9.0] * len(responses)\n")
    reward = FunctionRewardConfig(name="own", function=f"{trusted(file)}:f")
    rewards = build_rewards([reward])
    (file.parent / "deep" / "late.py").write_text(f"open({str(trace)!r}, 'a').close()\nX = 9.0\n")
    assert rewards.score([""], ["x"]).scores[0].total == 1.0
    assert not trace.exists()


@pytest.mark.parametrize("what", ["fifo", "device", "folder", "huge", "deep", "names", "hidden names", "long", "loop"])
def test_what_is_no_code_is_told_at_once(tmp_path: Path, what: str) -> None:
    path = tmp_path / "own.py"
    match what:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "huge":
            with path.open("wb") as file:
                file.truncate(200 * 2**30)
        case "deep":
            path.write_text("x = " + "(" * 50_000 + ")" * 50_000)
            with suppress(ConfigError):
                trusted(path)
        case "names":  # for each of its parts the parser would keep all before it
            path.write_text("import " + "a .\\\n" * 40_000 + "a\n")
        case "hidden names":
            path.write_text("# coding: utf-7\nimport " + "a+AC4-" * 40_000 + "a\n")
        case "long":
            path = tmp_path / ("a" * 5000 + ".py")
        case "loop":
            path.symlink_to(path)
    with pytest.raises(ConfigError) as caught:
        build_rewards([FunctionRewardConfig(name="own", function=f"{path}:f")])
    assert "\n" not in str(caught.value)
    if what != "deep":
        assert command("trust", str(path)).exit_code == 2


def test_what_lies_in_a_run_is_not_trusted_by_any_way_there(config: RunConfig, tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path / "runs", config, name="r")
    for inside in (run_dir.path / "own.py", tmp_path / "runs" / ".trash" / "r@2" / "deep" / "own.py"):
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(f"# {tmp_path}\ndef f(p, r): return [1.0] * len(r)\n")
    trashed = tmp_path / "runs" / ".trash" / "r@2"
    (trashed / "run.json").write_text("{}")
    os.mkfifo(trashed / "config.toml")
    (tmp_path / "linked").symlink_to(run_dir.path)
    (tmp_path / "link.py").symlink_to(trashed / "deep" / "own.py")
    for way in (run_dir.path / "own.py", run_dir.path / ".." / "r" / "own.py", tmp_path / "linked" / "own.py",
                trashed / "deep" / "own.py", tmp_path / "link.py"):
        refused = command("trust", str(way))
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), way
        trust(hashlib.sha256(way.read_bytes()).hexdigest(), way)  # whoever says so
        with pytest.raises(ConfigError, match="own"):
            build_rewards([FunctionRewardConfig(name="own", function=f"{way}:f")])
