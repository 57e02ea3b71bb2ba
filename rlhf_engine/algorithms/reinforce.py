"""REINFORCE with a batch baseline (Williams 1992): the policy gradient as it stands in textbooks.

∇ E[reward] = E[(reward − baseline) ∇ log π(response)]: what did better than the mean of its batch is made likelier, in
proportion. What other methods add (a critic, a clipped ratio, groups) makes this estimate steadier.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rlhf_engine.algorithms.base import Progress, Resources, StepResult
from rlhf_engine.algorithms.credit import Credit, EvaluatedGroup
from rlhf_engine.algorithms.critic_free import ActorLearner, Lesson, Part, Told, Turn, credit_of
from rlhf_engine.config.methods.reinforce import ReinforceConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.learning.update import AdapterUpdate
from rlhf_engine.maths.estimators import response_rewards, summed
from rlhf_engine.maths.groups import group_advantages


class PolicyGradient(NamedTuple):
    """A scalar whose gradient is the estimate."""

    loss: Tensor


class Reinforce(ActorLearner):
    """The actor's learner (an `Algorithm`)."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        super().__init__(config, resources)
        self.actor = AdapterUpdate(self.learners.optimizers["actor"], self.on_policy.limit, self.on_policy.log_probs_of,
                                   policy_gradient, {"loss": "loss/policy_avg"})

    def step(self, number: int, batch: PromptBatch, progress: Progress = lambda phase, fraction: None) -> StepResult:
        """See `Algorithm.step`."""
        assert isinstance(self.config.algorithm, ReinforceConfig)
        turn, optimizer = Turn(number, progress), self.config.optimizer
        minibatches = self.on_policy.minibatches(len(batch.prompts), self.config.algorithm.minibatch_size, epochs=1)
        try:
            # 1. One response to each prompt, and what it scores.
            answers = self.answer(turn, batch)

            # 2. Log-probs of what was sampled under actor and reference, once.
            told = self.evaluate(turn, answers, minibatches, reference=self.kl.value > 0)

            # 3. How much better than the batch on average?
            rewards, advantages = rewards_and_advantages(told, self.kl.value)
            lesson = Lesson(told, advantages)
        except NonFiniteError as error:
            return turn.failed(error, len(minibatches))

        # 4. Up the gradient, once. From the second minibatch on, the weights are no longer quite those that sampled.
        def update(rows: Tensor, reused: Tensor | None) -> dict[str, float]:
            return self.actor.step(rows, lesson, self.rate(number), optimizer.max_grad_norm, reused)

        updates = self.update(turn, told, minibatches, update)
        return self.result(turn, told, minibatches, updates, {}, {
            "rewards": rewards, "baselines": rewards - advantages, "advantages": advantages})

    @classmethod
    def assign_credit(cls, config: RunConfig, group: EvaluatedGroup) -> Credit:
        """See `AssignsCredit`."""
        told = Told.of_group(group, reference=config.kl.coef > 0)
        _, advantages = rewards_and_advantages(told, config.kl.coef)
        return credit_of(Lesson(told, advantages), group.all_rows, policy_gradient)


def rewards_and_advantages(told: Told, kl_coef: float) -> tuple[Tensor, Tensor]:
    """Reward = score − β · KL, one for a whole response, and how far that is above the mean of the batch: [batch] each.

    That baseline takes noise out. Each response is in its own baseline, so the gradient is 1/batch smaller than
    without. Equal rewards teach exactly nothing.
    """
    answers = told.answers
    rewards = response_rewards(answers.scores.to(told.log_probs, non_blocking=True), told.token_kl, answers.mask,
                               kl_coef=kl_coef)
    return rewards, group_advantages(rewards, len(rewards), scale="none")


def policy_gradient(part: Part, log_probs: Tensor, normalizer: float) -> PolicyGradient:
    """−Σ advantage · log π(response) / normalizer; log_probs: [rows, width], with gradient."""
    return PolicyGradient(-(part.advantages * summed(log_probs, part.response_mask)).sum() / normalizer)
