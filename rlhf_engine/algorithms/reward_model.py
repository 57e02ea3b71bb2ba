"""A reward model: Bradley-Terry on scores that a head reads at the last token (Ouyang et al. 2022, eq. 1), or that are
the mean of what it says at each token.

A step is one optimizer step on some pairs, for each member of an ensemble on pairs of its own
(`learning.bradley_terry`). What there is besides: pairs, ties, margins (`learning.judged_pairs`), and where 0 and 1 of
scores lie (`learning.score_scale`).
"""

from __future__ import annotations

import math
from functools import cached_property, partial
from itertools import chain
from statistics import fmean
from typing import Any

import torch

from rlhf_engine.algorithms.base import Progress, Resources, State, StepResult
from rlhf_engine.algorithms.learners import Learners
from rlhf_engine.algorithms.on_policy import Clock, response_length
from rlhf_engine.algorithms.report import shown_samples
from rlhf_engine.config.methods.reward_model import RewardModelConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PairBatch
from rlhf_engine.data.rows import Rows
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.events import Sample
from rlhf_engine.learning.bradley_terry import PairLearning, member_batch
from rlhf_engine.learning.judged_pairs import JudgedPairs, require_margins
from rlhf_engine.learning.optimizer import learning_rate_at
from rlhf_engine.learning.pair_width import responses_at_once
from rlhf_engine.learning.score_scale import center_and_scale, reference_answers
from rlhf_engine.models.flops import BatchCost, ModelSize
from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.response_scores import Reader, added_by_token, at_last_token, score_responses
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.rewards.base import Score

_MOST_KEPT = 1_000_000  # characters of the reference's answers in a checkpoint
_NUMBERS = ("token_count", "best_held_out_loss", "evaluations_without_gain", "center", "scale")


