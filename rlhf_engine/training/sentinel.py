"""Watches a run's metrics for what goes wrong in RLHF, and says it in one sentence with what to try.

What goes wrong with a method are its `Condition`s: pure functions of two stretches of the history, the run's first
steps and its latest ones, both averaged over `sentinel.window` steps, so that one noisy step raises nothing. `Sentinel`
turns conditions into alarms: raised once when a condition becomes true, and again only after it has been false for a
whole window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean
from types import MappingProxyType

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import Alarm

Metrics = Mapping[str, float]
Best = Mapping[str, tuple[float, Sequence[Metrics]]]
"""By the kind of a condition that looks back (`Condition.best_of`): the highest mean of a window, and its steps."""


class Sentinel:
    """The memory between steps. Fed the metrics of all steps again, as on a resume, it comes to the same state."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._start: list[Metrics] = []
        self._recent: deque[Metrics] = deque(maxlen=window)
        self._best: dict[str, tuple[float, Sequence[Metrics]]] = {}
        self._false_for: dict[str, int] = {}
        """Kinds that were raised -> steps since their condition was last true."""

    def watch(self, step: int, metrics: Metrics, config: RunConfig) -> list[Alarm]:
        """Takes in a finished step and returns the alarms that it raises."""
        metrics = {**metrics, "step": float(step)}
        if len(self._start) < self._window:
            self._start.append(metrics)
        self._recent.append(metrics)
        self._look_for_best(config)
        if not config.sentinel.enabled:
            self._false_for.clear()
            return []
        found = conditions(self._start, list(self._recent), step, config, self._best)
        new = [Alarm(step, kind, text) for kind, text in found.items() if kind not in self._false_for]
        false_for = {kind: 0 if kind in found else count + 1 for kind, count in self._false_for.items()}
        self._false_for = {kind: count for kind, count in false_for.items() if count < self._window}
        self._false_for |= {alarm.kind: 0 for alarm in new}
        return new

    def _look_for_best(self, config: RunConfig) -> None:
        """Remember the latest steps where a condition that looks back finds them better than all before."""
        if len(self._recent) < self._window:
            return
        for condition in config.algorithm.conditions:
            if condition.best_of is not None:
                value = fmean(condition.best_of(metrics, config) for metrics in self._recent)
                # no comparison is true of NaN: steps that do not tell are not the best
                if value > self._best.get(condition.kind, (-math.inf, ()))[0]:
                    self._best[condition.kind] = (value, list(self._recent))


def conditions(
    start: Sequence[Metrics], recent: Sequence[Metrics], step: int, config: RunConfig,
    best: Best = MappingProxyType({}),
) -> dict[str, str]:
    """What is wrong after `step`, by kind, each in one sentence; nothing before a whole window of steps was seen.

    start, recent: metrics of the first and of the latest `sentinel.window` steps, oldest first. A metric that some
    steps lack (no actor updates while the critic warms up) is averaged over the others. best: for those that look back,
    the steps in which what they look for was best, with its mean there.
    """
    if len(recent) < config.sentinel.window:
        return {}
    # the start can be compared with once the two stretches no longer overlap
    apart = step >= 2 * config.sentinel.window
    asked = [condition for condition in config.algorithm.conditions if apart or not condition.from_start]
    looked_back_at = {condition.kind: rows for condition in asked
                      if (rows := best.get(condition.kind, (0.0, ()))[1] if condition.best_of else start)}
    found = {condition.kind: condition.find(looked_back_at[condition.kind], recent, step, config)
             for condition in asked if condition.kind in looked_back_at}
    return {kind: text for kind, text in found.items() if text is not None}
