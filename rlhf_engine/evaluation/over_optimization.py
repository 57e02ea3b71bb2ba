"""How far a run should have gone: its score, and what that is held against, over √KL, with the fits of Gao et al.
(2022) and the step to go back to. Read from the run's files alone; neither torch nor a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rlhf_engine.config.gold import LENGTH, SCORE, Judge, judge_of
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError, first_line
from rlhf_engine.maths.over_optimization import Fit, Form, fit_gold
from rlhf_engine.maths.statistics import Estimate
from rlhf_engine.runs.checkpoint_list import steps as checkpoint_steps
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import settings_now

ALARM = "over-optimization"
"""The kind of the alarm that is raised while a run trains."""
_FAR = 2.0  # times √KL reached: where the peak of a fit lies beyond that, nobody knows
_MOST_POINTS = 2000
"""Of a longer run, steps that follow one another are averaged."""


@dataclass(frozen=True)
class JudgedStep:
    """A step, or best-of-n for an n: what the policy scored there. kl: nats per response, never below 0; proxy: the
    score that is learnt from, or chosen by; judge: what that is held against."""

    step: int
    kl: float
    proxy: float
    judge: float

    @property
    def distance(self) -> float:
        """d of the paper: √KL."""
        return math.sqrt(self.kl)


@dataclass(frozen=True)
class Stop:
    """Where to stop: the peak of what the judge's fit says. step: the first that came so far; distance: √KL with its
    interval, kl: nats; lost: how much the fit has fallen since then; checkpoint: the step of the nearest one, if any is
    kept."""

    step: int
    distance: Estimate
    lost: float
    checkpoint: int | None = None

    @property
    def kl(self) -> float:
        """Nats per response."""
        return self.distance.value**2


@dataclass(frozen=True)
class OverOptimization:
    """What a run's steps (or the n of best-of-n) say. judge: what the score is held against. proxy_fit, judge_fit: None
    where they cannot be made; why: the reason, or why there is nowhere to stop. length_corr: of score and length of a
    response, over the last steps; None where it is not told. alarm: the run's newest of over-optimization, which goes
    by the order of steps and not by their KL, so that it may see what a fit does not; "" without one."""

    form: Form
    judge: Judge
    points: tuple[JudgedStep, ...]
    proxy_fit: Fit | None = None
    judge_fit: Fit | None = None
    stop: Stop | None = None
    why: str = ""
    length_corr: float | None = None
    alarm: str = ""

    def sentences(self) -> list[str]:
        """What it comes to, for people, a sentence a line."""
        told = [self._about_stop(self.stop)] if self.stop else [self.why] if self.why else []
        if self.alarm:
            told.append(self.alarm)
        if self.length_corr is not None:
            told.append(f"score against length: a correlation of {self.length_corr:.2f} in the last steps")
        return told

    def _about_stop(self, stop: Stop) -> str:
        where = f"best-of-{stop.step}" if self.form == "best_of_n" else f"step {stop.step}"
        if stop.checkpoint is not None:
            where += f" (checkpoint {stop.checkpoint} is the nearest)"
        low, high = stop.distance.low**2, stop.distance.high**2
        interval = f"95 % CI {low:.2f} to {high:.2f}" if math.isfinite(high) else f"95 % CI from {low:.2f} on"
        return (f"the {self.judge.title} was highest at a KL of {stop.kl:.2f} nats ({interval}) and has fallen by "
                f"{stop.lost:.2f} since: go back to {where}")


def of_run(run_dir: RunDir) -> OverOptimization:
    """What the steps of a run so far say, whoever drives it. Raises RunError and ConfigError for a run that cannot be
    read."""
    config = settings_now(run_dir)
    found = of_steps(((line.step, line.metrics) for line in run_dir.each_step()), config)
    raised = [f"alarm at step {alarm.step}: {alarm.text}" for alarm in run_dir.alarms() if alarm.kind == ALARM]
    found = replace(found, alarm=raised[-1] if raised else "")
    try:
        kept = checkpoint_steps(run_dir)
    except CheckpointError:
        kept = []
    if found.stop is None or not kept:
        return found
    stop = found.stop
    nearest = min(kept, key=lambda step: (abs(step - stop.step), step))
    return replace(found, stop=replace(stop, checkpoint=nearest))


def of_steps(steps: Iterable[tuple[int, Mapping[str, float]]], config: RunConfig) -> OverOptimization:
    """The same of steps and their metrics, in order."""
    judge, read, related = judge_of(config.rewards, config.sentinel.gold), list[JudgedStep](), list[float]()
    seen = 0
    for step, metrics in steps:
        seen += 1
        kl, proxy = metrics.get("objective/kl", math.nan), metrics.get(SCORE, math.nan)
        point = JudgedStep(step, max(0.0, kl), proxy, judge.value(metrics))
        if all(map(math.isfinite, (kl, point.proxy, point.judge))):
            read.append(point)
        related = [*related, metrics.get(LENGTH, math.nan)][-config.sentinel.window:]
    told = [value for value in related if math.isfinite(value)]
    corr = fmean(told) if told else None
    if not read:
        return OverOptimization("rl", judge, (), why=_why_nothing(seen, judge, config), length_corr=corr)
    return replace(fitted("rl", judge, thinned(read, _MOST_POINTS), window=config.sentinel.window), length_corr=corr)


def fitted(form: Form, judge: Judge, points: Sequence[JudgedStep], window: int = 1) -> OverOptimization:
    """Both fits over the points, in their order, and where to stop. window: how many around each are averaged to say
    when the peak was reached, for the KL of one step is noisy."""
    found = OverOptimization(form, judge, tuple(points))
    distances = [point.distance for point in points]
    try:
        proxy = fit_gold(form, distances, [point.proxy for point in points])
        gold = fit_gold(form, distances, [point.judge for point in points])
    except ValueError as error:
        return replace(found, why=f"no fit: {first_line(error)}")
    found = replace(found, proxy_fit=proxy, judge_fit=gold)
    half = window // 2
    reached = [math.sqrt(fmean(point.kl for point in points[max(0, place - half):place + half + 1]))
               for place in range(len(points))]
    farthest = max(reached)
    if gold.peak is None or gold.peak.value >= farthest:
        near = gold.peak is not None and gold.peak.value <= _FAR * farthest
        beyond = f" (it is highest at {gold.peak.value**2:.1f})" if gold.peak and near else ""
        last = gold.at(farthest) - gold.at(0.0)
        if gold.peak is None and last <= 0:
            why = (f"the fit of the {judge.title} has no highest point and does not end above its start: there is "
                   "no step to go back to")
            return replace(found, why=why)
        why = (f"the fit of the {judge.title} still rises at a KL of {farthest**2:.2f} nats{beyond}: by that there is "
               "nothing to go back from")
        return replace(found, why=why)
    place = next(place for place, distance in enumerate(reached) if distance >= gold.peak.value)
    lost = max(0.0, gold.at(gold.peak.value) - gold.at(reached[-1]))
    return replace(found, stop=Stop(points[place].step, gold.peak, lost))


def thinned(points: Sequence[JudgedStep], most: int) -> list[JudgedStep]:
    """No more than `most` points: means of neighbours, each at the middle step."""
    size = math.ceil(len(points) / most)
    blocks = [points[first:first + size] for first in range(0, len(points), size)]
    return [JudgedStep(block[len(block) // 2].step, *(fmean(getattr(point, name) for point in block)
                                                      for name in ("kl", "proxy", "judge"))) for block in blocks]


# ---------------------------------------------------------------------------------------------------------------------


def _why_nothing(seen: int, judge: Judge, config: RunConfig) -> str:
    """Why no step of a run tells what is asked."""
    if not config.algorithm.needs.answers or not config.rewards:
        return "what is learnt is no score of responses, so that nothing can be over-optimized"
    if not seen:
        return "no step has been taken yet"
    if config.kl.coef == 0 and config.algorithm.uses("kl."):
        return "the KL is not known: with kl.coef = 0 nobody asks the reference; any above 0 measures it"
    if judge.name:
        return f"no step so far has a KL, a score and a {judge.title}"
    return ("there is nothing to hold the score against: give a reward weight = 0, which is then gold, or score by an "
            "ensemble of reward models")
