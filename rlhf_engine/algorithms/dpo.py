"""Direct preference optimization (Rafailov et al. 2023), from pairs that were judged before.

A step is one optimizer step on some pairs: what the reference says of both responses, which it is asked once a pair,
what the actor says of them, and a loss of the difference of the two differences. Nothing is sampled.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from rlhf_engine.algorithms.base import Progress, Resources, State, StepResult
from rlhf_engine.algorithms.learners import Learners
from rlhf_engine.algorithms.on_policy import Clock, response_length
from rlhf_engine.algorithms.pair_reference import PairReference, pairs_written
from rlhf_engine.algorithms.pairs import PairLearning, PairLesson
from rlhf_engine.algorithms.report import shown_samples
from rlhf_engine.config.methods.dpo import DPOConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PairBatch
from rlhf_engine.data.rows import Rows
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.events import Sample
from rlhf_engine.learning.optimizer import learning_rate_at
from rlhf_engine.learning.pair_width import responses_at_once
from rlhf_engine.maths.estimators import kl_k1, summed
from rlhf_engine.maths.preferences import PreferenceLoss
from rlhf_engine.models.flops import BatchCost, ModelSize
from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.rewards.base import Score

_NUMBERS = ("token_count",)


class DPO:
    """The actor's learner (an `Algorithm`)."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        self.config, self.resources, self.policy = config, resources, resources.policy
        self.learners = Learners(config, resources)
        self.size = ModelSize.of_model(self.policy.base, self.policy.text_parameters)
        self.token_count = 0
        self._reference: tuple[Rows, PairReference] | None = None

    def step(self, number: int, batch: PairBatch, progress: Progress = lambda phase, fraction: None) -> StepResult:
        """See `Algorithm.step`."""
        optimizer, clock = self.config.optimizer, Clock()
        rate = learning_rate_at(number, optimizer, self.config.train.steps)

        # 1. What the reference says of both responses: of pairs seen before, what it said then.
        progress("score", 0.0)
        asked = self.reference.asked
        lesson = self._lesson(batch)
        clock.lap("score")

        # 2. One step down the loss of the pairs.
        progress("update", 0.0)
        metrics, nonfinite = {"completions/mean_length": response_length(lesson.rollout)}, ""
        try:
            with self.policy.updating():
                metrics |= self.learning.step(torch.arange(len(lesson)), lesson, rate, optimizer.max_grad_norm)
        except NonFiniteError as error:
            nonfinite = str(error)
        clock.lap("update")

        # 3. What it led to.
        self.token_count += 0 if nonfinite else int(lesson.rollout.lengths[1].sum())
        metrics |= {"train/skipped_updates": float(bool(nonfinite)), "lr": rate, "num_tokens": float(self.token_count)}
        metrics |= clock.metrics(len(lesson.rollout))
        samples = () if nonfinite else self._samples(number, lesson)
        return StepResult(metrics, samples, self._operations(lesson.rollout, self.reference.asked > asked), nonfinite)

    @torch.no_grad()
    def measure_held_out(self, rows: Rows) -> dict[str, float]:
        """See `MeasuresHeldOut`."""
        batch = rows.batch(range(len(rows)))
        assert isinstance(batch, PairBatch)
        lesson = self._lesson(batch)

        def attempt() -> list[float]:
            parts = map(lesson.part, torch.arange(len(lesson)).split(max(1, self.limit.size // 2)))
            told = [torch.stack(self.learning.loss(part, self.learning.log_probs(part), len(lesson))) for part in parts]
            numbers: list[float] = torch.stack(told).double().sum(dim=0).tolist()
            return numbers

        found = dict(zip(PreferenceLoss._fields, self.limit.fit(attempt), strict=True))
        return {"eval/rewards/accuracies": found["accuracy"], "eval/rewards/margins": found["margin"],
                "eval/pair_loss": found["loss"]}

    # --- parts of a step ---

    def _lesson(self, batch: PairBatch) -> PairLesson:
        rollout = pairs_written(self.policy, batch, append_end=self.settings.append_end)
        chosen = torch.arange(0, len(rollout), 2)
        return PairLesson(rollout, chosen, chosen + 1, self.reference.log_probs(batch, rollout))

    def _samples(self, number: int, lesson: PairLesson) -> tuple[Sample, ...]:
        """The first pairs, chosen and rejected beside each other; the score of a response is its implicit reward."""
        rollout, said = lesson.rollout, lesson.said
        log_ratio = torch.where(rollout.response_mask, kl_k1(said, lesson.reference_log_probs), 0.0)
        told = self.learning.told(lesson, said)
        rewards, sides = (told.per_response[name].tolist() for name in ("implicit_rewards", "chosen"))
        scores = [Score(reward, {"chosen" if side > 0 else "rejected": reward})
                  for reward, side in zip(rewards, sides, strict=True)]
        return shown_samples(
            rollout, scores, self.policy.texts, self.config.train.samples_per_step, number,
            response_kl=summed(log_ratio, rollout.response_mask), per_response=told.per_response, per_token={
                **told.per_token, "log_probs": said, "reference_log_probs": lesson.reference_log_probs,
                "kl": log_ratio})

    def _operations(self, rollout: Rollout, reference: bool) -> float:
        prompts, response = rollout.lengths
        cost = BatchCost(self.size, prompts + response, response)
        return cost.forward(None, head=True) * (1 + reference) + cost.backward(None, head=True)

    # --- what is made when it is first needed: a resumed run knows only then which pairs the model can take ---

    @property
    def reference(self) -> PairReference:
        """What the reference says of the run's pairs."""
        rows = self.resources.rows
        if self._reference is None or self._reference[0] is not rows:
            self._reference = rows, PairReference(self.policy, rows, self.config, self.limit,
                                                  append_end=self.settings.append_end)
        return self._reference[1]

    @cached_property
    def limit(self) -> MicroBatchLimit:
        """How many responses go through a pass at once."""
        size = responses_at_once(self.policy, self.resources.rows, self.config, append_end=self.settings.append_end)
        return MicroBatchLimit(size, self.resources.tell)

    @cached_property
    def learning(self) -> PairLearning:
        """The update by pairs."""
        return PairLearning(self.policy, self.learners.optimizers["actor"], self.limit, lambda: self.settings,
                            lambda: 1.0)  # log π itself: pairs come from no temperature of ours

    # --- the rest of an `Algorithm` ---

    @property
    def settings(self) -> DPOConfig:
        """The section [algorithm]."""
        assert isinstance(self.config.algorithm, DPOConfig)
        return self.config.algorithm

    def reconfigure(self, config: RunConfig) -> None:
        """See `Algorithm.reconfigure`."""
        self.config = config

    def computes(self) -> bool:
        """See `Algorithm.computes`."""
        return self.learners.compute()

    def state(self) -> State:
        """See `Algorithm.state`."""
        found = self.learners.state()
        own: dict[str, Any] = {"token_count": self.token_count}
        return State(found.tensors, own | found.numbers)

    def require_fit(self, state: State) -> None:
        """See `Algorithm.require_fit`."""
        self.learners.require_fit(state, _NUMBERS)

    def load_state(self, state: State) -> None:
        """See `Algorithm.load_state`."""
        self.require_fit(state)
        self.learners.load_state(state)
        self.token_count = int(state.numbers["token_count"])
