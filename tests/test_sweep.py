"""Sweeps as a user has them: real processes, killed and gone on with, and what they come to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import warm
from moments import Gate, wait_until
from tiny_models import save_tiny_model, tiny_config
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.maths.statistics import mean_interval
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.sweep_dir import SweepDir, list_sweeps
from rlhf_engine.sweeping.cells import status_of
from rlhf_tui.cli import make_workbench_app

pytestmark = pytest.mark.slow

GRID = ["--set", "algorithm.kind=ppo,grpo", "--set", "kl.coef=0.1,0.5", "--set", "algorithm.group_size=2",
        "--seeds", "2", "--responses", "8", "--pool", "128", "--name", "grid", "--jobs", "2"]
# a sweep as a process of its own, whose children are forked from it; see `warm`
PARENT = """
import os, signal, subprocess, sys
sys.path.insert(0, {tests!r})
import warm

class Forked:
    def __init__(self, command, *, stdout, stderr, env, **_):
        self.returncode = None
        self.pid = os.fork()
        if self.pid == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            warm._become([nothing, stdout, stderr], warm._Wanted([w for w in command[1:] if w != "-P"], os.getcwd(),
                                                                dict(env), False, [], []))
    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode
    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

subprocess.Popen = Forked
sys.argv = ["rlhf-tui", *{arguments!r}]
from rlhf_tui.cli import main
main()
"""


def forked(command: list[str], *, env: dict[str, str], stdout: int, stderr: int, **_: object) -> warm.Process:
    """In the place of a process that imports all anew."""
    arguments = [word for word in command[1:] if word != "-P"]
    return warm.Process(arguments, cwd=Path.cwd(), environment=env, stdout=stdout, stderr=stderr)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), "gpt_neo")


@pytest.fixture(autouse=True)
def _warm_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And none of them is left when a test has ended."""
    warm.Process(["-c", "pass"], cwd=tmp_path).wait()  # what is forked begins elsewhere, and is not ended with a test
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", forked)
    yield
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            here = os.readlink(entry / "cwd") == str(tmp_path)
        except OSError:
            continue
        if here and int(entry.name) != os.getpid():
            os.kill(int(entry.name), signal.SIGKILL)


def preset(folder: Path, model: Path, **sections: object) -> str:
    config = tiny_config(model, **{"algorithm": {"responses_per_step": 4, "minibatch_size": 2, "epochs": 1},
                                   "sampling": {"max_new_tokens": 6}, "train": {"steps": 2}, **sections})
    (folder / "tiny.toml").write_text(to_toml(config))
    return str(folder / "tiny.toml")


def sweep(*arguments: str, workbench: bool = False) -> Result:
    return CliRunner().invoke(make_workbench_app() if workbench else make_app(), ["sweep", *arguments])


def told(result: Result) -> dict[str, Any]:
    """The last line of --json."""
    assert result.stdout, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert found["event"] == "end"
    return found


def without_clock(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(("time/", "throughput/"))}


def finals(end: dict[str, Any]) -> dict[str, Any]:
    """By run, what training and measuring came to."""
    return {run["run"]: (without_clock(run["final"]), {name: run["measures"].get(name) for name in (
        "score", "share", "kl", "distinct_2")}) for run in end["runs"]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path) -> tuple[Path, dict[str, Any]]:
    """A sweep of 2 × 2 × 2 runs from its start to its end: its folder, and what it told."""
    folder, before = tmp_path_factory.mktemp("undisturbed"), os.getcwd()
    os.chdir(folder)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(subprocess, "Popen", forked)
            result = sweep(preset(folder, model), *GRID, "--json")
    finally:
        os.chdir(before)
    assert result.exit_code == 0, result.output
    return folder, told(result)


# --- what it makes ---


