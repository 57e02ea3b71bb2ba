"""Adam for one set of adapter weights, with the gradient clipped, and state that goes into a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rlhf_engine.config.sections import OptimizerConfig
from rlhf_engine.errors import CheckpointError, NonFiniteError
from rlhf_engine.runs.base_model import require_fit

_STEPS = torch.zeros(())  # what Adam counts its steps of a weight in


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
        norm = float(self.clip(max_norm))
        self.apply(learning_rate, norm)
        return norm

    def clip(self, max_norm: float) -> Tensor:
        """The norm of the gradient, a scalar where the weights are, and the gradient clipped to `max_norm`."""
        norm: Tensor = nn.utils.clip_grad_norm_(self._parameters, max_norm)
        return norm

    def apply(self, learning_rate: float, norm: float) -> None:
        """A step down the gradient, whose norm before clipping was `norm`. Raises as `step` does."""
        if not math.isfinite(norm):
            self.zero_grad()
            raise NonFiniteError(f"the {self.name}'s gradient is not finite")
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()

    def state(self) -> dict[str, Tensor]:
        """Adam's moments and step counts by parameter name; empty before the first step."""
        found = self._adam.state_dict()["state"]
        return {
            f"optimizer/{self.name}/{self._names[index]}/{key}": value
            for index, entry in found.items()
            for key, value in entry.items()
        }

    def moments(self) -> int:
        """How many of the weights have taken a step."""
        return len(self._adam.state)

    def require_fit(self, tensors: Mapping[str, Tensor], moments: int | None) -> None:
        """Raises CheckpointError unless `tensors` are what `state` gives of these weights, or of those of them that had
        taken a step by then: so many as `moments` says, if that is known."""
        saved = {name: tensor for name, tensor in tensors.items() if name.startswith(f"optimizer/{self.name}/")}
        wanted: dict[str, Tensor] = {}
        count = 0
        for name, parameter in zip(self._names, self._parameters, strict=True):
            prefix = f"optimizer/{self.name}/{name}"
            entry = {f"{prefix}/step": _STEPS, f"{prefix}/exp_avg": parameter, f"{prefix}/exp_avg_sq": parameter}
            if not entry.keys().isdisjoint(saved):
                count += 1
                wanted |= entry
        require_fit(saved, wanted, f"moments of the checkpoint do not fit the {self.name}'s optimizer")
        if moments is not None and moments != count:
            raise CheckpointError(f"the {self.name}'s optimizer had moments of {moments} weights, of which {count} are "
                                  "there")

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave, which `require_fit` has accepted."""
        state: dict[int, dict[str, Tensor]] = {}
        for index, name in enumerate(self._names):
            prefix = f"optimizer/{self.name}/{name}/"
            entry = {key: tensors[prefix + key] for key in ("step", "exp_avg", "exp_avg_sq") if prefix + key in tensors}
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


def learning_rate_at(step: int, settings: OptimizerConfig, total_steps: int) -> float:
    """The learning rate of step number `step` (from 1), warm-up and decay included."""
    return settings.learning_rate * learning_rate_factor(step, settings, total_steps)
