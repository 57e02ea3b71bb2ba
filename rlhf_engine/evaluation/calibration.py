"""How far a reward model's probabilities can be believed: what it says of held-out pairs beside what was preferred.
Read from the run's files alone; neither torch nor a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlhf_engine.config.methods.reward_model import CALIBRATION_BINS, CALIBRATION_ERROR, calibration_metric
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.runs.run_dir import RunDir


@dataclass(frozen=True)
class PredictedBin:
    """Held-out pairs whose favoured response is given a probability from `low` to `high`, in %; observed: the share of
    them in which it was preferred, in %."""

    low: int
    high: int
    observed: float

    @property
    def middle(self) -> float:
        """Of the bin, in %: the mean of what was predicted within it is not kept."""
        return (self.low + self.high) / 2

    @property
    def off(self) -> float:
        """By how many points the share lies above what is predicted in the bin; below 0 where it lies below."""
        return max(0.0, self.observed - self.high) + min(0.0, self.observed - self.low)


@dataclass(frozen=True)
class Calibration:
    """Of the newest step that has it. bins: those with any pair, ascending; error: the expected calibration error, in
    points, NaN where it is not told; why: the reason why there are none, which is what is needed."""

    step: int = 0
    bins: tuple[PredictedBin, ...] = ()
    error: float = math.nan
    why: str = ""

    def sentences(self) -> list[str]:
        """What it comes to, for people, a sentence a line."""
        if not self.bins:
            return [self.why]
        worst = max(self.bins, key=lambda found: abs(found.off))
        if worst.off:
            verdict = (f"where it says {worst.low} to {worst.high} %, {worst.observed:.0f} % were preferred, of "
                       f"held-out pairs at step {self.step}: it is "
                       + ("surer than it is right" if worst.off < 0 else "right more often than it says"))
        else:
            verdict = (f"of held-out pairs at step {self.step}, each share lies within what it says: its "
                       "probabilities can be believed")
        shares = [f"{found.low} to {found.high} %: {found.observed:.0f} %" for found in self.bins]
        error = [f"calibration error: {self.error:.1f} points"] if math.isfinite(self.error) else []
        return [verdict, " · ".join(shares + error)]


def calibration_of(steps: Iterable[tuple[int, Mapping[str, float]]], config: RunConfig) -> Calibration:
    """That of a reward model's steps and their metrics, in order."""
    newest = Calibration(why=_what_is_needed(config))
    for step, metrics in steps:
        shares = ((low, high, metrics.get(calibration_metric(low / 100), math.nan)) for low, high in CALIBRATION_BINS)
        bins = tuple(PredictedBin(low, high, 100 * share) for low, high, share in shares if 0 <= share <= 1)
        if bins:
            newest = Calibration(step, bins, 100 * metrics.get(CALIBRATION_ERROR, math.nan))
    return newest


def calibration_of_run(run_dir: RunDir, config: RunConfig) -> Calibration:
    """The same of a run so far, whoever drives it. config: its settings now."""
    return calibration_of(((line.step, line.metrics) for line in run_dir.each_step()), config)


def _what_is_needed(config: RunConfig) -> str:
    if not config.data.holds_out:
        return ("calibration is measured on held-out pairs, and there are none: data.held_out_share = 0.1 holds some "
                "out")
    if not config.data.evaluate_every:
        return "the held-out pairs are never looked at: data.evaluate_every above 0 does"
    return ("no step has measured calibration yet: the held-out pairs are looked at every "
            f"{config.data.evaluate_every} steps (data.evaluate_every)")
