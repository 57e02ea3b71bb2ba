"""REINFORCE leave-one-out for language models (Kool et al. 2019; Ahmadian et al. 2024, "Back to basics: revisiting
REINFORCE style optimization for learning from human feedback in LLMs").

Several responses to each prompt; the baseline of one is the mean reward of the others. A response is one action, with
one ratio of summed log-probs, clipped as PPO clips it where a rollout is used for more than one update.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from rlhf_engine.algorithms.base import Progress, Resources, StepResult
from rlhf_engine.algorithms.credit import Credit, EvaluatedGroup
from rlhf_engine.algorithms.critic_free import ActorLearner, Lesson, Part, Told, Turn, credit_of
from rlhf_engine.config.methods.rloo import RLOOConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.learning.update import AdapterUpdate
from rlhf_engine.maths.estimators import response_rewards, summed, whiten
from rlhf_engine.maths.groups import equal_groups, leave_one_out_advantages
from rlhf_engine.maths.losses import PolicyLoss, clipped_policy_loss


class RLOO(ActorLearner):
    """The actor's learner (an `Algorithm`)."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        super().__init__(config, resources)
        self.actor = AdapterUpdate(
            self.learners.optimizers["actor"], self.on_policy.limit, self.on_policy.log_probs_of, self._loss, {
                "loss": "loss/policy_avg", "clip_fraction": "policy/clipfrac_avg", "approx_kl": "policy/approxkl_avg",
                "ratio_mean": "val/ratio"})

    def step(self, number: int, batch: PromptBatch, progress: Progress = lambda phase, fraction: None) -> StepResult:
        """See `Algorithm.step`."""
        settings, turn, optimizer = self.settings, Turn(number, progress), self.config.optimizer
        size = settings.group_size
        minibatches = self.on_policy.minibatches(len(batch.prompts) * size, settings.minibatch_size, settings.epochs)
        try:
            # 1. A group of responses to each prompt, and what they score.
            answers = self.answer(turn, batch, size)

            # 2. Log-probs of what was sampled under actor and reference, once: the ratio of step 4 is against them.
            told = self.evaluate(turn, answers, minibatches, reference=self.kl.value > 0)

            # 3. Reward = score − β · KL, one for a whole response. How much better is it than those of its group?
            rewards, raw, advantages = rewards_and_advantages(told, size, settings, self.kl.value)
            lesson = Lesson(told, advantages)
        except NonFiniteError as error:
            return turn.failed(error, len(minibatches))

        # 4. Clipped updates over shuffled minibatches.
        def update(rows: Tensor, reused: Tensor | None) -> dict[str, float]:
            return self.actor.step(rows, lesson, self.rate(number), optimizer.max_grad_norm, reused)

        updates = self.update(turn, told, minibatches, update)
        equal = equal_groups(answers.scores, size).float().mean().item()
        return self.result(turn, told, minibatches, updates, {"frac_reward_zero_std": equal}, {
            "rewards": rewards, "baselines": rewards - raw, "advantages": advantages})

    @classmethod
    def assign_credit(cls, config: RunConfig, group: EvaluatedGroup) -> Credit:
        """See `AssignsCredit`."""
        settings = config.algorithm
        assert isinstance(settings, RLOOConfig)
        told = Told.of_group(group, reference=config.kl.coef > 0)
        _, _, advantages = rewards_and_advantages(told, len(group.rollout), settings, config.kl.coef)
        return credit_of(Lesson(told, advantages), group.all_rows, partial(policy_loss, settings))

    def _loss(self, part: Part, log_probs: Tensor, normalizer: float) -> PolicyLoss:
        return policy_loss(self.settings, part, log_probs, normalizer)

    @property
    def settings(self) -> RLOOConfig:
        """The section [algorithm]."""
        assert isinstance(self.config.algorithm, RLOOConfig)
        return self.config.algorithm


def rewards_and_advantages(
    told: Told, size: int, settings: RLOOConfig, kl_coef: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, how much better each is than the others of its group of `size` on average, and the same as the loss
    takes it: [batch] each. Those others have not seen the response, so this stays unbiased."""
    answers = told.answers
    rewards = response_rewards(answers.scores.to(told.log_probs, non_blocking=True), told.token_kl, answers.mask,
                               kl_coef=kl_coef)
    raw = leave_one_out_advantages(rewards, size)
    whitened = whiten(raw, answers.mask.any(1), differences_of=rewards) if settings.whiten_advantages else raw
    return rewards, raw, whitened


def policy_loss(settings: RLOOConfig, part: Part, log_probs: Tensor, normalizer: float) -> PolicyLoss:
    """PPO's clipped loss, a response being one action; log_probs: [rows, width], with gradient."""
    mask = part.response_mask
    return clipped_policy_loss(summed(log_probs, mask), summed(part.old_log_probs, mask), part.advantages,
                               mask.any(1), clip_range=settings.clip_range, normalizer=normalizer)