class RewardModel:
    """See `rlhf_engine.algorithms.base.Algorithm`."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        self.config, self.resources, self.policy = config, resources, resources.policy
        for rows in (resources.rows, resources.held_out):
            require_margins(rows, self.settings.margin_column)
        self.learners = Learners(config, resources)
        self.size = ModelSize.of_model(self.policy.base, self.policy.text_parameters)
        self.token_count, self.best_held_out_loss, self.evaluations_without_gain = 0, math.inf, 0
        self._scaled: tuple[int, list[float], list[float]] | None = None
        self._updates = 0

    def step(self, number: int, batch: PairBatch, progress: Progress = lambda phase, fraction: None) -> StepResult:
        """See `Algorithm.step`."""
        clock, optimizer = Clock(), self.config.optimizer
        rate = learning_rate_at(number, optimizer, self.config.train.steps)
        records, skipped, operations, samples = list[dict[str, float]](), list[str](), 0.0, tuple[Sample, ...]()
        for at, (head, adapter) in enumerate(self.settings.adapter_heads.items()):
            progress("update", at / self.settings.members)

            # 1. The pairs of the step; those of an ensemble's member are drawn with replacement.
            lesson = self.learning.lesson(batch if self.settings.members == 1 else self._own_batch(at, number))

            # 2. One step down their loss.
            try:
                with self.policy.updating():
                    told = self.learning.update(self._reader(head), self.learners.optimizers[adapter], lesson, rate,
                                                optimizer.max_grad_norm)
            except NonFiniteError as error:
                skipped.append(str(error))
                continue
            told["grad_norm/reward"] = told.pop(f"grad_norm/{adapter}")
            records.append(told | {"completions/mean_length": response_length(lesson.rollout)})
            self._updates += 1
            self.token_count += int(lesson.rollout.lengths[1].sum())
            operations += self._operations(lesson.rollout)
            samples = samples or self._samples(number, lesson)
        clock.lap("update")

        # 3. What it came to: means over the members.
        metrics = {name: fmean(record[name] for record in records if name in record)
                   for name in dict.fromkeys(name for record in records for name in record)}
        metrics |= {"train/skipped_updates": float(len(skipped)), "lr": rate, "num_tokens": float(self.token_count),
                    **clock.metrics(2 * len(batch.prompts) * self.settings.members)}
        return StepResult(metrics, samples, operations, " and ".join(dict.fromkeys(skipped)))

    def measure_held_out(self, rows: Rows) -> dict[str, float]:
        """See `MeasuresHeldOut`. An ensemble is measured by the mean of its members' scores."""
        found = self.learning.measure(self.readers, rows).metrics
        loss = found["eval/loss"]
        self.evaluations_without_gain = 0 if loss < self.best_held_out_loss else self.evaluations_without_gain + 1
        self.best_held_out_loss = min(loss, self.best_held_out_loss)
        return found | {"eval/best_loss": self.best_held_out_loss}

    def why_done(self) -> str:
        """See `EndsItself`."""
        patience, waited = self.settings.patience, self.evaluations_without_gain
        if patience is None or waited < patience:
            return ""
        return (f"the held-out loss was not below its lowest, {self.best_held_out_loss:.3f}, in {waited} evaluations "
                "in a row")

    # --- parts of a step ---

    def _own_batch(self, member: int, number: int) -> PairBatch:
        return member_batch(self.resources.rows, self.config, member, number, self.config.train.seed)

    def _samples(self, number: int, lesson: JudgedPairs) -> tuple[Sample, ...]:
        """The first pairs, chosen and rejected beside each other, with their raw scores before the update."""
        rollout, said = lesson.rollout, lesson.said
        scores = at_last_token(said, rollout.response_mask)
        gap = (scores[0::2] - scores[1::2]).repeat_interleave(2)
        sides = torch.tensor([1.0, -1.0]).repeat(len(lesson)) * (~lesson.tie).repeat_interleave(2)
        names = {1.0: "chosen", -1.0: "rejected", 0.0: "tied"}
        told = [Score(score, {names[side]: score})
                for score, side in zip(scores.tolist(), sides.tolist(), strict=True)]
        return shown_samples(
            rollout, told, self.policy.texts, self.config.train.samples_per_step, number,
            per_response={"chosen": sides, "margin": gap},
            per_token={"score": said[:, 1:], "added": added_by_token(said, rollout.response_mask, self.settings.reads)})

    def _operations(self, rollout: Rollout) -> float:
        prompts, response = rollout.lengths
        cost = BatchCost(self.size, prompts + response, response)
        return cost.forward(None, head=False) + cost.backward(None, head=False)

    # --- what is made when it is first needed: a resumed run knows only then which pairs the model can take ---

    @property
    def readers(self) -> list[Reader]:
        """The members."""
        return [self._reader(head) for head in self.settings.adapter_heads]

    def _reader(self, head: str) -> Reader:
        return Reader(partial(self.policy.as_role, self.settings.adapter_heads[head]), self.policy.heads[head],
                      self.settings.reads)

    @property
    def learning(self) -> PairLearning:
        """How its members learn, under the settings of the moment."""
        return PairLearning(self.policy, self.settings, self.limit)

    @cached_property
    def limit(self) -> MicroBatchLimit:
        """How many responses go through a pass at once."""
        return MicroBatchLimit(responses_at_once(self.policy, self.resources.rows, self.config), self.resources.tell)

    @cached_property
    def _reference_answers(self) -> Rollout:
        return reference_answers(self.policy, self.resources.rows, self.config, self.settings.reference_samples)

    def _answers_to_keep(self) -> dict[str, Any]:
        """The reference's answers as texts, so that what learns on from here is centred on the same ones."""
        asked = self._reference_answers
        answers = [list(pair) for pair in zip(asked.prompts, asked.responses, strict=True)]
        return {"reference_answers": answers} if sum(map(len, chain(*answers))) <= _MOST_KEPT else {}

    def _center_and_scale(self) -> tuple[list[float], list[float]]:
        """Under the weights of the moment; those of before where scores are not finite."""
        if self._scaled is None or self._scaled[0] != self._updates:
            scores = score_responses(self.policy, self.readers, self._reference_answers, self.limit)
            if bool(scores.isfinite().all()):
                self._scaled = self._updates, *center_and_scale(scores)
        count = self.settings.members
        return self._scaled[1:] if self._scaled else ([0.0] * count, [1.0] * count)

    # --- the rest of an `Algorithm` ---

    @property
    def settings(self) -> RewardModelConfig:
        """The section [algorithm]."""
        assert isinstance(self.config.algorithm, RewardModelConfig)
        return self.config.algorithm

    def reconfigure(self, config: RunConfig) -> None:
        """See `Algorithm.reconfigure`."""
        self.config = config

    def computes(self) -> bool:
        """See `Algorithm.computes`."""
        return self.learners.compute()

    def state(self) -> State:
        """See `Algorithm.state`."""
        found, best = self.learners.state(), self.best_held_out_loss
        center, scale = self._center_and_scale()
        own: dict[str, Any] = {
            "token_count": self.token_count, "best_held_out_loss": best if math.isfinite(best) else None,
            "evaluations_without_gain": self.evaluations_without_gain, "center": center, "scale": scale,
            "judgements": self.resources.row_count} | self._answers_to_keep()
        return State(found.tensors, own | found.numbers)

    def require_fit(self, state: State) -> None:
        """See `Algorithm.require_fit`."""
        self.learners.require_fit(state, _NUMBERS)

    def load_state(self, state: State) -> None:
        """See `Algorithm.load_state`."""
        self.require_fit(state)
        self.learners.load_state(state)
        self._scaled, self._updates = None, self._updates + 1
        numbers = state.numbers
        self.token_count, best = int(numbers["token_count"]), numbers["best_held_out_loss"]
        self.best_held_out_loss = math.inf if best is None else float(best)
        self.evaluations_without_gain = int(numbers["evaluations_without_gain"])
