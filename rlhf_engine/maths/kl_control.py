"""How the coefficient of the KL penalty follows the KL that is observed. Pure functions of numbers."""

from __future__ import annotations

import math
from typing import NamedTuple


def adapt_kl_coef(coef: float, observed_kl: float, *, target: float, horizon: float, responses: int) -> float:
    """The next KL coefficient by proportional control (Ziegler et al. 2019, section 2.2).

    observed_kl, target: nats per response; horizon and responses: a count of responses, `responses` being those of
    the step that observed the KL. The relative error is clipped to +-0.2, then coef *= 1 + error * responses / horizon.
    Never below 0, whatever the ratio of responses to horizon; a KL that is not a number changes nothing.
    """
    if math.isnan(observed_kl):
        return coef
    error = max(-0.2, min(0.2, observed_kl / target - 1.0))
    return max(0.0, coef * (1.0 + error * responses / horizon))


def kl_horizon(chosen: float | None, *, responses: int, steps: int) -> float:
    """The horizon of `adapt_kl_coef`, in responses: the chosen one, or if that is None a twentieth of those of the
    whole run, but at least a step's. From a coefficient ten times too small or too large, that leads to the right one
    within two thirds of a run: 1.2 ** 13 and 1.04 ** 60 are both above 10.

    responses: of a step; steps: of the run.
    """
    return chosen if chosen is not None else max(float(responses), responses * steps / 20)


BUDGET_REACHED = 0.6
"""The share of a run after which the budget controller means the KL to be at its target."""
_FLOOR = 0.1  # of the target: below that a step's KL is mostly noise, and no reason to move
_AHEAD = 1.0  # steps until a change of β shows; more would make noise of one step an alarm
_BRAKE, _LET_GO = 0.5, 0.6  # of the error in log KL, what the level takes on in a step ...
_AT_ONCE = 1.0  # ... and what β answers at once, for as long as the error lasts; all found by trial on short runs
_LARGEST_FACTOR = 1e3  # the level stays within so many times what β was set to, and as little


class BudgetKLCoef(NamedTuple):
    """β, and the level that it is at when the KL is where it is meant to be."""

    level: float
    coef: float


def planned_kl(step: int, *, target: float, steps: int) -> float:
    """The KL that the budget controller means a run of `steps` to have in step `step` at least, nats per response: up
    to `target` with the cube of the steps done, then level. Cubic, because a policy moves slowly at first whatever β
    is: a plan that asks for more would only wind β down."""
    return target * min(1.0, step / max(1.0, BUDGET_REACHED * steps)) ** 3


def budget_kl_coef(
    level: float, observed_kl: float, before: float | None, *, set_to: float, target: float, step: int, steps: int
) -> BudgetKLCoef:
    """The KL coefficient for step `step` + 1, such that KL is between `planned_kl` and `target` then.

    level: as it came out of the step before, at first `set_to`, the coefficient that the run began with; it stays
    between a thousandth and a thousand times that. observed_kl: of step `step`, before: of the step before it (None
    where there was none), nats per response.

    Proportional and integral control of log β by log(KL / bound), of the KL where it is going: a policy answers to β
    with some steps' delay, so a KL that rises fast is braked before it is too high. The proportional part is gone as
    soon as the error is; without it, the level alone would go on rising for as long as the KL takes to come down, and
    lead the policy back to the reference. Between the bounds β is at its level, which stays. Unlike `adapt_kl_coef` it
    knows how long the run is. A KL that is not a number moves nothing.
    """
    if math.isnan(observed_kl):
        return BudgetKLCoef(level, level)
    rise = 0.0 if before is None or math.isnan(before) else observed_kl - before
    plan = max(planned_kl(min(steps, step + 1), target=target, steps=steps), _FLOOR * target)
    expected = max(observed_kl + _AHEAD * rise, _FLOOR * target)
    wanted = min(max(expected, plan), target)
    error = max(-0.6, min(1.2, math.log(expected / wanted)))
    pace = min(1.0, math.sqrt(18 / steps))  # a long run has time; moved slowly, β is less noisy
    level *= math.exp(pace * (_BRAKE if error > 0 else _LET_GO) * error)
    level = max(set_to / _LARGEST_FACTOR, min(set_to * _LARGEST_FACTOR, level))
    return BudgetKLCoef(level, level * math.exp(pace * _AT_ONCE * error))
