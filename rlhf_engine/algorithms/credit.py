"""What a method would do with responses that it has not sampled itself: its advantages and pushes, without a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.learning.update import MinibatchSource
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.rewards.composite import ScoredBatch


@dataclass(frozen=True)
class EvaluatedGroup:
    """Responses of the actor to one prompt, with what every method asks of them, under the weights that sampled them.

    scores: float64 [batch], on the CPU. log_probs, entropy, reference_log_probs: float [batch, time], nats. policy:
    those weights, for what a method asks besides, `rows_at_once` rows in one pass. numbers: what the run has counted so
    far, by the names of `Algorithm.state`, for the run's own method; empty for every other.
    """

    rollout: Rollout
    scored: ScoredBatch
    scores: Tensor
    log_probs: Tensor
    entropy: Tensor
    reference_log_probs: Tensor
    policy: Policy
    rows_at_once: int = 8
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def all_rows(self) -> Tensor:
        """int64 [batch]: one minibatch of all of them."""
        return torch.arange(len(self.rollout))


@dataclass(frozen=True)
class Credit:
    """What a method makes of a group. advantages: float [batch], or [batch, time] where each token has its own, as its
    loss takes them. pushes: see `token_pushes`. lacks: a clause about what it had to do without; empty for nothing.
    """

    advantages: Tensor
    pushes: Tensor
    lacks: str = ""


@runtime_checkable
class AssignsCredit(Protocol):
    """What the class of an `Algorithm` may bring besides, to be shown beside other methods on the same responses."""

    @classmethod
    def assign_credit(cls, config: RunConfig, group: EvaluatedGroup) -> Credit:
        """What the first optimizer step would learn from `group`, if that were a whole step's batch in one minibatch,
        under the settings of `config`, whose `kl.coef` is β as it stands. By the code of its `step`; it changes
        nothing, random numbers included. Raises NonFiniteError where there is nothing to learn from."""
        ...


def token_pushes(
    lesson: MinibatchSource, log_probs: Tensor, rows: Tensor, loss: Callable[[Any, Tensor, float], Any]
) -> Tensor:
    """−∂loss/∂log π of each token, float [batch, time]: above 0 the update makes the token likelier.

    lesson, loss: as `AdapterUpdate.step` takes them, with `rows` as the minibatch. log_probs: [batch, time], of the
    weights that sampled, at which every ratio is 1. Zero on padding and in other rows.
    """
    pushes = torch.zeros_like(log_probs)
    if not len(rows):
        return pushes
    part, count = lesson.part(rows), lesson.action_count(rows)
    rows = rows.to(log_probs.device, non_blocking=True)
    with torch.enable_grad():
        now = log_probs[rows, :part.width].detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(part, now, count).loss, now)
    pushes[rows, :part.width] = torch.where(part.response_mask, -gradient, 0.0)
    return pushes
