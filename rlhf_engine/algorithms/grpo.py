"""Group relative policy optimization (Shao et al. 2024, "DeepSeekMath", section 4.1), and what it became.

Several responses to each prompt; how far a score is from its group's mean is the advantage of every token of that
response, and the KL to the reference is a term of the loss, not of the reward. By choice: advantages that are not
divided by the group's deviation, and a loss divided by a constant (Liu et al. 2025, Dr. GRPO); two clip ranges, a loss
per token, truncated responses and groups of equal scores left out (Yu et al. 2025, DAPO); one ratio for a response
(Zheng et al. 2025, GSPO).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rlhf_engine.algorithms.base import Progress, Resources, StepResult
from rlhf_engine.algorithms.credit import Credit, EvaluatedGroup
from rlhf_engine.algorithms.critic_free import ActorLearner, Answers, Lesson, Part, Told, Turn, credit_of
from rlhf_engine.config.methods.grpo import GRPOConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.learning.update import AdapterUpdate
from rlhf_engine.maths.groups import GroupLoss, equal_groups, group_advantages, group_policy_loss
from rlhf_engine.models.rollout import Rollout

_ALSO_CALLED = {"reward": "objective/scores", "reward_std": "objective/scores_std", "entropy": "policy/entropy_avg"}


@dataclass(frozen=True)
class TokenLesson(Lesson):
    """A `Lesson` whose shares and means are over the tokens of a minibatch."""

    def action_count(self, rows: Tensor) -> float:
        """Tokens in these rows."""
        return float(self.told.answers.rollout.lengths[1][rows].sum())


class GRPO(ActorLearner):
    """The actor's learner (an `Algorithm`)."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        super().__init__(config, resources)
        self.actor = AdapterUpdate(
            self.learners.optimizers["actor"], self.on_policy.limit, self.on_policy.log_probs_of, self._loss, {
                "loss": "loss/policy_avg", "clip_low": "clip_ratio/low_mean", "clip_high": "clip_ratio/high_mean",
                "kl": "kl", "ratio_mean": "val/ratio"})

    def step(self, number: int, batch: PromptBatch, progress: Progress = lambda phase, fraction: None) -> StepResult:
        """See `Algorithm.step`."""
        settings, turn, optimizer = self.settings, Turn(number, progress), self.config.optimizer
        size, minibatches = settings.group_size, list[Tensor]()
        try:
            # 1. A group of responses to each prompt, and what they score.
            answers = self.answer(turn, batch, size)

            # 2. Log-probs of what was sampled under actor and reference, once: the ratio of step 4 is against them.
            minibatches = self._minibatches(answers)
            told = self.evaluate(turn, answers, minibatches, reference=self.kl.value > 0)

            # 3. How far is each score from its group's mean? No critic, and no KL, is in it.
            scores = answers.scores
            advantages = group_advantages(scores, size, scale=settings.advantage_scale)
            equal = equal_groups(scores, size)
            given = advantages.to(told.log_probs, non_blocking=True)
        except NonFiniteError as error:
            return turn.failed(error, len(minibatches))

        # 4. Clipped updates over shuffled minibatches; the KL to the reference is in their loss.
        def update(rows: Tensor, reused: Tensor | None) -> dict[str, float]:
            lesson = TokenLesson(told, given, token_weights(self.config, answers.rollout, rows))
            return self.actor.step(rows, lesson, self.rate(number), optimizer.max_grad_norm, reused)

        updates = self.update(turn, told, minibatches, update)
        learned = torch.zeros(len(scores), dtype=torch.bool)  # what is left out is pushed nowhere
        for rows in minibatches:
            learned[rows] = True
        result = self.result(turn, told, minibatches, updates, {"frac_reward_zero_std": equal.float().mean().item()}, {
            "rewards": scores, "advantages": torch.where(learned, advantages, 0.0),
            "baselines": scores.view(-1, size).mean(1).repeat_interleave(size)})
        result.metrics.update({name: result.metrics[same] for name, same in _ALSO_CALLED.items()})
        return result

    def _minibatches(self, answers: Answers) -> list[Tensor]:
        """Rows of every minibatch, without those that are left out; none where all are."""
        settings, rows = self.settings, kept_rows(self.settings, answers, self.settings.group_size)
        shuffled = self.on_policy.minibatches(len(rows), settings.minibatch_size, settings.epochs)
        return [rows[chosen] for chosen in shuffled] if len(rows) else []

    def _loss(self, part: Part, log_probs: Tensor, token_count: float) -> GroupLoss:
        return policy_loss(self.settings, self.kl.value, part, log_probs, token_count)

    @classmethod
    def assign_credit(cls, config: RunConfig, group: EvaluatedGroup) -> Credit:
        """See `AssignsCredit`."""
        settings, size = grpo_settings(config), len(group.rollout)
        told = Told.of_group(group, reference=config.kl.coef > 0)
        advantages = group_advantages(group.scores, size, scale=settings.advantage_scale)
        rows = kept_rows(settings, told.answers, size)
        lesson = TokenLesson(told, advantages.to(told.log_probs, non_blocking=True),
                             token_weights(config, group.rollout, rows))
        return credit_of(lesson, rows, partial(policy_loss, settings, config.kl.coef))

    @property
    def settings(self) -> GRPOConfig:
        """The section [algorithm]."""
        return grpo_settings(self.config)


def grpo_settings(config: RunConfig) -> GRPOConfig:
    """The section [algorithm] of a run that learns by GRPO."""
    assert isinstance(config.algorithm, GRPOConfig)
    return config.algorithm


def kept_rows(settings: GRPOConfig, answers: Answers, size: int) -> Tensor:
    """Rows that are learned from, int64, of groups of `size`. Scores are looked at only where it hangs on them."""
    kept = torch.ones(len(answers.rollout), dtype=torch.bool)
    if settings.drop_equal_groups:
        kept &= ~equal_groups(answers.scores, size).repeat_interleave(size)
    if settings.mask_truncated:
        kept &= answers.rollout.finished.cpu()
    return kept.nonzero().squeeze(1)


def token_weights(config: RunConfig, rollout: Rollout, rows: Tensor) -> Tensor:
    """What a token of each response [batch] counts in the loss of the minibatch `rows`, by what that is a mean over."""
    return rollout.on_device(_token_weights(config, rollout.lengths[1].clamp_min(1).float(), rows))


def _token_weights(config: RunConfig, lengths: Tensor, rows: Tensor) -> Tensor:
    """The same, on the CPU; lengths: float [batch], tokens of each response."""
    match grpo_settings(config).loss_normalization:
        case "response":
            return 1.0 / (lengths * len(rows))
        case "token":
            return torch.full_like(lengths, 1.0 / float(lengths[rows].sum()))
        case "constant":
            return torch.full_like(lengths, 1.0 / (len(rows) * config.sampling.max_new_tokens))


def policy_loss(
    settings: GRPOConfig, kl_coef: float, part: Part, log_probs: Tensor, token_count: float
) -> GroupLoss:
    """The clipped surrogate with its KL penalty; log_probs: [rows, width], with gradient."""
    assert part.weights is not None
    return group_policy_loss(
        log_probs, part.old_log_probs, part.reference_log_probs, part.advantages, part.response_mask,
        weights=part.weights, clip_low=settings.clip_range, clip_high=settings.clip_high,
        kl_coef=kl_coef, sequence_ratio=settings.ratio_level == "sequence", token_count=token_count)
