"""What a sweep found: each run, and each combination of values over its seeds, with intervals. No torch here.

The unit of sampling is the run: an interval over seeds tells how much another seed would change, and that of one run is
not in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rlhf_engine.config.grid import label_of
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.frontier import Frontier, Standing
from rlhf_engine.evaluation.standing import frontier_of
from rlhf_engine.events import Sample
from rlhf_engine.maths.statistics import Estimate, distinct_n, mean_interval
from rlhf_engine.sweeping.cells import FINISHED, CellStatus
from rlhf_engine.words import words_of

MEASURES = ("score", "share", "kl", "distinct_1", "distinct_2", "mean_length", "seconds", "responses", "peak_memory",
            "peak_cuda")
"""What is told of each run, and of each point over its seeds. score, kl (nats per response), distinct-n and length
(tokens): of fresh responses; share: of the gain of best-of-n at its KL; seconds of training, responses (or texts, or
pairs) learned from, bytes held at the most."""


@dataclass(frozen=True)
class RunResult:
    """One run. values: by measure, those that are known; final: the metrics of its last step; standing: beside
    best-of-n, where it was held against that."""

    status: CellStatus
    values: Mapping[str, float]
    final: Mapping[str, float]
    standing: Standing | None = None


@dataclass(frozen=True)
class PointResult:
    """One combination of the axes' values, over its seeds. measured: how many runs the estimates are of, of all `runs`.
    A measure that some of those runs do not have is left out: a mean of the others would be one of the best behaved.
    """

    point: tuple[tuple[str, str], ...]
    runs: int
    measured: int
    estimates: Mapping[str, Estimate]
    final: Mapping[str, Estimate]
    model: str = ""

    @property
    def label(self) -> str:
        """Its values in words."""
        return label_of(self.point)


@dataclass(frozen=True)
class Answers:
    """What all final policies of one base model answered. model: its name. sides: by run. reference: its own answers to
    the same prompts. pool: by prompt, the scores of further ones; most: how many to a prompt there could have been."""

    model: str
    sides: Mapping[str, Sequence[Sample]]
    reference: Sequence[Sample]
    pool: Mapping[str, Sequence[float]]
    most: int


@dataclass(frozen=True)
class ModelResult:
    """A base model: what its reference does, and the curve of best-of-n with where each run stands."""

    model: str
    reference: Mapping[str, float]
    frontier: Frontier


@dataclass(frozen=True)
class SweepResult:
    """All of it, in the order of the grid."""

    runs: tuple[RunResult, ...]
    points: tuple[PointResult, ...]
    models: tuple[ModelResult, ...]


def results_of(
    statuses: Sequence[CellStatus], configs: Mapping[str, RunConfig], asked: Sequence[Answers]
) -> SweepResult:
    """The results of runs that stand so; configs: by run, its settings."""
    models: list[ModelResult] = []
    standings: dict[str, Standing] = {}
    of_run = {run: group for group in asked for run in group.sides}
    for group in asked:
        found = _frontier(group)
        standings |= {run: standing for run, standing in zip(group.sides, found.standings, strict=False) if standing}
        models.append(ModelResult(group.model, _measured(group.reference), found))
    runs = [_run_result(status, configs[status.cell.run], of_run.get(status.cell.run), standings)
            for status in statuses]
    by_point: dict[tuple[tuple[str, str], ...], list[RunResult]] = {}
    for run in runs:
        by_point.setdefault(run.status.cell.values, []).append(run)
    several = len(asked) > 1
    points = [_point(point, found, next((of_run[run.status.cell.run].model for run in found
                                         if run.status.cell.run in of_run), "") if several else "")
              for point, found in by_point.items()]
    return SweepResult(tuple(runs), tuple(points), tuple(models))


def _frontier(group: Answers) -> Frontier:
    if not group.sides:
        return Frontier((), why="no run of it could be measured")
    if any(sample.score is None for samples in group.sides.values() for sample in samples):
        return Frontier((), why="best-of-n: without scores there is no best")
    if not group.pool:
        return Frontier((), why="best-of-n: no responses of the reference were drawn")
    return frontier_of(list(group.sides.values()), list(group.sides), group.pool, group.most)


def _run_result(
    status: CellStatus, config: RunConfig, asked: Answers | None, standings: Mapping[str, Standing]
) -> RunResult:
    run = status.cell.run
    values = {"seconds": status.seconds, "responses": float(config.algorithm.learned_per_step * status.step),
              "peak_memory": float(status.peak_memory), "peak_cuda": float(status.peak_cuda)}
    if asked:
        values |= _measured(asked.sides[run])
    standing = standings.get(run)
    if standing and standing.share:
        values["share"] = standing.share.value
    known = {name: value for name in MEASURES if math.isfinite(value := values.get(name, math.nan))
             and not (name.startswith("peak_") and not value)}
    final = {name: value for name, value in status.metrics.items() if math.isfinite(value)}
    return RunResult(status, known, final, standing)


def _measured(samples: Sequence[Sample]) -> dict[str, float]:
    if not samples:
        return {}
    words = [words_of(sample.response) for sample in samples]
    found = {"distinct_1": distinct_n(words, 1), "distinct_2": distinct_n(words, 2),
             "mean_length": fmean(sample.tokens for sample in samples)}
    reads: dict[str, Callable[[Sample], float | None]] = {"score": lambda one: one.score, "kl": lambda one: one.kl}
    for name, read in reads.items():
        values = [value for value in map(read, samples) if value is not None]
        if len(values) == len(samples):
            found[name] = fmean(values)
    return found


def _point(point: tuple[tuple[str, str], ...], runs: Sequence[RunResult], model: str) -> PointResult:
    done = [run for run in runs if run.status.state == FINISHED]
    return PointResult(point, len(runs), len(done), _over_seeds([run.values for run in done]),
                       _over_seeds([run.final for run in done]), model)


def _over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    names = [name for name in (runs[0] if runs else {}) if all(name in run for run in runs)]
    return {name: mean_interval([run[name] for run in runs]) for name in names}
