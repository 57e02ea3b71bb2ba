"""Faults in a laboratory of forks: python -m faults.scenarios ROOT prints a JSON line for each, name and problem."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from faults.laboratory import (
    command,
    exit_code,
    forked,
    newest_step,
    newest_step_name,
    start,
    step_said,
    timeless,
    warm_config,
)
from moments import Gate, wait_until

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError
from rlhf_engine.events import Event, Notice, RunStarted, RunState, StepFinished
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.fork import fork
from rlhf_engine.training.trainer import Trainer

SECRETS = {"HF_TOKEN": "hf_plantedSecretOne", "AWS_SECRET_ACCESS_KEY": "plantedSecretTwo", "PLANTED": "plantedSecret3"}


def trained(root: Path, *, steps: int = 4) -> RunDir:
    """A finished run of `steps` steps with room for more."""
    run_dir = RunDir.create(root, warm_config(root, steps=steps))
    assert exit_code(forked(lambda: start(run_dir.config(), run_dir) and 0)) == 0
    return run_dir


def longer(run_dir: RunDir, steps: int, emit: Callable[[Event], None] = lambda event: None) -> Trainer:
    """A trainer that resumes to `steps` steps."""
    requests = RequestQueue()
    requests.ask(Edit("train.steps", steps))
    return Trainer.resume(run_dir, requests=requests, emit=emit)


def drive(run_dir: RunDir, steps: int) -> int:
    """`longer`, run to its end."""
    longer(run_dir, steps).run()
    return 0


def limited(run_dir: RunDir, steps: int, size: int) -> int:
    """Resumes where no file may grow beyond `size` bytes, as on a full disk; 7 when it ends in one sentence."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        longer(run_dir, steps).run()
    except RlhfError as error:
        return 7 if "size limit" in str(error) else 8
    return 0


