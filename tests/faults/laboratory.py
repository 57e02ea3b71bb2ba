"""A warmed interpreter whose forks drive runs and are hurt: importing torch takes seconds, forking it none.

The interpreter itself never trains, so that no thread of torch is lost in a fork. Runs of a tiny model, a step in some
hundredths of a second.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is first imported
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from moments import wait_until
from tiny_models import save_tiny_model, tiny_config

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import RunState
from rlhf_engine.models.policy import Policy
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training import profiling
from rlhf_engine.training.trainer import Trainer

matmul_peak = cache(profiling.matmul_peak)
EVERY = 2  # steps between checkpoints
SLOW_DISK_SECONDS = 0.02  # that a file takes to reach it; a save waits for several
SIZES = {"sampling": {"max_new_tokens": 4}, "algorithm": {"responses_per_step": 2, "minibatch_size": 2, "epochs": 1}}


def warm_config(root: Path, *, steps: int, **sections: object) -> RunConfig:
    """A tiny run, with the model's files, every lazy import and the speed of the machine in memory."""
    torch.set_num_threads(1)
    profiling.matmul_peak = matmul_peak
    folder = root / "model"
    if not folder.exists():
        save_tiny_model(folder, "gpt_neo")
    # none is kept to fork from: each save removes one, which may be hit, too
    train = {"steps": steps, "checkpoint_every": EVERY, "keep_checkpoints": 3, "checkpoint_budget_mb": 0,
             "samples_per_step": 1}
    config = tiny_config(folder, **SIZES | {"train": train} | sections)
    policy = Policy.from_config(config)
    matmul_peak(policy.dtype, policy.device)
    return config


def forked(work: Callable[[], int | None]) -> int:
    """The pid of a child that does `work` and exits with what that returns; silent, whatever happens to it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            silence = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1):
                os.dup2(silence, descriptor)
            code = work() or 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 98
        finally:
            os._exit(code)
    return pid


def exit_code(pid: int, seconds: float = 600) -> int:
    """How a child ended: its exit code, or minus the signal that ended it. Kills one that does not end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"the child was still there after {seconds} s")


def start(config: RunConfig, run_dir: RunDir) -> RunState:
    """Trains from the beginning, in this process."""
    return Trainer(config, run_dir=run_dir, emit=lambda event: None).run()


def resume(run_dir: RunDir) -> RunState:
    """Goes on, in this process."""
    return Trainer.resume(run_dir, emit=lambda event: None).run()


def command(*arguments: str) -> int:
    """Runs the command line, in this process."""
    make_app()(list(arguments), standalone_mode=True)
    return 0


def newest_step(run_dir: RunDir) -> int:
    """The step of the newest checkpoint, after every candidate was verified; −1 without any."""
    steps = [checkpoint.load(path).step for path in checkpoint.candidates(run_dir)]
    assert steps == sorted(steps, reverse=True), steps
    return max(steps, default=-1)


def step_said(run_dir: RunDir) -> int:
    """The last step that the run's status speaks of."""
    status = run_dir.status()
    return status.step if status else -1


# --- kills ---


@dataclass
class Kills:
    """What came of killing a run again and again; `while_saving`: kills that left something half written."""

    kills: int = 0
    while_saving: int = 0
    steps: int = 0
    most_steps_lost: int = 0
    seconds: float = 0.0


def kill_again_and_again(root: Path, kills: int, seed: int) -> tuple[RunDir, Kills]:
    """Kills a run at random moments, every other time about a save, and resumes it each time.

    Raises AssertionError when a candidate does not verify, a newest step goes backwards, or more is lost than the steps
    since the last checkpoint.
    """
    dice, found, began = random.Random(seed), Kills(), time.monotonic()
    config = warm_config(root, steps=1_000_000)
    run_dir = RunDir.create(root, config, name="killed")
    pid = forked(lambda: slow_disk() or (start(config, run_dir) and 0))
    wait_until(lambda: newest_step_name(run_dir) >= EVERY)
    newest, left = 0, half_done(run_dir)
    for _ in range(kills):
        if found.kills % 8 == 7:
            # on a slow machine, too, there must be progress that could be lost
            wait_until(lambda: newest_step_name(run_dir) > newest)  # noqa: B023
        elif found.kills % 2:
            # anywhere in the work of a resume: loading, cleaning up, steps, a save by chance
            time.sleep(dice.uniform(0.0, 0.6))
        elif found.kills % 4:
            # the status of a step is written just before its checkpoint
            wait_until(lambda pid=pid: due_to_save(run_dir, pid))  # type: ignore[misc]
            time.sleep(dice.uniform(0.0, 0.02))
        else:
            # a save is under way, however fast or slow the machine is
            wait_until(lambda left=left: bool(half_done(run_dir) - left))  # type: ignore[misc]
            time.sleep(dice.uniform(0.0, SLOW_DISK_SECONDS))
        os.kill(pid, signal.SIGKILL)
        assert exit_code(pid) == -signal.SIGKILL
        found.kills += 1
        found.while_saving += bool(half_done(run_dir) - left)
        left = half_done(run_dir)
        step = newest_step(run_dir)
        assert step >= newest, (step, newest)
        lost = step_said(run_dir) - step
        assert lost <= EVERY, lost
        found.most_steps_lost = max(found.most_steps_lost, lost)
        newest = step
        pid = forked(lambda: slow_disk() or (resume(run_dir) and 0))
    os.kill(pid, signal.SIGKILL)
    exit_code(pid)
    found.steps, found.seconds = newest_step(run_dir), time.monotonic() - began
    return run_dir, found


def slow_disk() -> None:
    """From now on, in this process, a file takes a while to reach the disk: a save is long enough to be hit on any."""
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(SLOW_DISK_SECONDS)
        fsync(descriptor)

    os.fsync = slow


def newest_step_name(run_dir: RunDir) -> int:
    """The step that the newest candidate bears in its name; −1 without any."""
    return max((checkpoint.step_of(path) for path in checkpoint.candidates(run_dir)), default=-1)


def due_to_save(run_dir: RunDir, pid: int) -> bool:
    """True once the process `pid` has finished a step that ends with a checkpoint."""
    status = run_dir.status()
    if status is None or status.process.pid != pid or status.state is not RunState.TRAINING:
        return False
    return status.step % EVERY == 0 and status.step > newest_step_name(run_dir)


def half_done(run_dir: RunDir) -> set[str]:
    """What lies half written, or half removed, among the checkpoints."""
    return {name for name in os.listdir(run_dir.checkpoints) if name.startswith(".")}


def same_as_undisturbed(root: Path, killed: RunDir) -> None:
    """The killed run, cut at its last checkpoint, has the metrics of a run of as many steps that nobody touched."""
    steps = newest_step(killed)
    killed.truncate_after(steps, 0)
    config = warm_config(root, steps=steps)
    whole = RunDir.create(root, config, name="undisturbed")
    assert exit_code(forked(lambda: start(config, whole) and 0)) == 0
    assert [line.step for line in killed.metrics()] == list(range(1, steps + 1))
    assert timeless(killed) == timeless(whole)
    assert killed.alarms() == whole.alarms()


def timeless(run_dir: RunDir) -> list[dict[str, float]]:
    """The metrics of all steps without the clock's."""
    return [{name: value for name, value in line.metrics.items() if not name.startswith(("time/", "throughput/"))}
            for line in run_dir.metrics()]


def main() -> None:
    """python -m faults.laboratory ROOT KILLS SEED: kills, compares with an undisturbed run, prints the figures."""
    root, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    killed, found = kill_again_and_again(root, kills, seed)
    same_as_undisturbed(root, killed)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
