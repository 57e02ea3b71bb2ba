"""How the charts look at a run: which steps, along which axis, how smooth; and what those axes are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from rlhf_engine.config.kinds import DEFAULT, algorithm_kind
from rlhf_tui.engine.metrics_history import MetricsHistory

Axis = Literal["step", "responses", "time"]
AXES: tuple[Axis, ...] = get_args(Axis)
Smoothing = float | Literal["auto"]
SMOOTHINGS: tuple[Smoothing, ...] = ("auto", 0.0, 0.6, 0.9, 0.97)
"""How a curve can be smoothed: by how many steps are seen, not at all, or with a weight of the past that is given."""
_FIRST, _SECOND, _THIRD, _FOURTH = algorithm_kind(DEFAULT).charts
DEFAULT_METRICS = (_FIRST, _SECOND, _THIRD, _FOURTH)
"""What the four charts show before there is a run, whose method then says what they show until somebody chooses."""
LEAST_STEPS = 10
RAW_STEPS = 50
"""So many steps are drawn as they are: a moving average of them tells more of where the run began than where it is."""
_WINDOW_SHARE = 25  # of more steps, the average reaches over this part of them


@dataclass(frozen=True)
class Lens:
    """How all charts look at their series. `span` steps are seen, all when None; `back` steps before the newest."""

    smoothing: Smoothing = "auto"
    span: int | None = None
    back: int = 0
    axis: Axis = "step"

    def steps(self, first: int, last: int) -> tuple[int, int]:
        """The steps to draw of a run that has `first` to `last`."""
        if self.span is None:
            return first, max(last, first + LEAST_STEPS)
        end = max(last - self.back, first + self.span)
        return max(first, end - self.span), end

    def smoothed_next(self) -> Lens:
        """With the next smoothing."""
        return replace(self, smoothing=SMOOTHINGS[(SMOOTHINGS.index(self.smoothing) + 1) % len(SMOOTHINGS)])

    def decay(self, steps: int) -> float:
        """The weight of the past in a moving average, where so many steps are seen; 0 is no smoothing.

        By itself, the window grows from one step, at RAW_STEPS, with the number of steps: what the average lags behind
        stays a few columns of the chart, however long the run.
        """
        if self.smoothing != "auto":
            return self.smoothing
        return 1 - 1 / (1 + max(0, steps - RAW_STEPS) / _WINDOW_SHARE)

    def along_next(self) -> Lens:
        """Along the next axis."""
        return replace(self, axis=AXES[(AXES.index(self.axis) + 1) % len(AXES)])

    def zoomed(self, factor: float, total: int) -> Lens:
        """Seeing `factor` times as many of `total` steps."""
        span = max(LEAST_STEPS, round((self.span or total) * factor))
        return replace(self, span=None, back=0) if span >= total else replace(self, span=span)

    def panned(self, direction: int, total: int) -> Lens:
        """Half a screen of steps earlier (-1) or later (1)."""
        if self.span is None:
            return self
        back = self.back - direction * max(1, self.span // 2)
        return replace(self, back=max(0, min(back, total - self.span)))

    def words(self, decay: float) -> list[str]:
        """What can be said of it, a few words each; decay: what the smoothing comes to."""
        back = f", {self.back} back" if self.back else ""
        along = {"step": "", "responses": " by responses", "time": " by wall time"}[self.axis]
        auto = " (auto)" if self.smoothing == "auto" else ""
        return [f"· raw  ⠒ ema {decay:.{2 if decay < 0.99 else 4}g}{auto}" if decay else f"⠒ raw{auto}",
                ("all steps" if self.span is None else f"{self.span} steps{back}") + along]


def settling(decay: float) -> int:
    """Buckets after which a smoothed line no longer shows where it began (to 0.1 %)."""
    return round(7 / (1 - decay)) if decay else 0


def place(axis: Axis, step: float, seconds: float, responses_per_step: int) -> float:
    """Where a step that ended at `seconds` lies along `axis`."""
    return step if axis == "step" else step * responses_per_step if axis == "responses" else seconds


def place_of(history: MetricsHistory, axis: Axis, step: float, responses_per_step: int) -> float:
    """Where `step` of a run lies along `axis`."""
    return place(axis, step, history.seconds_at(step) if axis == "time" else 0.0, responses_per_step)


def step_at(history: MetricsHistory, axis: Axis, x: float, responses_per_step: int) -> int | None:
    """The step of a run that lies at `x`, or the nearest there is; None of an empty history."""
    bounds = history.bounds
    if bounds is None:
        return None
    step = history.step_at(x) if axis == "time" else x / responses_per_step if axis == "responses" else x
    return None if step is None else max(bounds[0], min(bounds[1], round(step)))
