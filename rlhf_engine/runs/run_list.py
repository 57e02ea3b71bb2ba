"""The runs in a folder: listed, found by name, and as the tree that forks make of them. Nothing here imports torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rlhf_engine.errors import RlhfError, RunError
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.reading import MOST_ENTRIES, MOST_WHOLE, require_regular
from rlhf_engine.runs import checkpoint_list
from rlhf_engine.runs.parent import Parent, parent_in
from rlhf_engine.runs.reward_versions import RewardVersion, versions_of
from rlhf_engine.runs.run_care import bytes_under
from rlhf_engine.runs.run_columns import glimpses
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import ABOUT, CONFIG, METRICS, STATUS
from rlhf_engine.runs.run_lines import read_object, text_in

CURVE_PLACES = 12
UNREADABLE = "unreadable"
SCORE = "objective/scores"
TOLD = 2
"""Metrics that tell of a run without scores."""


@dataclass(frozen=True)
class RunSummary:
    """A line of the list of runs. `state` is a RunState's value, "interrupted" if its process is gone, "not begun"
    before it has said so much as that its model loads, "unknown" where its status tells nothing, or "unreadable" where
    it cannot be opened; `message` says why then."""

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
    id: str = ""
    note: str = ""
    started: str = ""
    """When, in ISO 8601; empty if nobody knows."""

    @property
    def driven(self) -> bool:
        """True while a process drives it, paused or not."""
        return self.state in ("loading", "training", "paused", "stopping")


@dataclass(frozen=True)
class RunFigures:
    """What takes a little longer to tell of a run: the metrics of its last step, its files, its checkpoints."""

    score: float | None
    kl: float | None
    """Nats per response."""
    bytes: int
    checkpoints: tuple[int, ...]
    """Their steps, the newest first."""
    scores: tuple[float, ...] = ()
    """The mean score at some CURVE_PLACES places along the run, or of each step of a short one."""
    telling: tuple[tuple[str, float], ...] = ()
    """Of a run without scores, the most telling metrics of its method: name and newest value."""
    course: tuple[float, ...] = ()
    """Of the first of these, at places as those of `scores`."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """All of the last step."""
    versions: tuple[RewardVersion, ...] = ()
    """Those of reward models that learnt on within the run."""


def list_runs(root: Path) -> list[RunSummary]:
    """The runs under `root`, the last changed first, those that are unreadable last; none if there is no such folder.

    Raises RunError when it cannot be listed.
    """
    try:
        paths = list(islice(root.iterdir(), MOST_ENTRIES + 1))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise RunError(f"The runs under {root} cannot be listed: {os_error_reason(error, 'read')}.") from None
    if len(paths) > MOST_ENTRIES:
        raise RunError(f"{root} holds more than {MOST_ENTRIES:,} entries: it is no folder of runs.")
    runs = [run for path in paths if (run := _summary(RunDir(path)))]
    return sorted(runs, key=lambda run: (run.state == UNREADABLE, -run.changed, run.name))


def figures(run: RunDir) -> RunFigures:
    """What its files tell; what cannot be read is left out."""
    line = run.last_metrics()
    metrics = line.metrics if line else {}
    saved: tuple[int, ...] = ()
    with suppress(RunError):
        saved = tuple(checkpoint_list.steps(run))
    scores = tuple(glimpses(run.path / METRICS, SCORE, CURVE_PLACES))
    telling: tuple[tuple[str, float], ...] = ()
    if metrics and SCORE not in metrics:
        with suppress(RlhfError):  # of a package that is not here any more, say
            telling = tuple((name, metrics[name]) for name in run.config().algorithm.charts[:TOLD] if name in metrics)
    course = tuple(glimpses(run.path / METRICS, telling[0][0], CURVE_PLACES)) if telling else ()
    return RunFigures(metrics.get(SCORE), metrics.get("objective/kl"), bytes_under(run.path), saved, scores, telling,
                      course, metrics, tuple(versions_of(run)))


def parents(runs: Sequence[RunSummary]) -> dict[str, RunSummary]:
    """By the name of each fork the run it came from, where that is among `runs`, whatever it is called by now."""
    by_id, by_name = {run.id: run for run in runs if run.id}, {run.name: run for run in runs}
    found: dict[str, RunSummary] = {}
    for run in runs:
        if run.parent is None:
            continue
        named = by_name.get(run.parent.run)
        if named and run.parent.id and named.id:  # a run that took the name of one that was renamed is no parent
            named = None
        parent = by_id.get(run.parent.id) or named
        if parent and parent.name != run.name:
            found[run.name] = parent
    return found


def as_tree(runs: Sequence[RunSummary]) -> list[tuple[int, RunSummary]]:
    """The runs in their order with forks below the run they came from, each with its depth (0: nobody's fork here)."""
    came_from = parents(runs)
    children: dict[str, list[RunSummary]] = {}
    roots: list[RunSummary] = []
    for run in runs:
        parent = came_from.get(run.name)
        (children.setdefault(parent.name, []) if parent else roots).append(run)
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
        with suppress(OSError, ValueError):  # too long to be a path, or in a folder that may not be read: not a run
            if os.path.lexists(path / CONFIG):
                # "." has no name, by which a run is renamed or thrown away
                return RunDir.open(path if path.name not in ("", "..") else path.resolve())
    names = [summary.name for summary in list_runs(root)]
    there = f"there are {', '.join(names[:8])}{' …' if len(names) > 8 else ''}" if names else "there is none yet"
    raise RunError(f"There is no run {name_or_path!r}, neither under {root} nor as a path; {there}.")


def _summary(run: RunDir) -> RunSummary | None:
    """None if there is no run, or no longer: others may remove it while it is read."""
    try:
        changed = require_regular(run.path / CONFIG, MOST_WHOLE).st_mtime
        status, step, total, message = run.status(), 0, 0, ""
        if status is not None:
            state = "interrupted" if status.interrupted else status.state.value
            step, total, message = status.step, status.total_steps, status.message
            changed = (run.path / STATUS).lstat().st_mtime
        elif os.path.lexists(run.path / STATUS):
            state = "unknown"
        else:
            run.path.lstat()  # gone meanwhile, perhaps
            state = "not begun"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # a folder that starts with a dot is no run of ours (the trash), and of a loop of links there is nothing
        if run.path.name.startswith(".") or not run.path.is_dir():
            return None
        return RunSummary(run.path.name, run.path, "", UNREADABLE, 0, 0, os_error_reason(error, "read"), 0.0)
    about = read_object(run.path / ABOUT)  # once: of hundreds of runs each file counts
    return RunSummary(run.path.name, run.path, text_in(about, "preset"), state, step, total, message, changed,
                      parent_in(about), text_in(about, "id"), run.note, text_in(about, "started"))
