"""β, the weight of the KL penalty: as it is set, or as a controller moves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.maths.kl_control import adapt_kl_coef, budget_kl_coef, kl_horizon


class KLCoefficient:
    """What `[kl]` says β is, until its controller has seen a KL. value: β now, in score per nat."""

    def __init__(self, config: RunConfig) -> None:
        self.value = self._level = config.kl.coef
        self._before: float | None = None
        """KL of the step before, nats per response."""

    def reconfigure(self, before: RunConfig, after: RunConfig) -> None:
        """A live edit of kl.coef sets β; other edits leave it where the controller has brought it."""
        if after.kl.coef != before.kl.coef:
            self.value = self._level = after.kl.coef

    def adapt(self, config: RunConfig, observed: float, step: int) -> None:
        """Move β for the next step. observed: nats per response, in `step`, which is just done."""
        kl, responses, steps = config.kl, config.algorithm.learned_per_step, config.train.steps
        if kl.controller == "adaptive":
            horizon = kl_horizon(kl.horizon, responses=responses, steps=steps)
            self.value = adapt_kl_coef(self.value, observed, target=kl.target, horizon=horizon, responses=responses)
        elif kl.controller == "budget":
            self._level, self.value = budget_kl_coef(
                self._level, observed, self._before, set_to=kl.coef, target=kl.target, step=step, steps=steps)
            self._before = observed

    def numbers(self) -> dict[str, float]:
        """What a checkpoint holds of it."""
        budget = {} if self._before is None else {"kl_before": self._before, "kl_level": self._level}
        return {"kl_coef": self.value, **budget}

    def load(self, numbers: Mapping[str, Any]) -> None:
        """Take over what `numbers` gave."""
        self.value = float(numbers["kl_coef"])
        self._level = float(numbers.get("kl_level", self.value))  # earlier versions had no level beside it
        self._before = float(numbers["kl_before"]) if "kl_before" in numbers else None
