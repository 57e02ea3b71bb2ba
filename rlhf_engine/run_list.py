"""The runs in a folder: listed, found by name, and as the tree that forks make of them. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_engine.disk import why
from rlhf_engine.errors import RunError
from rlhf_engine.run_dir import CONFIG, STATUS, Parent, RunDir


@dataclass(frozen=True)
class RunSummary:
    """A line of the list of runs. `state` is a RunState's value, "interrupted" if its process is gone, or "unknown"."""

    name: str
    path: Path
    preset: str
    state: str
    step: int
    total_steps: int
    message: str
    changed: float
    """Seconds since the epoch at which the run last wrote its status."""
    parent: Parent | None = None


def list_runs(root: Path) -> list[RunSummary]:
    """The runs under `root`, the last changed first; none if there is no such folder."""
    try:
        runs = [RunDir(path) for path in root.iterdir() if (path / CONFIG).is_file()] if root.is_dir() else []
    except OSError as error:
        raise RunError(f"The runs under {root} cannot be listed: {why(error)}.") from None
    return sorted((_summary(run) for run in runs), key=lambda summary: (-summary.changed, summary.name))


def as_tree(runs: Sequence[RunSummary]) -> list[tuple[int, RunSummary]]:
    """The runs in their order with forks below the run they came from, each with its depth (0: nobody's fork here)."""
    names = {run.name for run in runs}
    children: dict[str, list[RunSummary]] = {}
    roots: list[RunSummary] = []
    for run in runs:
        known = run.parent and run.parent.run in names and run.parent.run != run.name
        (children.setdefault(run.parent.run, []) if run.parent and known else roots).append(run)
    tree: list[tuple[int, RunSummary]] = []
    waiting = [(0, run) for run in reversed(roots)]
    while waiting:
        depth, run = waiting.pop()
        tree.append((depth, run))
        waiting += [(depth + 1, child) for child in reversed(children.pop(run.name, []))]
    # a circle, which only edited files can hold, has no root
    return tree + [(0, run) for group in children.values() for run in group]


def find_run(name_or_path: str, root: Path) -> RunDir:
    """The run of that name under `root`, or at that path. Raises RunError saying which runs there are."""
    for path in (root / name_or_path, Path(name_or_path)):
        with suppress(OSError):  # too long to be a path, or in a folder that may not be read: not a run, then
            if (path / CONFIG).is_file():
                return RunDir(path)
    names = [summary.name for summary in list_runs(root)]
    there = f"there are {', '.join(names[:8])}{' …' if len(names) > 8 else ''}" if names else "there is none yet"
    raise RunError(f"There is no run {name_or_path!r}, neither under {root} nor as a path; {there}.")


def _summary(run: RunDir) -> RunSummary:
    status = run.status()
    if status is None:
        changed = (run.path / CONFIG).stat().st_mtime
        return RunSummary(run.path.name, run.path, run.preset, "unknown", 0, 0, "", changed, run.parent)
    state = "interrupted" if status.interrupted else status.state.value
    changed = (run.path / STATUS).stat().st_mtime
    return RunSummary(
        run.path.name, run.path, run.preset, state, status.step, status.total_steps, status.message, changed, run.parent
    )
