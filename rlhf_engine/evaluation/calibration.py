"""How far a reward model's probabilities can be believed: what it says of held-out pairs beside what was preferred.
Read from the run's files alone; neither torch nor a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlhf_engine.config.methods.reward_model import (
    CALIBRATION_BINS,
    CALIBRATION_ERROR,
    calibration_metric,
    calibration_pairs_metric,
)
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.maths.statistics import wilson_interval
from rlhf_engine.runs.run_dir import RunDir


@dataclass(frozen=True)
class PredictedBin:
    """Held-out pairs whose favoured response is given a probability from `low` to `high`, in %; observed: the share of
    them in which it was preferred, in %; pairs: how many they are, None in runs that did not write it down."""

    low: int
    high: int
    observed: float
    pairs: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of `observed`, 95 % by Wilson (1927), in %; None where nobody knows of how many pairs it is."""
        if not self.pairs:
            return None
        found = wilson_interval(self.observed / 100 * self.pairs, self.pairs)
        return 100 * found.low, 100 * found.high

    @property
    def may_be_chance(self) -> bool:
        """Whether the interval reaches into the bin."""
        interval = self.interval
        return interval is not None and interval[0] <= self.high and interval[1] >= self.low

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
        worst = max(self.bins, key=lambda found: (not found.may_be_chance, abs(found.off)))
        if worst.off:
            why = "it is surer than it is right" if worst.off < 0 else "it is right more often than it says"
            verdict = (f"where it says {worst.low} to {worst.high} %, {worst.observed:.0f} % were preferred, of "
                       f"held-out pairs at step {self.step}: "
                       + ("that may be chance, of so few pairs" if worst.may_be_chance else why))
        else:
            verdict = (f"of held-out pairs at step {self.step}, each share lies within what it says: its "
                       "probabilities can be believed")
        shares = [_share(found) for found in self.bins]
        error = [f"calibration error: {self.error:.1f} points"] if math.isfinite(self.error) else []
        return [verdict, " · ".join(shares + error)]


def _share(found: PredictedBin) -> str:
    told = f"{found.low} to {found.high} %: {found.observed:.0f} %"
    if (interval := found.interval) is None:
        return told
    return f"{told} ({interval[0]:.0f} to {interval[1]:.0f}, n {found.pairs})"


def calibration_of(steps: Iterable[tuple[int, Mapping[str, float]]], config: RunConfig) -> Calibration:
    """That of a reward model's steps and their metrics, in order."""
    newest = Calibration(why=_what_is_needed(config))
    for step, metrics in steps:
        shares = ((low, high, metrics.get(calibration_metric(low / 100), math.nan)) for low, high in CALIBRATION_BINS)
        bins = tuple(PredictedBin(low, high, 100 * share, _pairs(metrics.get(calibration_pairs_metric(low / 100))))
                     for low, high, share in shares if 0 <= share <= 1)
        if bins:
            newest = Calibration(step, bins, 100 * metrics.get(CALIBRATION_ERROR, math.nan))
    return newest


def calibration_of_run(run_dir: RunDir, config: RunConfig) -> Calibration:
    """The same of a run so far, whoever drives it. config: its settings now."""
    return calibration_of(((line.step, line.metrics) for line in run_dir.each_step()), config)


def _pairs(found: float | None) -> int | None:
    return round(found) if found is not None and 1 <= found < 1e12 else None


def _what_is_needed(config: RunConfig) -> str:
    if not config.data.holds_out:
        return ("calibration is measured on held-out pairs, and there are none: data.held_out_share = 0.1 holds some "
                "out")
    if not config.data.evaluate_every:
        return "the held-out pairs are never looked at: data.evaluate_every above 0 does"
    return ("no step has measured calibration yet: the held-out pairs are looked at every "
            f"{config.data.evaluate_every} steps (data.evaluate_every)")