def test_a_sweep_makes_ordinary_runs_and_tells_means_with_intervals(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    folder, end = undisturbed
    assert end["state"] == "finished"
    assert len(end["runs"]) == 8
    for run in end["runs"]:
        found = RunDir.open(folder / "runs" / run["run"])
        config = found.config()
        assert (config.algorithm.kind, config.train.seed) == (run["values"]["algorithm.kind"], run["seed"])
        assert config.kl.coef == float(run["values"]["kl.coef"])
        status = found.status()
        assert status is not None
        assert status.peak_memory == run["measures"]["peak_memory"] > 10**7
        assert run["measures"]["responses"] == 8
    assert sorted({run["seed"] for run in end["runs"]}) == [1, 2]  # the preset's seed is 1
    assert len(end["points"]) == 4
    for point in end["points"]:
        mine = [run for run in end["runs"] if run["values"] == point["values"]]
        for name in ("score", "kl", "distinct_2", "seconds"):
            expected = mean_interval([run["measures"][name] for run in mine])
            assert point["measures"][name] == pytest.approx(
                {"value": expected.value, "low": expected.low, "high": expected.high})
        assert point["final"]["objective/scores"]["value"] == pytest.approx(
            sum(run["final"]["objective/scores"] for run in mine) / 2)
    (of_model,) = end["models"]
    assert of_model["best_of_n"]["curve"][0]["n"] == 1
    standing = end["runs"][0]["best_of_n"]
    assert standing["score"] == pytest.approx(end["runs"][0]["measures"]["score"])


def test_the_sweep_is_listed_and_what_is_finished_is_neither_trained_nor_asked_again(
    undisturbed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, end = undisturbed
    monkeypatch.chdir(folder)
    ((found, plan),) = list_sweeps(Path("runs"))
    assert (found.name, len(plan.cells)) == ("grid", 8)
    assert set(plan.ids.values()) == {RunDir(Path("runs", cell.run)).id for cell in plan.cells}
    monkeypatch.setattr(subprocess, "Popen", None)
    pool = next((found.path / "pools").iterdir())
    before = pool.read_bytes()
    again = sweep("--resume", "grid", "--json")
    assert again.exit_code == 0, again.output
    assert told(again) == end
    assert pool.read_bytes() == before
    shown = sweep("--resume", "grid", workbench=True)
    assert "method ppo, KL coef 0.1" in shown.stdout
    assert "⠉" in shown.stdout or "⣀" in shown.stdout or "⠒" in shown.stdout  # the picture


# --- what is refused ---


def test_nothing_begins_where_one_run_is_wrong(tmp_path: Path, model: Path) -> None:
    result = sweep(preset(tmp_path, model), "--set", "algorithm.kind=ppo,grpo", "--set", "algorithm.trace_decay=0.5,1")
    assert result.exit_code == 2
    assert "trace_decay" in result.stderr
    result = sweep(preset(tmp_path, model), "--set", f"model.name={model},{tmp_path}/nowhere")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_another_sweep_of_that_name_is_told_and_not_mixed(
    undisturbed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    folder, _ = undisturbed
    monkeypatch.chdir(folder)
    name = ["--name", "grid"]
    for arguments, word in (
        ([*GRID, "--set", "train.steps=3"], "train.steps=3"),
        (["--set", "algorithm.kind=ppo,rloo", *GRID[2:6], "--seeds", "2", *name], "grpo"),
        ([*GRID[:6], "--seeds", "1", *name], "grid-"),
    ):
        result = sweep(str(folder / "tiny.toml"), *arguments)
        assert result.exit_code == 2, result.output
        assert word in result.stderr
        assert "--name" in result.stderr
    changed = sweep(preset(tmp_path, model, kl={"coef": 0.3}), *GRID)
    assert changed.exit_code == 2
    assert "kl.coef" in changed.stderr
    result = sweep(str(folder / "tiny.toml"), "--set", "train.steps=1", "--name", "grid-ppo-coef0.1", "--seeds", "1")
    assert result.exit_code == 2  # its run would be called grid-ppo-coef0.1-s1, as one of the other sweep is
    assert "grid-ppo-coef0.1-s1" in result.stderr


# --- killed, and gone on with ---


def begin(folder: Path, *arguments: str) -> warm.Process:
    """A sweep as a process of its own."""
    code = PARENT.format(tests=str(Path(__file__).parent), arguments=["sweep", *arguments])
    log = os.open(folder / "parent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        return warm.Process(["-c", code], cwd=folder, stdout=log, stderr=log)
    finally:
        os.close(log)


def pids(folder: Path) -> Callable[[], list[int]]:
    """The processes of runs that are driven now."""
    def found() -> list[int]:
        runs = [RunDir(path.parent) for path in (folder / "runs").glob("*/config.toml")]
        return [driver.pid for run in runs if (driver := run.driver()) and driver.pid]
    return found


def test_killed_child_and_parent_cost_nothing_but_the_steps_since_the_last_checkpoint(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    gate = Gate(tmp_path / "gate")
    arguments = [preset(tmp_path, model, rewards=[gate.reward], train={"steps": 3}), *GRID]
    gate.close()
    parent, driven = begin(tmp_path, *arguments), pids(tmp_path)
    wait_until(lambda: len(driven()) == 2 and gate.holds, lambda: (tmp_path / "parent.log").read_text())
    killed, left = driven()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in driven() and len(driven()) == 2)  # the next one has begun
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert left in driven()  # a run like any other: it goes on
    gate.open()
    result = sweep(*arguments, "--json")
    assert result.exit_code == 0, result.output
    end = told(result)
    assert end["state"] == "finished"
    (tmp_path / "apart").mkdir()
    monkeypatch.chdir(tmp_path / "apart")
    alone = sweep(*arguments, "--json")
    assert finals(end) == finals(told(alone))
    assert end["points"][0]["measures"]["score"] == told(alone)["points"][0]["measures"]["score"]


def test_ctrl_c_saves_the_runs_and_says_how_to_go_on(tmp_path: Path, model: Path) -> None:
    gate = Gate(tmp_path / "gate")
    gate.close()
    path = preset(tmp_path, model, rewards=[gate.reward], train={"steps": 50, "checkpoint_every": 50})
    parent, driven = begin(tmp_path, path, "--seeds", "3", "--jobs", "2", "--name", "held"), pids(tmp_path)
    wait_until(lambda: len(driven()) == 2 and gate.holds, lambda: (tmp_path / "parent.log").read_text())
    parent.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping" in (tmp_path / "parent.log").read_text())
    gate.open()
    assert parent.wait() == 130
    assert not driven()
    assert "sweep --resume held" in (tmp_path / "parent.log").read_text()
    found = SweepDir.find(tmp_path / "runs", "held")
    assert found is not None
    states = [status_of(tmp_path / "runs", cell) for cell in found.plan().cells]
    assert [status.state for status in states] == ["stopped", "stopped", "waiting"]
    assert all(status.run and status.step < 50 for status in states[:2])


def test_a_terminal_that_goes_away_takes_no_sweep_with_it(tmp_path: Path, model: Path) -> None:
    gate = Gate(tmp_path / "gate")
    gate.close()
    path = preset(tmp_path, model, rewards=[gate.reward], train={"steps": 1})
    parent = begin(tmp_path, path, "--seeds", "2", "--responses", "4", "--pool", "0", "--name", "left")
    wait_until(lambda: gate.holds, lambda: (tmp_path / "parent.log").read_text())
    parent.send_signal(signal.SIGHUP)
    log = tmp_path / "runs" / ".sweeps" / "left" / "output.log"
    wait_until(log.exists)
    gate.open()
    assert parent.wait() == 0
    assert "2 of 2 runs finished" in log.read_text()
    assert "2 of 2" not in (tmp_path / "parent.log").read_text()


def test_a_run_that_fails_is_told_and_the_others_go_on(tmp_path: Path, model: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = sweep(preset(tmp_path, model), "--set", f"model.name={empty},{model}", "--name", "two", "--responses", "4",
                   "--pool", "0", "--json")
    assert result.exit_code == 1
    end = told(result)
    assert end["state"] == "incomplete"
    failed, fine = end["runs"]
    assert (failed["state"], fine["state"]) == ("failed", "finished")
    assert str(empty) in failed["message"]
    assert "two-" in result.stderr
    assert end["points"][1]["measured"] == 1
    assert end["points"][1]["measures"]["score"]["low"] is None  # one run has no interval
    assert "why" in end["models"][0]["best_of_n"]


def test_a_grown_grid_keeps_what_it_has_and_a_renamed_run_is_known(tmp_path: Path, model: Path) -> None:
    path = preset(tmp_path, model, train={"steps": 1})
    shared = ["--name", "grows", "--responses", "4", "--pool", "0", "--json"]
    first = told(sweep(path, "--set", "kl.coef=0.1,0.2", *shared))
    (tmp_path / "runs" / "grows-coef0.1-s1").rename(tmp_path / "runs" / "mine")
    second = told(sweep(path, "--set", "kl.coef=0.1,0.2", "--seeds", "2", *shared))
    assert [run["run"] for run in second["runs"]] == ["mine", "grows-coef0.1-s2", "grows-coef0.2-s1",
                                                      "grows-coef0.2-s2"]
    assert second["runs"][0]["final"] == first["runs"][0]["final"]
    assert not (tmp_path / "runs" / "grows-coef0.1-s1").exists()


