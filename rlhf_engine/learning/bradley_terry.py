"""How a reward model learns from pairs, by Bradley and Terry (1952): one update of a member, and what it came to.

loss = −log σ(r(prompt, chosen) − r(prompt, rejected)) (Ouyang et al. 2022, eq. 1). The method `reward_model` learns so,
and a reward that learns on while it rewards (`rewards.refit`): what a member is, an adapter of the policy or a guest on
its base, is the `Reader`'s to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from rlhf_engine.config.methods.reward_model import (
    CALIBRATION_ERROR,
    RewardModelConfig,
    calibration_metric,
    calibration_pairs_metric,
)
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PairBatch
from rlhf_engine.data.prompt_order import rows_for_step
from rlhf_engine.data.rows import Rows
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.learning.judged_pairs import JudgedPairs, JudgedPart, drawn_with_replacement
from rlhf_engine.learning.optimizer import AdapterOptimizer
from rlhf_engine.learning.update import AdapterUpdate
from rlhf_engine.maths.reward_modelling import (
    RewardModelLoss,
    accuracy_interval,
    calibration,
    pair_losses,
    reward_model_loss,
    told_apart,
)
from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.response_scores import Reader, at_last_token, score_responses, values_along

_METRICS = {"loss": "loss", "accuracy": "accuracy", "margin": "margin", "mean_reward": "mean_reward"}
_OF_DECIDED = ("accuracy", "margin")  # metrics that a step of nothing but ties does not have


@dataclass(frozen=True)
class HeldOutPairs:
    """What held-out pairs tell of a reward model. metrics: `eval/…`; losses: of each pair, nats; told_apart: of each
    that is no tie, see `maths.reward_modelling.told_apart`."""

    metrics: dict[str, float]
    losses: list[float]
    told_apart: list[float]


@dataclass(frozen=True)
class PairLearning:
    """What all members of a reward model share as they learn. limit: of responses that go through a pass at once."""

    policy: Policy
    settings: RewardModelConfig
    limit: MicroBatchLimit

    def lesson(self, batch: PairBatch) -> JudgedPairs:
        """The pairs as the model reads them."""
        return JudgedPairs.of(self.policy, batch, self.settings.margin, self.settings.margin_column)

    def update(
        self, reader: Reader, optimizer: AdapterOptimizer, lesson: JudgedPairs, learning_rate: float, max_norm: float
    ) -> dict[str, float]:
        """One optimizer step of a member from a minibatch; the metrics of it, under the weights of before. Raises
        NonFiniteError, with the weights as they were, when the gradient is not finite."""

        def forward(part: JudgedPart) -> Tensor:
            """Scores of both responses, [2 * pairs] with gradient."""
            values = values_along(self.policy, reader, part.ids, part.mask, part.width)
            lesson.said[part.rows, :part.width + 1] = values.detach()
            return at_last_token(values, part.response_mask)

        def loss(part: JudgedPart, scores: Tensor, normalizer: float) -> RewardModelLoss:
            chosen, rejected = scores.chunk(2)
            return reward_model_loss(
                chosen, rejected, part.tie, part.margin, label_smoothing=self.settings.label_smoothing,
                center_coefficient=self.settings.center_coefficient, normalizer=normalizer, decided=lesson.decided)

        step = AdapterUpdate(optimizer, self.limit, forward, loss, _METRICS, each=2)
        told = step.step(torch.arange(len(lesson)), lesson, learning_rate, max_norm)
        return {name: value for name, value in told.items() if lesson.decided or name not in _OF_DECIDED}

    def measure(self, readers: Sequence[Reader], rows: Rows) -> HeldOutPairs:
        """What these pairs, at least one, tell; an ensemble is measured by the mean of its members' scores. Raises
        NonFiniteError."""
        batch = rows.batch(range(len(rows)))
        assert isinstance(batch, PairBatch)
        lesson = self.lesson(batch)
        scores = score_responses(self.policy, readers, lesson.rollout, self.limit)
        gaps = scores[:, 0::2] - scores[:, 1::2]
        gap, tie = gaps.mean(dim=0), lesson.tie
        losses = pair_losses(gap, tie, lesson.margin, label_smoothing=self.settings.label_smoothing)
        loss = float(losses.mean())
        if not math.isfinite(loss):
            raise NonFiniteError("the held-out loss is not finite")
        error, bins = calibration(gap.tolist(), tie.tolist())
        found = {"eval/loss": loss, CALIBRATION_ERROR: error}
        found |= {calibration_metric(each.low): each.observed for each in bins}
        found |= {calibration_pairs_metric(each.low): float(each.pairs) for each in bins}
        if decided := gap[~tie].tolist():
            share = accuracy_interval(decided)
            found |= {"eval/accuracy": share.value, "eval/accuracy_low": share.low, "eval/accuracy_high": share.high,
                      "eval/margin": fmean(decided)}
        if len(gaps) > 1:
            found["ensemble/deviation"] = float(gaps.std(dim=0, correction=0).mean())
        return HeldOutPairs(found, losses.tolist(), told_apart(gap[~tie]).tolist())


def member_batch(rows: Rows, config: RunConfig, member: int, number: int, seed: int) -> PairBatch:
    """What member `member` (from 0) learns from in step `number` (from 1): an ensemble's in an order of its own, and,
    if its config says so, of its own draw of all pairs with replacement."""
    settings = config.algorithm
    assert isinstance(settings, RewardModelConfig)
    if settings.members > 1:
        seed = (seed + 1_000_003 * (member + 1)) % 2**63
    places = rows_for_step(len(rows), number - 1, settings.pairs_per_step, seed, shuffle=config.data.shuffle)
    if settings.members > 1 and settings.resample:
        drawn = drawn_with_replacement(len(rows), seed)
        places = [drawn[place] for place in places]
    batch = rows.batch(places)
    assert isinstance(batch, PairBatch)
    return batch
