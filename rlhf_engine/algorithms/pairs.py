"""What methods that learn from pairs do alike: log-probs of both responses, their loss, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_engine.config.methods.preferences import PAIR_METRIC_NAMES, PUSH_UNIT, PreferenceSettings
from rlhf_engine.learning.optimizer import AdapterOptimizer
from rlhf_engine.learning.update import AdapterUpdate
from rlhf_engine.maths.estimators import summed
from rlhf_engine.maths.preferences import PreferenceLoss, pair_pushes, preference_loss
from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout


@dataclass(frozen=True)
class PairPart:
    """Some pairs, ready for a forward pass. ids, mask, response_mask: [2 * pairs, time], all chosen responses and then
    all rejected ones; reference_log_probs: [2 * pairs, width]; rows: which responses of the rollout these are, on its
    device; same: bool [pairs], whether both responses are the same tokens."""

    ids: Tensor
    mask: Tensor
    response_mask: Tensor
    reference_log_probs: Tensor
    rows: Tensor
    same: Tensor

    @property
    def width(self) -> int:
        """Response columns."""
        return self.response_mask.shape[1]


@dataclass(frozen=True)
class PairLesson:
    """Pairs to learn from: of each, the rows of `rollout` that hold its chosen and its rejected response, int64
    [pairs], on the CPU. reference_log_probs: [responses, time], nats. said: [responses, time], what the actor said of
    them in the latest update, filled while it is taken."""

    rollout: Rollout
    chosen: Tensor
    rejected: Tensor
    reference_log_probs: Tensor
    said: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "said", torch.zeros_like(self.reference_log_probs))

    def __len__(self) -> int:
        return len(self.chosen)

    def action_count(self, rows: Tensor) -> float:
        """Pairs: what the loss of a minibatch is divided by."""
        return float(len(rows))

    def part(self, rows: Tensor) -> PairPart:
        """These pairs, without columns that are padding in all of them."""
        responses = torch.cat([self.chosen[rows], self.rejected[rows]])
        ids, mask, response_mask = self.rollout.batch(responses)
        width = response_mask.shape[1]
        written = torch.where(response_mask, ids[:, -width:], -1)
        one, other = written.chunk(2)
        there = self.rollout.on_device(responses)
        return PairPart(ids, mask, response_mask, self.reference_log_probs[there, :width], there,
                        (one == other).all(dim=1))


class PairTrace(NamedTuple):
    """What "see why" shows of the responses to pairs.

    per_response: [responses] each: `chosen`, whether it was (1), was rejected (−1) or is in no pair (0); its implicit
    reward; the margin of its pair. per_token: [responses, time]: `push`, −∂loss/∂log π(token) of its pair's own loss,
    times `PUSH_UNIT`: above 0 the update makes the token likelier.
    """

    per_response: dict[str, Tensor]
    per_token: dict[str, Tensor]


class PairLearning:
    """The update of an actor by pairs, under settings that may change between steps. temperature: of the distribution
    whose log-probs count."""

    def __init__(
        self, policy: Policy, optimizer: AdapterOptimizer, limit: MicroBatchLimit,
        settings: Callable[[], PreferenceSettings], temperature: Callable[[], float],
    ) -> None:
        self.policy, self._settings, self._temperature = policy, settings, temperature
        self._update = AdapterUpdate(optimizer, limit, self.log_probs, self.loss, PAIR_METRIC_NAMES, each=2)

    def step(self, rows: Tensor, lesson: PairLesson, learning_rate: float, max_norm: float) -> dict[str, float]:
        """One optimizer step from these pairs; returns the metrics of it. Raises NonFiniteError, with the weights as
        they were, when the gradient is not finite."""

        def forward(part: PairPart) -> Tensor:
            log_probs = self.log_probs(part)
            lesson.said[part.rows, :part.width] = log_probs.detach()
            return log_probs

        return self._update._replace(forward=forward).step(rows, lesson, learning_rate, max_norm)

    def log_probs(self, part: PairPart) -> Tensor:
        """The actor's log-probs of the tokens of both responses, [2 * pairs, width], with gradient; but a pair of equal
        responses has exactly none, for what rounding leaves of it Adam would take for a direction."""
        log_probs = self.policy.log_probs("actor", part.ids, part.mask, part.width, self._temperature()).log_probs
        return torch.where(part.same.repeat(2).unsqueeze(1), log_probs.detach(), log_probs)

    def loss(self, part: PairPart, log_probs: Tensor, normalizer: float) -> PreferenceLoss:
        """Of these pairs, as their share of a minibatch of `normalizer` pairs."""
        settings, mask = self._settings(), part.response_mask
        sides = [summed(values, mask).chunk(2) for values in (log_probs, part.reference_log_probs)]
        (chosen, rejected), (reference_chosen, reference_rejected) = sides
        better, worse = mask.sum(dim=1).chunk(2)
        return preference_loss(
            chosen, rejected, reference_chosen, reference_rejected, kind=settings.loss, beta=settings.beta,
            label_smoothing=settings.label_smoothing, lengths=(better, worse) if settings.average_log_probs else None,
            normalizer=normalizer)

    def told(self, lesson: PairLesson, log_probs: Tensor) -> PairTrace:
        """What "see why" shows of each response and each of its tokens. log_probs: [responses, time], under which that
        is."""
        settings, mask = self._settings(), lesson.rollout.response_mask
        chosen, rejected = lesson.rollout.on_device(lesson.chosen), lesson.rollout.on_device(lesson.rejected)
        tokens = mask.sum(dim=1).clamp_min(1) if settings.average_log_probs else log_probs.new_ones(len(mask))
        log_ratios = summed(log_probs - lesson.reference_log_probs, mask) / tokens
        gap = log_ratios[chosen] - log_ratios[rejected]
        side, margins, slopes = (torch.zeros_like(log_ratios) for _ in range(3))
        side[chosen], side[rejected] = 1.0, -1.0
        margins[chosen] = margins[rejected] = settings.beta * gap
        slope = pair_pushes(gap, kind=settings.loss, beta=settings.beta, label_smoothing=settings.label_smoothing)
        slopes[chosen], slopes[rejected] = slope, -slope
        own = torch.where(mask, (slopes / tokens).unsqueeze(1), 0.0)
        # where both responses begin alike, each pushes the same tokens after the same text, against each other
        written = torch.where(mask, lesson.rollout.response_ids, -1)
        alike = ((written[chosen] == written[rejected]) & mask[chosen]).long().cumprod(dim=1).bool()
        pushes, net = own.clone(), own[chosen] + own[rejected]
        for rows in (chosen, rejected):
            pushes[rows] = torch.where(alike, net, own[rows])
        return PairTrace({"chosen": side, "implicit_rewards": settings.beta * log_ratios, "margins": margins},
                         {"push": PUSH_UNIT * pushes})
