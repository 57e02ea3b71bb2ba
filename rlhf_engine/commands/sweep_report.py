"""What the command `sweep` prints: a line as runs come further, and the table and picture at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from string import ascii_letters
from typing import Any

from rlhf_engine.commands.console import out, print_json, say, step_line
from rlhf_engine.errors import OutputError
from rlhf_engine.evaluation.frontier import Frontier
from rlhf_engine.events import StepFinished
from rlhf_engine.maths.statistics import Estimate
from rlhf_engine.sweeping.cells import DRIVEN, ENDED, FINISHED, STOPPED, CellStatus, seconds_left
from rlhf_engine.sweeping.drive import Drive
from rlhf_engine.sweeping.prepare import Prepared
from rlhf_engine.sweeping.results import ModelResult, PointResult, RunResult, SweepResult
from rlhf_engine.system.streams import answers
from rlhf_engine.system.units import format_bytes, format_clock

Picture = Callable[[Sequence[tuple[float, float]], Sequence[tuple[str, float, float]]], list[str]]
"""Lines that show a curve of (KL, score), and marks at (character, KL, score)."""

MARKS = ascii_letters
_TOLD_TIMES = 10  # lines of a run on its way, at the most
_WHYS = 5


class SweepReporter:
    """Tells how the runs of a sweep come along: lines for people, or with `as_json` an object each time.

    When the reader of stdout has gone, `stop` is called; `hung_up`, when that was a terminal, which stops nothing.
    """

    def __init__(
        self, drive: Drive, prepared: Prepared, as_json: bool, stop: Callable[[], object],
        hung_up: Callable[[], object],
    ) -> None:
        self._drive, self._prepared, self._as_json = drive, prepared, as_json
        self._stop, self._hung_up = stop, hung_up
        self._last: dict[str, CellStatus] = {}
        self._places: dict[str, int] = {}
        self.failed = False
        """True once the reader of stdout has gone."""

    def begin(self, notes: Sequence[str]) -> None:
        """What is about to happen."""
        plan = self._prepared.plan
        points, seeds = len(plan.grid.points()), plan.grid.seeds
        named = ", ".join(map(str, seeds[:8])) + (", …" if len(seeds) > 8 else "")
        what = f"{points} combination{'s' * (points != 1)} × " if plan.grid.axes else ""
        again = ", gone on with" if self._prepared.sweep else ""
        self.sentence(f"sweep {self._prepared.name}{again}: {len(plan.cells)} runs ({what}"
                      f"seed{'s' * (len(seeds) != 1)} {named})")
        for note in notes:
            self.sentence(note)

    def sentence(self, text: str) -> None:
        """A sentence for people."""
        if not self._as_json:
            say(text)

    def told(self, status: CellStatus) -> None:
        """Takes each change of a run."""
        before, run = self._last.get(status.cell.run), status.cell.run
        self._last[run] = status
        if before is None and status.state not in (DRIVEN, FINISHED):
            return  # there is nothing yet, or it is about to be resumed
        try:
            if self._as_json:
                print_json({"event": "run", **_status_json(status)})
            elif line := self._line(status, before):
                out(line)
        except OutputError as error:
            if answers() is None:
                return  # closed before we began: somebody wanted it so
            if error.hung_up:
                self._hung_up()
            elif error.gone:
                self.failed = True
                self._stop()

    def _line(self, status: CellStatus, before: CellStatus | None) -> str:
        run, total = status.cell.run, status.total_steps
        charts = self._prepared.configs[run].algorithm.charts
        if status.state == DRIVEN and (before is None or before.state != DRIVEN):
            how = f"resumed from step {status.step}" if status.step else "begun"
            return f"{self._name(run)}  {how if before else 'driven by another process; waiting for it'}"
        if status.state == DRIVEN:
            place = _TOLD_TIMES * status.step // total if total else 0
            if not status.metrics or place <= self._places.get(run, 0):
                return ""
            self._places[run] = place
            event = StepFinished(status.step, total, status.metrics, (), status.seconds)
            return f"{self._name(run)}  {step_line(event, self._left(), charts)}"
        if status.state == FINISHED and before is None:
            return f"{self._name(run)}  is finished already"
        ended = sum(one.state in ENDED for one in self._last.values())
        how = {FINISHED: f"finished ({status.step}/{total} steps in {format_clock(status.seconds)})",
               STOPPED: f"{status.message or 'stopped'} (step {status.step}/{total})"}.get(
                   status.state, f"{status.state}: {status.message}")
        return f"{self._name(run)}  {how}; {ended}/{len(self._prepared.plan.cells)} runs ended"

    def _left(self) -> float:
        totals = {run: config.train.steps for run, config in self._prepared.configs.items()}
        return seconds_left(list(self._drive.statuses.values()), totals, self._drive.plan.jobs)

    def _name(self, run: str) -> str:
        return run.ljust(max(len(cell.run) for cell in self._prepared.plan.cells))


# --- the end ---


def result_lines(result: SweepResult, picture: Picture | None) -> list[str]:
    """The table, the picture of each model, and why a share could not be told."""
    marks = dict(zip((point.point for point in result.points), MARKS, strict=False))
    lines = _table(result, marks)
    for model in result.models:
        lines += _pictured(result, model, marks, picture, named=len(result.models) > 1)
    untold = [run.standing.why for run in result.runs if run.standing and not run.standing.share]
    named = [f"{run.standing.label}: {run.standing.why}" for run in result.runs
             if run.standing and not run.standing.share]
    return lines + named[:_WHYS] + ([f"and {len(untold) - _WHYS} more like these"] if len(untold) > _WHYS else [])


def _table(result: SweepResult, marks: Mapping[tuple[tuple[str, str], ...], str]) -> list[str]:
    several, cuda = len(result.models) > 1, any("peak_cuda" in point.estimates for point in result.points)
    head = ["", "runs", "score", "of best-of-n's gain", "KL", "distinct-2", "seconds", "memory",
            *(["GPU memory"] if cuda else []), "responses"]
    rows = []
    for model in result.models:
        known = model.reference
        rows.append([f"   reference{f' {_model_name(model.model)}' if several else ''}", "",
                     _plain(known.get("score"), 2), "", _plain(known.get("kl"), 2),
                     _plain(known.get("distinct_2"), 2), *[""] * (len(head) - 6)])
    for point in result.points:
        rows.append([f"{marks.get(point.point, ' ')}  {point.label or 'all'}", _runs(point), *_cells(point, cuda)])
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [head, *rows]] + [_explained(result)]


def _cells(point: PointResult, cuda: bool) -> list[str]:
    found = point.estimates
    return [_shown(found.get("score"), 2), _shown(found.get("share"), 0, 100.0, " %"), _shown(found.get("kl"), 2),
            _shown(found.get("distinct_2"), 2), _shown(found.get("seconds"), 0), _bytes(found.get("peak_memory")),
            *([_bytes(found.get("peak_cuda"))] if cuda else []),
            f"{found['responses'].value:,.0f}" if "responses" in found else "-"]


def _runs(point: PointResult) -> str:
    return str(point.runs) if point.measured == point.runs else f"{point.measured} of {point.runs}"


def _explained(result: SweepResult) -> str:
    over = any(point.measured > 1 for point in result.points)
    return ("± is half of a 95 % confidence interval over seeds (Student's t)" if over
            else "one run each: no interval over seeds")


def _pictured(
    result: SweepResult, model: ModelResult, marks: Mapping[tuple[tuple[str, str], ...], str],
    picture: Picture | None, *, named: bool,
) -> list[str]:
    frontier = model.frontier
    what = f"{_model_name(model.model)}: " if named else ""
    if not frontier.curve:
        return [what + frontier.why]
    here = [point for point in result.points if not named or point.model == model.model]
    places = [(marks[point.point], point.estimates["kl"].value, point.estimates["score"].value) for point in here
              if point.point in marks and {"kl", "score"} <= point.estimates.keys()]
    drawn = picture([(at.kl, at.score) for at in frontier.curve], places) if picture else []
    legend = [f"{what}score against KL (nats per response); the curve is best-of-n of the reference, from "
              f"{frontier.source}"]
    return [*([""] if drawn else []), *drawn, *legend]


def _shown(found: Estimate | None, digits: int, scale: float = 1.0, unit: str = "") -> str:
    if found is None:
        return "-"
    reach = scale * (found.high - found.low) / 2
    return f"{scale * found.value:.{digits}f}" + (f" ± {reach:.{digits}f}" if math.isfinite(reach) else "") + unit


def _plain(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _bytes(found: Estimate | None) -> str:
    return "-" if found is None else format_bytes(int(found.value))


def _model_name(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2] or name


# --- JSON ---


def result_json(result: SweepResult) -> dict[str, Any]:
    """All of it, for programs; keys are told in the help of the command."""
    return {"runs": [_run_json(run) for run in result.runs], "points": [_point_json(point) for point in result.points],
            "models": [_model_json(model) for model in result.models]}


def _run_json(run: RunResult) -> dict[str, Any]:
    cell, told = run.status.cell, _status_json(run.status)
    del told["metrics"], told["seconds"]
    return {**told, "path": str(run.status.run.path) if run.status.run else None, "values": dict(cell.values),
            "seed": cell.seed, "measures": dict(run.values), "final": dict(run.final),
            "best_of_n": run.standing and asdict(run.standing)}


def _status_json(status: CellStatus) -> dict[str, Any]:
    return {"run": status.run.name if status.run else status.cell.run, "state": status.state, "step": status.step,
            "total_steps": status.total_steps, "message": status.message, "seconds": status.seconds,
            "metrics": dict(status.metrics)}


def _point_json(point: PointResult) -> dict[str, Any]:
    return {"values": dict(point.point), **({"model": point.model} if point.model else {}), "runs": point.runs,
            "measured": point.measured,
            "measures": {name: asdict(found) for name, found in point.estimates.items()},
            "final": {name: asdict(found) for name, found in point.final.items()}}


def _model_json(model: ModelResult) -> dict[str, Any]:
    return {"model": model.model, "reference": dict(model.reference), "best_of_n": _frontier_json(model.frontier)}


def _frontier_json(frontier: Frontier) -> dict[str, Any]:
    if frontier.why:
        return {"why": frontier.why}
    return {"responses_per_prompt": frontier.responses, "prompts": frontier.prompts,
            "curve": [asdict(point) for point in frontier.curve]}
