"""REINFORCE leave-one-out for language models (Kool et al. 2019; Ahmadian et al. 2024, "Back to basics: revisiting
REINFORCE style optimization for learning from human feedback in LLMs").

Several responses to each prompt; the baseline of one is the mean reward of the others. A response is one action, with
one ratio of summed log-probs, clipped as PPO clips it where a rollout is used for more than one update.
"""

from __future__ import annotations

from torch import Tensor

from rlhf_engine.algorithms.base import Progress, Resources, StepResult
from rlhf_engine.algorithms.critic_free import ActorLearner, Lesson, Part, Turn
from rlhf_engine.algorithms.update import AdapterUpdate
from rlhf_engine.config.methods.rloo import RLOOConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import NonFiniteError
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

            # 2. Reward = score − β · KL, one for a whole response.
            told = self.evaluate(answers, minibatches, reference=self.kl.value > 0)
            rewards = response_rewards(answers.scores.to(told.log_probs), told.token_kl, answers.mask,
                                       kl_coef=self.kl.value)

            # 3. How much better than the others of its group? They have not seen it, so this stays unbiased.
            raw = leave_one_out_advantages(rewards, size)
            advantages = whiten(raw, answers.mask.any(1), differences_of=rewards) if settings.whiten_advantages else raw
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

    def _loss(self, part: Part, log_probs: Tensor, normalizer: float) -> PolicyLoss:
        mask = part.response_mask
        return clipped_policy_loss(summed(log_probs, mask), summed(part.old_log_probs, mask), part.advantages,
                                   mask.any(1), clip_range=self.settings.clip_range, normalizer=normalizer)

    @property
    def settings(self) -> RLOOConfig:
        """The section [algorithm]."""
        assert isinstance(self.config.algorithm, RLOOConfig)
        return self.config.algorithm
