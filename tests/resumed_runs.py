"""A run that is cut short and goes on, beside the one that was left alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir


def resumable_from(run_dir: RunDir, step: int, copy: Path) -> RunDir:
    """A copy of a run as if its process had been killed when the checkpoint of `step` was the newest one."""
    shutil.copytree(run_dir.path, copy)
    for path in checkpoint.candidates(RunDir(copy)):
        if checkpoint.step_of(path) > step:
            shutil.rmtree(path)
    return RunDir.open(copy)


def timeless(run_dir: RunDir) -> list[tuple[int, dict[str, float]]]:
    """The metrics of all steps, without the clock's."""
    return [
        (line.step, {k: v for k, v in line.metrics.items() if not k.startswith(("time/", "throughput/"))})
        for line in run_dir.metrics()
    ]
