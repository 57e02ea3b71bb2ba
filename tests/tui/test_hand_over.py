"""A real run whose terminal goes away, is left, is taken over: its curves are those of a run left in peace."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import warm
from moments import wait_until
from tiny_models import save_tiny_model, tiny_config
from tui.terminal import Terminal

from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RunError
from rlhf_engine.events import RunState
from rlhf_engine.runs.hand_over import command_for, hand_over
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_status import Status
from rlhf_engine.training.trainer import Trainer

pytestmark = pytest.mark.slow

COMMAND = """
import sys
sys.argv = ["rlhf-tui", *{arguments!r}]
from rlhf_tui.cli import main
main()
"""
SIZES = {"sampling": {"max_new_tokens": 8}, "algorithm": {"responses_per_step": 4, "minibatch_size": 2, "epochs": 1}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), "gpt_neo")


@pytest.fixture(autouse=True)
def _nothing_is_left_running(tmp_path: Path) -> Iterator[None]:
    yield
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            here = os.readlink(entry / "cwd") == str(tmp_path)
        except OSError:
            continue
        if (here or os.fsencode(tmp_path) in command) and int(entry.name) != os.getpid():
            os.kill(int(entry.name), signal.SIGKILL)


def config_of(model: Path, steps: int) -> RunConfig:
    return tiny_config(model, **SIZES, train={"steps": steps, "checkpoint_every": 1000, "keep_checkpoints": 2,
                                              "samples_per_step": 1})


def open_workbench(tmp_path: Path, *arguments: str, hang_up: str = "told", **environment: str) -> Terminal:
    program = COMMAND.format(arguments=list(arguments)).replace("{", "{{").replace("}", "}}")
    return Terminal(tmp_path, program, hang_up=hang_up, XDG_STATE_HOME=str(tmp_path / "state"), **environment)


def start(tmp_path: Path, config: RunConfig, hang_up: str = "told") -> tuple[Terminal, RunDir]:
    """A workbench that trains, and its run, which has some steps behind it."""
    (tmp_path / "tiny.toml").write_text(to_toml(config))
    terminal = open_workbench(tmp_path, "--preset", "tiny.toml", "--start", hang_up=hang_up)
    runs = tmp_path / "runs"
    wait(lambda: runs.is_dir() and len(list(runs.glob("*/config.toml"))) == 1, terminal)
    run = RunDir.open(next(runs.iterdir()))
    wait(lambda: step_of(run) >= 2, terminal)
    return terminal, run


def wait(true: Callable[[], bool], terminal: Terminal | None = None) -> None:
    """Until `true`, while what the terminal writes is read: nobody waits for it to be taken."""
    if terminal:
        terminal.read_until(true)
    else:
        wait_until(true)


def goes_on_alone(run: RunDir, left: int) -> None:
    """A process other than `left` drives the run; it is stopped once it has taken some steps."""
    wait(lambda: status_of(run).process.pid != left and status_of(run).state is RunState.TRAINING)
    step = step_of(run)
    wait(lambda: step_of(run) > step + 2)
    os.kill(status_of(run).process.pid, signal.SIGTERM)
    wait(lambda: status_of(run).state is RunState.STOPPED)


def status_of(run: RunDir) -> Status:
    status = run.status()
    assert status is not None
    return status


def step_of(run: RunDir) -> int:
    status = run.status()
    return status.step if status else -1


def same_as_undisturbed(run: RunDir, config: RunConfig) -> None:
    """No step is missing, none is there twice, and all are those of a run that nobody touched."""
    steps = step_of(run)
    config = config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})
    whole = RunDir.create(run.path.parent, config, name="undisturbed")
    Trainer(config, run_dir=whole, emit=lambda event: None).run()
    assert [line.step for line in run.metrics()] == list(range(1, steps + 1))
    assert timeless(run) == timeless(whole)
    assert run.samples() == whole.samples()


def timeless(run: RunDir) -> list[str]:
    """The metrics without the clock's; texts, for NaN equals no NaN."""
    return [repr({name: value for name, value in line.metrics.items() if not name.startswith(("time/", "throughput/"))})
            for line in run.metrics()]


