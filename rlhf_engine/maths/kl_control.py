"""How the coefficient of the KL penalty follows the KL that is observed. Pure functions of numbers."""

from __future__ import annotations

import math


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
