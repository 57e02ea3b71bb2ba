"""β, the weight of the KL penalty: as it is set, or as a controller moves it."""

from __future__ import annotations

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.maths.kl_control import adapt_kl_coef, kl_horizon


class KLCoefficient:
    """What `[kl]` says β is, until its controller has seen a KL. value: β now, in score per nat."""

    def __init__(self, config: RunConfig) -> None:
        self.value = config.kl.coef

    def reconfigure(self, before: RunConfig, after: RunConfig) -> None:
        """A live edit of kl.coef sets β; other edits leave it where the controller has brought it."""
        if after.kl.coef != before.kl.coef:
            self.value = after.kl.coef

    def adapt(self, config: RunConfig, observed: float) -> None:
        """Move β for the next step. observed: nats per response, in the step just done."""
        kl, responses = config.kl, config.algorithm.learned_per_step
        if kl.controller == "adaptive":
            horizon = kl_horizon(kl.horizon, responses=responses, steps=config.train.steps)
            self.value = adapt_kl_coef(self.value, observed, target=kl.target, horizon=horizon, responses=responses)
