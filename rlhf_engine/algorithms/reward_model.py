"""A reward model: Bradley-Terry on scores that a head reads at the last token (Ouyang et al. 2022, eq. 1), or that are
the mean of what it says at each token.

loss = −log σ(r(prompt, chosen) − r(prompt, rejected)). A step is one optimizer step on some pairs, for each member of
an ensemble on pairs of its own. What there is: pairs, ties, margins (`judged_pairs`), where 0 and 1 of scores lie
(`score_scale`), how far the probabilities can be believed (`maths.reward_modelling`).
"""

from __future__ import annotations

import math
from functools import cached_property, partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from rlhf_engine.algorithms.base import Progress, Resources, State, StepResult
from rlhf_engine.algorithms.judged_pairs import JudgedPairs, JudgedPart, drawn_with_replacement, require_margins
from rlhf_engine.algorithms.learners import Learners
from rlhf_engine.algorithms.on_policy import Clock, response_length
from rlhf_engine.algorithms.optimizer import learning_rate_at
from rlhf_engine.algorithms.report import shown_samples
from rlhf_engine.algorithms.score_scale import center_and_scale, reference_answers
from rlhf_engine.algorithms.update import AdapterUpdate
from rlhf_engine.config.methods.reward_model import RewardModelConfig, calibration_metric
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PairBatch
from rlhf_engine.data.prompt_order import rows_for_step
from rlhf_engine.data.rows import Rows
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.events import Sample
from rlhf_engine.maths.reward_modelling import (
    RewardModelLoss,
    accuracy_interval,
    calibration,
    pair_losses,
    reward_model_loss,
)
from rlhf_engine.models.flops import BatchCost, ModelSize
from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.micro_batch import choose_micro_batch_size
from rlhf_engine.models.response_scores import Reader, added_by_token, at_last_token, score_responses, values_along
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.models.written import written_ids
from rlhf_engine.rewards.base import Score