def test_when_the_terminal_goes_away_the_run_goes_on_without_one(tmp_path: Path, model: Path) -> None:
    config = config_of(model, 100_000)
    terminal, run = start(tmp_path, config, hang_up="borrowed")  # and nobody tells; a signal that does, below
    os.close(terminal.descriptor)
    assert terminal.wait() == 129
    goes_on_alone(run, terminal.pid)
    same_as_undisturbed(run, config)
    (log,) = (tmp_path / "state" / "rlhf-tui" / "log").glob(f"{run.name}-*.log")
    wait(lambda: f"stopped after step {step_of(run)}" in log.read_text())
    assert log.stat().st_mode & 0o077 == 0


# of the modules that a start imports early or late; each leaves a word of who imported it
STRANGERS = ("platformdirs", "torch", "typing", "sitecustomize", "usercustomize", "psutil")
LEAVES_A_WORD = "import os\nopen({folder!r} + f'/ran-{{__name__}}-{{os.getpid()}}', 'w').close()\n"


def lay_out_strangers(folder: Path, told: Path) -> None:
    told.mkdir(exist_ok=True)
    for name in STRANGERS:
        (folder / f"{name}.py").write_text(LEAVES_A_WORD.format(folder=str(told)))


def ran(told: Path, *, but: int = 0) -> list[str]:
    return [found.name for found in told.iterdir() if not found.name.endswith(f"-{but}")]


@pytest.mark.parametrize("hang_up", ["told", "ignored"])
def test_a_command_whose_terminal_goes_away_goes_on_too(tmp_path: Path, model: Path, hang_up: str) -> None:
    """And nothing that lies in its folder, or in the run, is run by the process that goes on with it."""
    config = config_of(model, 100_000)
    (tmp_path / "lib").mkdir()
    (tmp_path / "tiny.toml").write_text(to_toml(config))
    path = os.pathsep.join([str(Path(__file__).parents[2]), ".", "lib", ""])
    terminal = open_workbench(tmp_path, "train", "tiny.toml", "--name", "plain", hang_up=hang_up, PYTHONPATH=path)
    wait(lambda: (tmp_path / "runs" / "plain" / "status.json").exists(), terminal)
    run = RunDir.open(tmp_path / "runs" / "plain")
    wait(lambda: step_of(run) >= 2, terminal)
    for folder in (tmp_path, tmp_path / "lib", run.path):
        lay_out_strangers(folder, tmp_path / "told")
    os.kill(terminal.pid, signal.SIGHUP)
    os.close(terminal.descriptor)  # the kernel says it once more
    assert terminal.wait() == 129
    goes_on_alone(run, terminal.pid)
    assert ran(tmp_path / "told", but=terminal.pid) == []  # that one has it on its path, as it was told
    same_as_undisturbed(run, config)


def test_nothing_that_lies_in_the_folder_is_run_by_the_module_that_is_the_program(tmp_path: Path) -> None:
    lay_out_strangers(tmp_path, tmp_path / "told")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for module in ("rlhf_engine", "rlhf_tui"):
        subprocess.run([sys.executable, "-m", module, "runs", "--json"], cwd=tmp_path, env=environment, check=True,
                       stdout=subprocess.DEVNULL)
    assert ran(tmp_path / "told") == []


def test_who_watches_a_run_that_stands_still_leaves_with_the_terminal(tmp_path: Path, model: Path) -> None:
    run = RunDir.create(tmp_path / "runs", config_of(model, 9), name="held")
    with run.lock():
        run.write_status(RunState.PAUSED, 1, 9)
        # on a terminal it would be the workbench
        program = COMMAND.replace("rlhf_tui.cli", "rlhf_engine.commands.cli").format(arguments=["attach", "held"])
        terminal = Terminal(tmp_path, program, hang_up="borrowed")
        terminal.read_until(b"run held")
        assert terminal.hang_up() < 0.8
    assert terminal.left == 129


