"""Online DPO (Guo et al. 2024, "Direct language model alignment from online AI feedback"), judged by the run's rewards.

Several responses to each prompt; the best and the worst of them are a pair, from which DPO learns. So the pairs are
always of the policy that learns from them, where those of a file are soon of another one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf_engine.algorithms.base import Progress, Resources, StepResult
from rlhf_engine.algorithms.critic_free import ActorLearner, Answers, Turn
from rlhf_engine.algorithms.pairs import PairLearning, PairLesson
from rlhf_engine.config.methods.online_dpo import OnlineDPOConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.maths.groups import best_and_worst, equal_groups


class OnlineDPO(ActorLearner):
    """The actor's learner (an `Algorithm`)."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        super().__init__(config, resources)
        self.learning = PairLearning(self.policy, self.learners.optimizers["actor"], self.on_policy.limit,
                                     lambda: self.settings, lambda: self.config.sampling.temperature)

    def step(self, number: int, batch: PromptBatch, progress: Progress = lambda phase, fraction: None) -> StepResult:
        """See `Algorithm.step`."""
        settings, turn, optimizer = self.settings, Turn(number, progress), self.config.optimizer
        minibatches = list[Tensor]()
        try:
            # 1. A group of responses to each prompt, and what they score.
            answers = self.answer(turn, batch, settings.group_size)

            # 2. What actor and reference say of the answers, once.
            told = self.evaluate(turn, answers, [], reference=True)
            assert told.reference_log_probs is not None

            # 3. Best against worst, of groups that have a best and a worst.
            chosen, rejected, equal = self._pairs(answers)
            if len(chosen):
                minibatches = self.on_policy.minibatches(len(chosen), settings.minibatch_size, settings.epochs)
            lesson = PairLesson(answers.rollout, chosen, rejected, told.reference_log_probs)
        except NonFiniteError as error:
            return turn.failed(error, len(minibatches))

        # 4. Steps down the loss of the pairs, over shuffled minibatches.
        def update(rows: Tensor, reused: Tensor | None) -> dict[str, float]:
            return self.learning.step(rows, lesson, self.rate(number), optimizer.max_grad_norm)

        updates = self.update(turn, told, minibatches, update)
        responses = [torch.cat([chosen[rows], rejected[rows]]) for rows in minibatches]
        trace = self.learning.told(lesson, told.log_probs)
        return self.result(turn, told, responses, updates, {"frac_reward_zero_std": equal.float().mean().item()},
                           trace.per_response, trace.per_token)

    def _pairs(self, answers: Answers) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the chosen and of the rejected responses, int64 [pairs], and which groups give no pair."""
        size = self.settings.group_size
        equal = equal_groups(answers.scores, size)
        best, worst = best_and_worst(answers.scores, size)
        return best[~equal], worst[~equal], equal

    @property
    def penalty(self) -> None:
        """None: β of DPO is no price per nat, for scores only say which response is better."""
        return None

    @property
    def settings(self) -> OnlineDPOConfig:
        """The section [algorithm]."""
        assert isinstance(self.config.algorithm, OnlineDPOConfig)
        return self.config.algorithm