def a_full_disk_stops_a_checkpoint_and_harms_none_before(root: Path) -> None:
    run_dir = trained(root)
    tensors = next(checkpoint.candidates(run_dir)[0].glob("*.safetensors")).stat().st_size
    assert exit_code(forked(lambda: limited(run_dir, 8, tensors // 2))) == 7
    assert newest_step(run_dir) == 4
    assert exit_code(forked(lambda: drive(run_dir, 8))) == 0
    assert [line.step for line in run_dir.metrics()] == list(range(1, 9))


def a_full_disk_stops_a_line_and_harms_none_before(root: Path) -> None:
    run_dir = trained(root)
    lines = run_dir.path / "metrics.jsonl"
    with lines.open("a") as file:  # so that this file, and not a checkpoint, is the one that does not fit
        file.write(" " * 300_000 + "\n")
    assert exit_code(forked(lambda: limited(run_dir, 8, lines.stat().st_size + 100))) == 7
    assert newest_step(run_dir) == 4
    assert [line.step for line in run_dir.metrics()][:4] == [1, 2, 3, 4]
    assert exit_code(forked(lambda: drive(run_dir, 8))) == 0
    assert [line.step for line in run_dir.metrics()] == list(range(1, 9))


def sigterm_saves_at_the_step_boundary_and_exits_143(root: Path) -> None:
    config = warm_config(root, steps=1_000_000, train={"steps": 1_000_000, "checkpoint_every": 100_000})
    run_dir = RunDir.create(root, config)
    assert exit_code(forked(lambda: start(stopping(config, 1), run_dir) and 0)) == 0
    pid = forked(lambda: command("resume", str(run_dir.path), "--set", "train.steps=1000000"))
    wait_until(lambda: step_said(run_dir) >= 3)
    os.kill(pid, signal.SIGTERM)
    assert exit_code(pid) == 143
    status = run_dir.status()
    assert status is not None
    assert status.state is RunState.STOPPED
    assert newest_step(run_dir) == status.step


def stopping(config: RunConfig, step: int) -> RunConfig:
    """The config of a run that is done after `step`."""
    return config.model_copy(update={"train": config.train.model_copy(update={"steps": step})})


def a_second_sigterm_leaves_at_once_and_harms_nothing(root: Path) -> None:
    gate, said = Gate(root / "gate"), root / "said"
    config = warm_config(root, steps=4, rewards=[gate.reward])
    run_dir = RunDir.create(root, config)
    assert exit_code(forked(lambda: start(config, run_dir) and 0)) == 0
    gate.close()

    def go_on() -> int:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        return command("resume", str(run_dir.path), "--set", "train.steps=9")

    pid = forked(go_on)
    wait_until(lambda: gate.holds)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: b"once more leaves at once" in said.read_bytes())
    os.kill(pid, signal.SIGTERM)
    assert exit_code(pid) == 143  # from within the step, which nobody has let go on
    status = run_dir.status()
    assert status is not None
    assert status.interrupted  # it did not stay to say that it stopped
    assert newest_step(run_dir) == 4
    gate.open()
    assert exit_code(forked(lambda: drive(run_dir, 10))) == 0


def a_second_process_never_writes_and_a_dead_holders_lock_is_free(root: Path) -> None:
    config = warm_config(root, steps=1_000_000)
    run_dir = RunDir.create(root, config)
    holder = forked(lambda: start(config, run_dir) and 0)
    wait_until(lambda: newest_step_name(run_dir) >= 2)
    assert exit_code(forked(lambda: command("resume", str(run_dir.path)))) == 1
    status = run_dir.status()
    assert status is not None
    assert status.process.pid == holder
    assert not status.interrupted
    step = step_said(run_dir)
    wait_until(lambda: step_said(run_dir) > step)  # the first one goes on
    os.kill(holder, signal.SIGKILL)
    exit_code(holder)
    status = run_dir.status()
    assert status is not None
    assert status.interrupted
    steps = newest_step(run_dir) + 2
    assert exit_code(forked(lambda: drive(run_dir, steps))) == 0
    assert [line.step for line in run_dir.metrics()] == list(range(1, steps + 1))


def a_damaged_checkpoint_is_said_and_the_one_before_used_with_the_same_outcome(root: Path) -> None:
    run_dir, whole = trained(root), trained(root, steps=8)
    file = checkpoint.candidates(run_dir)[0] / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 64
    file.write_bytes(data)

    def go_on() -> int:
        events: list[Event] = []
        longer(run_dir, 8, events.append).run()
        said = [event.text for event in events if isinstance(event, Notice) and "is damaged" in event.text]
        assert len(said) == 1
        assert next(event for event in events if isinstance(event, RunStarted)).first_step == 2
        return 0

    assert exit_code(forked(go_on)) == 0
    assert timeless(run_dir) == timeless(whole)


def a_run_is_for_its_owner_alone_whatever_the_umask(root: Path) -> None:
    config = warm_config(root, steps=4)

    def open_to_all() -> int:
        os.umask(0)
        start(config, RunDir.create(root, config, name="open"))
        return 0

    assert exit_code(forked(open_to_all)) == 0
    run_dir = RunDir.open(root / "open")
    folders = [run_dir.path, *(path for path in run_dir.path.rglob("*") if path.is_dir())]
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in folders)
    files = [path for path in run_dir.path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [str(path) for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


class Broken:
    name = "broken"

    def score(self, prompts: object, responses: object) -> list:
        return [1 / 0]


def no_secret_of_the_environment_is_in_any_file_of_a_run(root: Path) -> None:
    def with_secrets() -> int:
        os.environ |= SECRETS
        config = warm_config(root, steps=4)
        run = RunDir.create(root, config, name="secret")
        start(config, run)
        child = fork(run, step=2, changes={"kl.coef": 0.4}, root=root, name="secret-fork")
        trainer = Trainer.resume(child, emit=lambda event: break_reward(event, trainer))
        try:
            trainer.run()
        except RlhfError:
            return 0
        return 1

    def break_reward(event: Event, trainer: Trainer) -> None:
        if isinstance(event, StepFinished) and trainer.algorithm:
            trainer.algorithm.on_policy.resources.rewards = RewardSum([(Broken(), 1.0)])  # type: ignore[attr-defined]

    assert exit_code(forked(with_secrets)) == 0
    for name in ("secret", "secret-fork"):
        status = RunDir.open(root / name).status()
        assert status is not None
        assert status.state is (RunState.FINISHED if name == "secret" else RunState.FAILED)
        for path in (root / name).rglob("*"):
            if path.is_file():
                assert not any(value.encode() in path.read_bytes() for value in SECRETS.values()), path


def no_run_listens_on_any_socket(root: Path) -> None:
    config = warm_config(root, steps=4)
    run_dir = RunDir.create(root, config)

    def look() -> int:
        seen: list[str] = []
        Trainer(config, run_dir=run_dir,
                emit=lambda event: seen.extend(listening()) if isinstance(event, StepFinished) else None).run()
        return len(seen)

    with socket.socket(socket.AF_UNIX) as one:  # what we look with can see
        one.bind("\0faults")
        one.listen()
        assert len(listening()) == 1
    assert exit_code(forked(look)) == 0


def listening() -> list[str]:
    """The sockets of this process that wait for someone to connect, as the kernel's tables have them (proc(5))."""
    mine = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that listed them is gone
            mine.add(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix("socket:[").removesuffix("]"))
    found = []
    for table, place, listens, inode in (("tcp", 3, "0A", 9), ("tcp6", 3, "0A", 9), ("unix", 3, "00010000", 6)):
        rows = [line.split() for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]]
        found += [f"{table} {row[inode]}" for row in rows if row[place] == listens and row[inode] in mine]
    return found


SCENARIOS = [
    a_full_disk_stops_a_checkpoint_and_harms_none_before,
    a_full_disk_stops_a_line_and_harms_none_before,
    sigterm_saves_at_the_step_boundary_and_exits_143,
    a_second_sigterm_leaves_at_once_and_harms_nothing,
    a_second_process_never_writes_and_a_dead_holders_lock_is_free,
    a_damaged_checkpoint_is_said_and_the_one_before_used_with_the_same_outcome,
    a_run_is_for_its_owner_alone_whatever_the_umask,
    no_secret_of_the_environment_is_in_any_file_of_a_run,
    no_run_listens_on_any_socket,
]


def main() -> None:
    """Plays every scenario, each in a folder of its own; a problem is a traceback, and empty when all went well."""
    root = Path(sys.argv[1])
    for scenario in SCENARIOS:
        problem, began = "", time.monotonic()
        (root / scenario.__name__).mkdir(parents=True)
        try:
            scenario(root / scenario.__name__)
        except Exception:
            problem = traceback.format_exc()
        print(json.dumps({"name": scenario.__name__, "problem": problem,
                          "seconds": round(time.monotonic() - began, 1)}), flush=True)


if __name__ == "__main__":
    main()