def test_a_run_left_running_is_watched_and_taken_over(tmp_path: Path, model: Path) -> None:
    config = config_of(model, 100_000)
    terminal, run = start(tmp_path, config)
    terminal.type("d")
    assert terminal.exit_code() == 0
    assert f"rlhf-tui attach {run.name}\r\n".encode() in terminal.written
    headless = status_of(run).process
    assert headless.pid != terminal.pid
    assert os.getsid(headless.pid) == headless.pid

    watching = open_workbench(tmp_path, "attach", run.name)
    watching.read_until(b"WATCHING")
    watching.read_until(b"Take over")
    seen = step_of(run)
    wait(lambda: any(int(found) > seen for found in re.findall(rb"step (\d+)/", watching.written)), watching)
    assert status_of(run).process == headless
    watching.type("t")
    wait(lambda: status_of(run).process.pid == watching.pid, watching)
    taken = step_of(run)
    wait(lambda: step_of(run) > taken and status_of(run).state is RunState.TRAINING, watching)
    assert not headless.alive
    watching.type("q")
    watching.read_until(b"A run is in progress")
    watching.type("q")
    assert watching.exit_code() == 0
    assert status_of(run).state is RunState.STOPPED
    same_as_undisturbed(run, config)


def test_a_second_process_watches_and_never_writes(tmp_path: Path, model: Path) -> None:
    config = config_of(model, 100_000)
    terminal, run = start(tmp_path, config)
    lines = warm.piped(["-m", "rlhf_tui", "attach", run.name], cwd=tmp_path)
    assert lines.stdout.readline() == f"run {run.name} in runs/{run.name}\n"
    assert lines.stdout.readline().startswith("step      1/100000  score")
    lines.process.send_signal(signal.SIGINT)
    assert lines.process.wait() == 130
    terminal.read(0.1)
    assert status_of(run).process.pid == terminal.pid
    assert (run.path / "run.lock").read_text() == f"{terminal.pid}\n"
    terminal.type(" ")
    wait(lambda: status_of(run).state is RunState.PAUSED, terminal)
    os.close(terminal.descriptor)  # a run that is held is saved and left
    assert terminal.wait() == 129
    status = status_of(run)
    assert (status.state, status.message) == (RunState.STOPPED, f"stopped while paused after step {status.step}")
    assert not (tmp_path / "state" / "rlhf-tui" / "log").exists()


def forked(command: list[str], *, env: dict[str, str], stdout: int, stderr: int, **_: object) -> warm.Process:
    """In the place of a process that imports all anew, which the tests above are about."""
    arguments = [word for word in command[1:] if word != "-P"]
    return warm.Process(arguments, cwd=Path.cwd(), environment=env, stdout=stdout, stderr=stderr)


def test_a_hand_over_that_fails_says_where_to_read_why(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the file has a harmless name, whatever the run was renamed to by hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(subprocess, "Popen", forked)
    run = RunDir.create(tmp_path / "my runs", config_of(model, 3), name="empty")
    hostile = f"empty\x1b]0;t\x07\x9b2J\u202e\n{'long' * 40}"
    handed = hand_over(RunDir(run.path.rename(run.path.with_name(hostile))))
    with pytest.raises(RunError, match=r"ended with exit code 1; .*empty_.*\.log says why"):
        handed.wait(200)
    assert handed.log is not None
    assert handed.log.name.isascii()
    assert handed.log.name.isprintable()
    assert handed.log.stat().st_mode & 0o777 == 0o600
    said = handed.log.read_text()
    assert "has no checkpoint yet to resume from" in said
    assert not set("\x1b\x07\x9b\u202e") & set(said)
    assert command_for(run, "attach") == f"rlhf-tui attach '{run.path}'"
    assert command_for(RunDir(Path("runs/brave-otter")), "attach") == "rlhf-tui attach brave-otter"
