"""What the methods without a critic do alike: answer, evaluate, update one adapter, tell of it, be saved.

What is learned from an answer is the method's: see `reinforce`, `rloo` and `grpo`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from rlhf_engine.algorithms.base import Progress, Resources, State, StepResult
from rlhf_engine.algorithms.credit import Credit, EvaluatedGroup, token_pushes
from rlhf_engine.algorithms.kl_coefficient import KLCoefficient
from rlhf_engine.algorithms.learners import Learners
from rlhf_engine.algorithms.on_policy import (
    Clock,
    Evaluated,
    OnPolicy,
    UpdateOne,
    Updates,
    nothing_learnt,
    response_length,
)
from rlhf_engine.algorithms.passes import Forward
from rlhf_engine.algorithms.report import rollout_metrics, shown_samples
from rlhf_engine.algorithms.scoring import Scoring, finite_scores
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.learning.optimizer import learning_rate_at
from rlhf_engine.maths.estimators import kl_k1, summed
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.rewards.composite import ScoredBatch

_NUMBERS = ("kl_coef", "token_count")


@dataclass
class Turn:
    """One step under way. answers: once there are any."""

    number: int
    progress: Progress
    clock: Clock = field(default_factory=Clock)
    answers: Answers | None = None

    def failed(self, error: NonFiniteError, updates: int) -> StepResult:
        """The step, where its responses cannot be learned from. updates: how many were meant to be taken."""
        known = {} if self.answers is None else {
            "objective/scores": fmean(score.total for score in self.answers.scored.scores),
            "completions/mean_length": response_length(self.answers.rollout)}
        return StepResult(nothing_learnt(known, updates), nonfinite=str(error))


@dataclass(frozen=True)
class Answers:
    """The responses of a step, and what they score."""

    rollout: Rollout
    scoring: Scoring

    @property
    def scored(self) -> ScoredBatch:
        """What the rewards give, which are asked when this is looked at first (see `Scoring`)."""
        return self.scoring.result()

    @cached_property
    def scores(self) -> Tensor:
        """float64 [batch], of `scored`. Raises NonFiniteError."""
        return finite_scores(self.scored)

    @property
    def mask(self) -> Tensor:
        """bool [batch, time]: tokens of responses."""
        return self.rollout.response_mask


@dataclass(frozen=True)
class Told:
    """What actor and reference say of the answers, nats, under the weights that sampled: [batch, time] each.

    Without a reference `reference_log_probs` is None, and every KL is 0.
    """

    answers: Answers
    log_probs: Tensor
    entropy: Tensor
    reference_log_probs: Tensor | None
    passes: Evaluated

    @classmethod
    def of_group(cls, group: EvaluatedGroup, *, reference: bool) -> Told:
        """The same of a group that is to be learned from by nobody. reference: whether the method asks it."""
        answers = Answers(group.rollout, Scoring(lambda: group.scored, now=True))
        return cls(answers, group.log_probs, group.entropy, group.reference_log_probs if reference else None,
                   Evaluated({}, {}, group.all_rows))

    @property
    def token_kl(self) -> Tensor:
        """Log-ratio to the reference (k1) of each token, nats."""
        if self.reference_log_probs is None:
            return torch.zeros_like(self.log_probs)
        return kl_k1(self.log_probs, self.reference_log_probs)


@dataclass(frozen=True)
class Lesson:
    """What the rows of a step teach: numbers of each response, and the log-probs under which it was sampled.

    advantages: float [batch]. weights: float [batch], what a token of each response counts, where a loss weighs them.
    """

    told: Told
    advantages: Tensor
    weights: Tensor | None = None

    def action_count(self, rows: Tensor) -> float:
        """Responses in these rows: what the loss of a minibatch is divided by."""
        return float(len(rows))

    def part(self, rows: Tensor) -> Part:
        """These rows, without columns that are padding in all of them."""
        rollout, reference = self.told.answers.rollout, self.told.reference_log_probs
        ids, mask, response_mask = rollout.batch(rows)
        there, width = rollout.on_device(rows), response_mask.shape[1]
        return Part(ids, mask, response_mask, self.told.log_probs[there, :width],
                    None if reference is None else reference[there, :width], self.advantages[there],
                    None if self.weights is None else self.weights[there])


@dataclass(frozen=True)
class Part:
    """Some rows, ready for a forward pass. ids, mask: [rows, time], of which the last `width` columns are the response;
    log-probs: [rows, width]; advantages, weights: [rows]."""

    ids: Tensor
    mask: Tensor
    response_mask: Tensor
    old_log_probs: Tensor
    reference_log_probs: Tensor | None
    advantages: Tensor
    weights: Tensor | None

    @property
    def width(self) -> int:
        """Response columns."""
        return self.response_mask.shape[1]


def credit_of(lesson: Lesson, rows: Tensor, loss: Callable[[Part, Tensor, float], Any]) -> Credit:
    """What a lesson teaches in one minibatch of `rows`; the advantages of what is left out are 0."""
    learned = torch.zeros(len(lesson.advantages), dtype=torch.bool)
    learned[rows] = True
    return Credit(torch.where(learned.to(lesson.advantages.device), lesson.advantages, 0.0),
                  token_pushes(lesson, lesson.told.log_probs, rows, loss))


class ActorLearner:
    """All of an `Algorithm` but its `step`."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        self.config, self.policy = config, resources.policy
        self.learners = Learners(config, resources)
        self.on_policy = OnPolicy(config, resources, self.learners)
        self.kl = KLCoefficient(config)
        self.token_count = 0

    def step(self, number: int, batch: PromptBatch, progress: Progress) -> StepResult:
        """See `Algorithm.step`: made of the parts that follow."""
        raise NotImplementedError

    # --- the parts of a step ---

    @property
    def penalty(self) -> float | None:
        """β, in score per nat of KL; None for a method that takes none off its scores."""
        return self.kl.value

    def rate(self, number: int) -> float:
        """The learning rate of step `number`."""
        return learning_rate_at(number, self.config.optimizer, self.config.train.steps)

    def answer(self, turn: Turn, batch: PromptBatch, each: int = 1) -> Answers:
        """`each` responses to every prompt, those to one prompt together, and their scores: looked at before
        `evaluate`, these keep a GPU waiting for the rewards."""
        batch = batch.repeated(each)
        rollout = self.on_policy.roll_out(batch, turn.progress)
        turn.clock.lap("rollout")
        turn.answers = Answers(rollout, self.on_policy.scoring(turn.number, batch, rollout, turn.progress))
        return turn.answers

    def evaluate(self, turn: Turn, answers: Answers, minibatches: list[Tensor], *, reference: bool) -> Told:
        """What actor and reference say of the answers; the rewards have been asked by then. Raises NonFiniteError where
        log-probs are no numbers."""
        on_policy = self.on_policy
        forwards: dict[str, Forward] = {"reference": on_policy.reference_log_probs} if reference else {}
        passes = on_policy.evaluate(
            answers.rollout, forwards | {"actor": on_policy.log_probs}, ["actor"] if minibatches else [],
            minibatches[0] if minibatches else torch.arange(len(answers.rollout)), turn.progress)
        log_probs, entropy = passes.outputs["actor"]
        answers.scoring.result()  # before any number of the passes is looked at: a GPU is still at them
        told = Told(answers, log_probs, entropy, passes.outputs["reference"][0] if reference else None, passes)
        with record_function("score: log-probs"):  # looks at numbers: here a GPU is waited for
            finite = bool(torch.isfinite(summed(log_probs + told.token_kl, answers.mask)).all())
        if not finite:
            raise NonFiniteError("log-probabilities of the sampled responses are not finite")
        return told

    def update(self, turn: Turn, told: Told, minibatches: list[Tensor], update: UpdateOne) -> Updates:
        """`update` on every minibatch; none where nothing is to be learned from."""
        turn.clock.lap("score")
        done = self.on_policy.update(minibatches, {"actor": update}, told.passes, turn.progress)
        turn.clock.lap("update")
        return done

    def result(
        self, turn: Turn, told: Told, minibatches: list[Tensor], updates: Updates, own: Mapping[str, float],
        per_response: Mapping[str, Tensor], per_token: Mapping[str, Tensor] | None = None,
    ) -> StepResult:
        """What the step led to, and β for the next one. minibatches: rows of responses; own: metrics of the method;
        per_response: [batch], and per_token: [batch, time], what "see why" shows of each response and its tokens."""
        answers, kl = told.answers, summed(told.token_kl, told.answers.mask)
        learned = torch.zeros(len(answers.rollout), dtype=torch.bool)
        for place in updates.learned:
            learned[minibatches[place]] = True
        self.token_count += int(answers.rollout.lengths[1][learned].sum())
        metrics = rollout_metrics(
            answers.rollout, answers.scored, log_probs=told.log_probs, reference_log_probs=told.reference_log_probs,
            entropy=told.entropy, kl_coef=self.penalty, ends=bool(self.policy.end_ids)) | updates.metrics
        metrics |= {**own, "lr": self.rate(turn.number), "num_tokens": float(self.token_count)}
        metrics |= turn.clock.metrics(len(answers.rollout))
        series = {**(per_token or {}), "log_probs": told.log_probs}
        if told.reference_log_probs is not None:
            series |= {"reference_log_probs": told.reference_log_probs, "kl": told.token_kl}
            if self.penalty is not None:
                self.kl.adapt(self.config, metrics["objective/kl"], turn.number)
        samples = shown_samples(
            answers.rollout, answers.scored.scores, self.policy.texts, self.config.train.samples_per_step, turn.number,
            response_kl=None if told.reference_log_probs is None else kl, per_token=series, per_response=per_response)
        operations = self.on_policy.operations(
            answers.rollout, dict.fromkeys(told.passes.outputs, True), minibatches[:updates.taken], ["actor"],
            told.passes)
        return StepResult(metrics, samples, operations, updates.nonfinite)

    # --- the rest of an `Algorithm` ---

    def reconfigure(self, config: RunConfig) -> None:
        """See `Algorithm.reconfigure`."""
        self.kl.reconfigure(self.config, config)
        self.config = self.on_policy.config = config

    def computes(self) -> bool:
        """See `Algorithm.computes`."""
        return self.learners.compute(self.config.sampling.temperature)

    def state(self) -> State:
        """See `Algorithm.state`."""
        found = self.learners.state()
        own: dict[str, Any] = self.kl.numbers() | {"token_count": self.token_count}
        return State(found.tensors, own | found.numbers)

    def require_fit(self, state: State) -> None:
        """See `Algorithm.require_fit`."""
        self.learners.require_fit(state, _NUMBERS)

    def load_state(self, state: State) -> None:
        """See `Algorithm.load_state`."""
        self.require_fit(state)
        self.learners.load_state(state)
        self.kl.load(state.numbers)
        self.token_count = int(state.numbers["token_count"])
