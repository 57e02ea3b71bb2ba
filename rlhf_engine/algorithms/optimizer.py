"""Adam for one set of adapter weights, with the gradient clipped, and state that goes into a checkpoint."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlhf_engine.config import OptimizerConfig
from rlhf_engine.errors import NonFiniteError


class AdapterOptimizer:
    """AdamW (Loshchilov & Hutter 2019) over named parameters; the step size comes with each step."""

    def __init__(self, name: str, parameters: dict[str, nn.Parameter], settings: OptimizerConfig) -> None:
        self.name = name
        self._names, self._parameters = list(parameters), list(parameters.values())
        # fused: one kernel for all the many small matrices of an adapter
        self._adam = torch.optim.AdamW(
            self._parameters,
            lr=0.0,
            betas=(settings.adam_beta1, settings.adam_beta2),
            eps=settings.adam_eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def zero_grad(self) -> None:
        """Forget gradients."""
        self._adam.zero_grad(set_to_none=True)

    def step(self, learning_rate: float, max_norm: float) -> float:
        """Clip the gradient to `max_norm` and take a step; returns the norm before clipping.

        Raises NonFiniteError, leaving the weights as they are, if that norm is not finite.
        """
        norm = float(nn.utils.clip_grad_norm_(self._parameters, max_norm))
        if not math.isfinite(norm):
            self.zero_grad()
            raise NonFiniteError(f"the {self.name}'s gradient is not finite")
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        return norm

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts by parameter name; empty before the first step."""
        found = self._adam.state_dict()["state"]
        return {
            f"optimizer/{self.name}/{self._names[index]}/{key}": value
            for index, entry in found.items()
            for key, value in entry.items()
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        state: dict[int, dict[str, Tensor]] = {}
        for index, name in enumerate(self._names):
            prefix = f"optimizer/{self.name}/{name}/"
            entry = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if entry:
                state[index] = entry
        self._adam.load_state_dict({"state": state, "param_groups": self._adam.state_dict()["param_groups"]})


def learning_rate_factor(step: int, settings: OptimizerConfig, total_steps: int) -> float:
    """What step number `step` (from 1) multiplies the step sizes with: warm-up, then constant or linear to zero."""
    if step <= settings.warmup_steps:
        return step / settings.warmup_steps
    if settings.decay == "constant":
        return 1.0
    return max(0.0, (total_steps - step + 1) / max(1, total_steps - settings.warmup_steps))