_NUMBERS = ("token_count", "best_held_out_loss", "evaluations_without_gain", "center", "scale")
_METRICS = {"loss": "loss", "accuracy": "accuracy", "margin": "margin", "mean_reward": "mean_reward"}
_OF_DECIDED = ("accuracy", "margin")  # metrics that a step of nothing but ties does not have


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
            lesson = self._lesson(batch if self.settings.members == 1 else self._own_batch(at, number))
            update = AdapterUpdate(
                self.learners.optimizers[adapter], self.limit, partial(self._forward, head, lesson),
                partial(self._loss, decided=lesson.decided), _METRICS, each=2)

            # 2. One step down their loss.
            try:
                with self.policy.updating():
                    told = update.step(torch.arange(len(lesson)), lesson, rate, optimizer.max_grad_norm)
            except NonFiniteError as error:
                skipped.append(str(error))
                continue
            told["grad_norm/reward"] = told.pop(f"grad_norm/{adapter}")
            records.append({name: value for name, value in told.items() if lesson.decided or name not in _OF_DECIDED}
                           | {"completions/mean_length": response_length(lesson.rollout)})
            self._updates += 1
            self.token_count += int(lesson.rollout.response_mask.sum())
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
        batch = rows.batch(range(len(rows)))
        assert isinstance(batch, PairBatch)
        lesson = self._lesson(batch)
        scores = score_responses(self.policy, self.readers, lesson.rollout, self.limit)
        gaps = scores[:, 0::2] - scores[:, 1::2]
        gap, tie = gaps.mean(dim=0), lesson.tie.cpu()
        loss = float(pair_losses(gap, tie, lesson.margin.cpu(), label_smoothing=self.settings.label_smoothing).mean())
        if not math.isfinite(loss):
            raise NonFiniteError("the held-out loss is not finite")
        self.evaluations_without_gain = 0 if loss < self.best_held_out_loss else self.evaluations_without_gain + 1
        self.best_held_out_loss = min(loss, self.best_held_out_loss)
        error, bins = calibration(gap.tolist(), tie.tolist())
        found = {"eval/loss": loss, "eval/best_loss": self.best_held_out_loss, "eval/calibration_error": error}
        found |= {calibration_metric(each.low): each.observed for each in bins}
        if decided := gap[~tie].tolist():
            share = accuracy_interval(decided)
            found |= {"eval/accuracy": share.value, "eval/accuracy_low": share.low, "eval/accuracy_high": share.high,
                      "eval/margin": fmean(decided)}
        if len(gaps) > 1:
            found["ensemble/deviation"] = float(gaps.std(dim=0, correction=0).mean())
        return found

    def why_done(self) -> str:
        """See `EndsItself`."""
        patience, waited = self.settings.patience, self.evaluations_without_gain
        if patience is None or waited < patience:
            return ""
        return (f"the held-out loss was not below its lowest, {self.best_held_out_loss:.3f}, in {waited} evaluations "
                "in a row")

    # --- parts of a step ---

    def _lesson(self, batch: PairBatch) -> JudgedPairs:
        return JudgedPairs.of(self.policy, batch, self.settings.margin, self.settings.margin_column)

    def _own_batch(self, member: int, number: int) -> PairBatch:
        """What a member learns from in a step: of its own draw of all pairs, in an order of its own."""
        rows, seed = self.resources.rows, (self.config.train.seed + 1_000_003 * (member + 1)) % 2**63
        drawn = drawn_with_replacement(len(rows), seed)
        places = rows_for_step(len(rows), number - 1, self.settings.pairs_per_step, seed,
                               shuffle=self.config.data.shuffle)
        batch = rows.batch([drawn[place] for place in places])
        assert isinstance(batch, PairBatch)
        return batch

    def _forward(self, head: str, lesson: JudgedPairs, part: JudgedPart) -> Tensor:
        """Scores of both responses, [2 * pairs] with gradient."""
        values = values_along(self.policy, self._reader(head), part.ids, part.mask, part.width)
        lesson.said[part.rows, :part.width + 1] = values.detach()
        return at_last_token(values, part.response_mask)

    def _loss(self, part: JudgedPart, scores: Tensor, normalizer: float, *, decided: float) -> RewardModelLoss:
        chosen, rejected = scores.chunk(2)
        settings = self.settings
        return reward_model_loss(
            chosen, rejected, part.tie, part.margin, label_smoothing=settings.label_smoothing,
            center_coefficient=settings.center_coefficient, normalizer=normalizer, decided=decided)

    def _samples(self, number: int, lesson: JudgedPairs) -> tuple[Sample, ...]:
        """The first pairs, chosen and rejected beside each other, with their raw scores before the update."""
        rollout, said = lesson.rollout, lesson.said
        scores = at_last_token(said, rollout.response_mask)
        gap = (scores[0::2] - scores[1::2]).repeat_interleave(2)
        sides = torch.tensor([1.0, -1.0]).repeat(len(lesson)).to(gap) * (~lesson.tie).repeat_interleave(2)
        names = {1.0: "chosen", -1.0: "rejected", 0.0: "tied"}
        told = [Score(score, {names[side]: score})
                for score, side in zip(scores.tolist(), sides.tolist(), strict=True)]
        return shown_samples(
            rollout, told, self.policy.texts, self.config.train.samples_per_step, number,
            per_response={"chosen": sides, "margin": gap},
            per_token={"score": said[:, 1:], "added": added_by_token(said, rollout.response_mask, self.settings.reads)})

    def _operations(self, rollout: Rollout) -> float:
        response = rollout.response_mask.sum(dim=1)
        cost = BatchCost(self.size, (rollout.prompt_mask.sum(dim=1) + response).cpu(), response.cpu())
        return cost.forward(None, head=False) + cost.backward(None, head=False)

    # --- what is made when it is first needed: a resumed run knows only then which pairs the model can take ---

    @property
    def readers(self) -> list[Reader]:
        """The members."""
        return [self._reader(head) for head in self.settings.adapter_heads]

    def _reader(self, head: str) -> Reader:
        return Reader(partial(self.policy.as_role, self.settings.adapter_heads[head]), self.policy.heads[head],
                      self.settings.reads)

    @cached_property
    def limit(self) -> MicroBatchLimit:
        """How many responses go through a pass at once."""
        train, rows = self.config.train, self.resources.rows
        responses = [*rows.texts["chosen"], *rows.texts["rejected"]]
        width = max(len(prompt) + len(response) for prompt, response in written_ids(
            self.policy, rows.prompts * 2, responses, [False] * len(responses)))
        size = choose_micro_batch_size(self.policy, 2 * self.settings.pairs_per_step, width)
        return MicroBatchLimit(train.micro_batch_size or size, self.resources.tell)

    @cached_property
    def _reference_answers(self) -> Rollout:
        return reference_answers(self.policy, self.resources.rows, self.config, self.settings.reference_samples)

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
            "evaluations_without_gain": self.evaluations_without_gain, "center": center, "scale": scale}
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
