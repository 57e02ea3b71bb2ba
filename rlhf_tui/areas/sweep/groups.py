"""Sweeps as the list of runs shows them: how far each is, and which runs are its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.content import Content

from rlhf_engine.config.grid import label_of
from rlhf_engine.errors import RlhfError
from rlhf_engine.runs.run_list import RunSummary
from rlhf_engine.runs.sweep_dir import Plan, SweepDir, list_sweeps
from rlhf_tui.terminal.clean_text import clean_line

_TOLD = 60  # combinations of values


@dataclass(frozen=True)
class SweepGroup:
    """One sweep. runs: of its own, by path, in the order of the grid, as far as they have begun, each with its values
    in words; total: how many it will have; points: what they came to, by combination of values, if it was measured."""

    path: Path
    name: str
    preset: str
    driven: bool
    total: int
    runs: Mapping[Path, str]
    points: tuple[tuple[str, str], ...] = ()
    started: str = ""

    def head(self, members: Sequence[RunSummary]) -> RunSummary:
        """The sweep as a line of the list: its step is how many runs have finished."""
        finished = sum(run.state == "finished" for run in members)
        state = "training" if self.driven else "finished" if finished == self.total else "stopped"
        return RunSummary(self.name, self.path, self.preset, state, finished, self.total, self._message(members),
                          max((run.changed for run in members), default=0.0), started=self.started)

    def _message(self, members: Sequence[RunSummary]) -> str:
        counts: dict[str, int] = {}
        for run in members:
            counts[run.state] = counts.get(run.state, 0) + 1
        counts["waiting"] = self.total - len(members)
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        steps, total = sum(run.step for run in members), max((run.total_steps for run in members), default=0)
        share = f"; {100 * steps / (total * self.total):.0f} % of all steps" if total else ""
        measuring = "; measuring" if self.driven and counts.get("finished") == self.total else ""
        return f"{self.total} runs: {told}{share}{measuring}"


def read_groups(root: Path, runs: Sequence[RunSummary]) -> list[SweepGroup]:
    """The sweeps among the runs under `root`: not for the screen's thread. Texts are clean."""
    by_id, by_path = {run.id: run.path for run in runs if run.id}, {run.path: run for run in runs}
    return [_group(sweep, plan, root, by_id, by_path) for sweep, plan in list_sweeps(root)]


def details(group: SweepGroup, members: Sequence[RunSummary]) -> Content:
    """What is known of a sweep, on one page."""
    head = group.head(members)
    lines = [Content.assemble((group.name, "bold"), ("  a sweep", "$text-muted")),
             Content.styled(head.message, "$text-muted")]
    for label, told in group.points[:_TOLD]:
        lines += [Content(""), Content.styled(label, "bold"), Content(told)]
    return Content("\n").join(lines)


# ---------------------------------------------------------------------------------------------------------------------


def _group(
    sweep: SweepDir, plan: Plan, root: Path, by_id: Mapping[str, Path], by_path: Mapping[Path, RunSummary]
) -> SweepGroup:
    runs: dict[Path, str] = {}
    for cell in plan.cells:
        known = plan.ids.get(cell.run, "")
        path = by_id.get(known) if known else root / cell.run
        if path in by_path:
            assert path is not None
            runs[path] = clean_line(f"{cell.label}, seed {cell.seed}".removeprefix(", "))
    driven = sweep.driven.driver() is not None
    return SweepGroup(sweep.path, clean_line(sweep.name), clean_line(Path(plan.preset).stem), driven,
                      len(plan.cells), runs, _points(sweep), plan.started)


def _points(sweep: SweepDir) -> tuple[tuple[str, str], ...]:
    found = []
    try:
        for point in sweep.result().get("points", ()):
            label = label_of((str(path), str(value)) for path, value in point["values"].items())
            measures = point["measures"]
            told = [("score", "score", 1.0, 2, ""), ("KL", "kl", 1.0, 2, ""),
                    ("of best-of-n's gain", "share", 100.0, 0, " %")]
            parts = [f"{name} {_shown(measures[key], scale, digits)}{unit}" for name, key, scale, digits, unit in told
                     if key in measures]
            found.append((clean_line(label or "all"), clean_line(" · ".join(parts))))
    except (RlhfError, AttributeError, KeyError, TypeError, ValueError):  # of a later version, or no file of ours
        return ()
    return tuple(found)


def _shown(estimate: Mapping[str, Any], scale: float, digits: int) -> str:
    low, high = estimate["low"], estimate["high"]
    reach = "" if low is None or high is None else f" ± {scale * (high - low) / 2:.{digits}f}"
    return f"{scale * estimate['value']:.{digits}f}{reach}"
