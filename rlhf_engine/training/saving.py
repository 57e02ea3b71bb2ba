"""Saves a run between steps: once for each state, with how good its weights are, never with weights that broke."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rlhf_engine.algorithms.base import Algorithm
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.events import CheckpointSaved, Event
from rlhf_engine.maths.finite import all_finite
from rlhf_engine.metrics import STEPS_AVERAGED, describe
from rlhf_engine.models.policy import Policy
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.checkpoint import Quality, TrainingState
from rlhf_engine.runs.run_dir import RunDir

_RARE = "eval/"
"""How the names begin of metrics that are not measured in each step."""


@dataclass
class RunProgress:
    """How far a run has come, besides its step: live edits so far, seconds of training, roll-backs, the steps
    in a row, up to now, that could not be learnt from, and the CPU threads it computes with (0: none chosen yet)."""

    edits: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    nonfinite_steps: int = 0
    threads: int = 0

    @classmethod
    def of(cls, state: TrainingState) -> RunProgress:
        """The progress in a checkpoint."""
        return cls(**{name: state.numbers[name] for name in asdict(cls()) if name in state.numbers})


def kept_best(config: RunConfig) -> tuple[str, ...]:
    """The metrics of which the best checkpoint is kept: the first of them that was measured. None: no best is kept."""
    method, chosen = config.algorithm, config.train.keep_best
    metrics = (method.best_metric_of(config), method.best_metric) if chosen == "auto" else (chosen,)
    return tuple(metric for metric in metrics if metric is not None)


class Saver:
    """The checkpoints of one run, as its trainer makes them. Without a run directory it does nothing."""

    def __init__(self, run_dir: RunDir | None, emit: Callable[[Event], None]) -> None:
        self._run_dir, self._emit = run_dir, emit
        self._recent: deque[Mapping[str, float]] = deque(maxlen=STEPS_AVERAGED)
        self._held_out: dict[str, float] = {}
        self._saved: tuple[int, RunProgress] | None = None
        self._given_up: Collection[Path] = ()

    def restore(
        self, step: int, progress: RunProgress, history: Iterable[Mapping[str, float]], given_up: Collection[Path] = ()
    ) -> None:
        """Go on from a checkpoint of `step`; history: the metrics of all steps up to it; given_up: newer checkpoints,
        which are damaged. They go once there is a new one."""
        self._given_up = given_up
        self._saved = (step, self._course(progress))
        self._recent, self._held_out = deque(maxlen=STEPS_AVERAGED), {}
        for metrics in history:
            self.record_metrics(metrics)

    def record_metrics(self, metrics: Mapping[str, float]) -> None:
        """Takes in the metrics of a step, by which checkpoints are told apart."""
        self._recent.append(metrics)
        self._held_out |= {name: value for name, value in metrics.items() if name.startswith(_RARE)}

    def save(
        self, step: int, progress: RunProgress, algorithm: Algorithm | None, policy: Policy | None, config: RunConfig,
        *, asked: bool = False,
    ) -> None:
        """A checkpoint, unless the newest one holds all there is; `asked` is answered in any case.

        Raises NonFiniteError, saving nothing, when the weights or what they compute are not finite, and RunError when
        the disk refuses.
        """
        if self._run_dir is None or algorithm is None or policy is None:
            return
        now = (step, self._course(progress))
        if self._saved == now:
            if asked:
                newest = checkpoint.candidates(self._run_dir)[0]
                self._emit(CheckpointSaved(step, str(newest)))
            return
        held = algorithm.state()
        tensors, numbers = held.tensors, held.numbers
        if not all_finite(tensors.values()):
            raise NonFiniteError("the weights are not finite, and were not saved")
        if not algorithm.computes():
            # finite weights can be so large that no number comes out: a run could go back to them, but not on from them
            raise NonFiniteError("the weights no longer give finite numbers, and were not saved")
        quality = self._quality(kept_best(config))
        state = TrainingState(step, tensors, numbers | asdict(progress), config, quality, policy.fingerprint)
        path = checkpoint.save(self._run_dir, state, keep=config.train.keep_checkpoints,
                               budget=config.train.checkpoint_budget_mb * 10**6, given_up=self._given_up)
        self._saved, self._given_up = now, ()
        self._emit(CheckpointSaved(step, str(path)))

    def _quality(self, metrics: tuple[str, ...]) -> Quality | None:
        """The first of `metrics` that is known: over the last steps, or where these did not measure it, as it was last
        measured. None when no step knew any."""
        for metric in metrics:
            if values := _finite(self._recent, metric) or _finite([self._held_out], metric):
                return Quality(metric, fmean(values), describe(metric).better == "up")
        return None

    @staticmethod
    def _course(progress: RunProgress) -> RunProgress:
        """The progress that make another state of the same step; time alone does not."""
        return RunProgress(progress.edits, 0.0, progress.rollbacks, progress.nonfinite_steps)


def _finite(steps: Iterable[Mapping[str, float]], metric: str) -> list[float]:
    return [metrics[metric] for metrics in steps if math.isfinite(metrics.get(metric, math.nan))]
