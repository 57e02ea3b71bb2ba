"""Supervised fine-tuning: cross-entropy on texts, or on responses to prompts.

loss = mean of −log π(token | what stands before it) over the tokens that are learned: those of the responses, each with
its end token (Ouyang et al. 2022, section 3.5), or by choice those of the prompts too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_engine.algorithms.base import Progress, Resources, State, StepResult
from rlhf_engine.algorithms.learners import Learners
from rlhf_engine.algorithms.on_policy import Clock
from rlhf_engine.algorithms.text_lesson import TextLesson, TextPart, learned_log_probs, why_not_packed
from rlhf_engine.algorithms.text_rows import TextReader, TextRow, texts_of
from rlhf_engine.config.methods.sft import SFTConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import TextBatch
from rlhf_engine.data.rows import Rows
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.events import Sample
from rlhf_engine.learning.optimizer import learning_rate_at
from rlhf_engine.learning.update import AdapterUpdate, micro_batches
from rlhf_engine.models.flops import BatchCost, ModelSize
from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.micro_batch import choose_micro_batch_size
from rlhf_engine.models.token_texts import token_texts
from rlhf_engine.token_trace import TokenTrace

_ROOM = 2048  # tokens of a packed sequence, where nothing says how many a model can tell apart
_MOST_NATS = 80.0  # of a loss whose exp is told
_NUMBERS = ("token_count", "best_held_out_loss")


class CrossEntropy(NamedTuple):
    """Means over the tokens of a minibatch: of −log p, of the distributions' entropy, of hits."""

    loss: Tensor
    entropy: Tensor
    accuracy: Tensor


class SFT:
    """See `rlhf_engine.algorithms.base.Algorithm`."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        self.config, self.policy = config, resources.policy
        self.learners = Learners(config, resources)
        self.reader = TextReader(self.policy, self.settings)
        width, left_out = self.reader.look_through(resources.rows)
        self.room = self._room(resources)
        size = choose_micro_batch_size(self.policy, self.settings.minibatch_size, self.room or width)
        self.limit = MicroBatchLimit(config.train.micro_batch_size or size, resources.tell)
        self.size = ModelSize.of_model(self.policy.base, self.policy.text_parameters)
        self.actor = AdapterUpdate(self.learners.optimizers["actor"], self.limit, self._forward, cross_entropy, {
            "loss": "loss", "entropy": "entropy", "accuracy": "mean_token_accuracy"})
        self.token_count, self.best_held_out_loss = 0, math.inf
        self._told: dict[int, Tensor] = {}
        if left_out:
            resources.tell(left_out)

    def step(self, number: int, batch: TextBatch, progress: Progress = lambda phase, fraction: None) -> StepResult:
        """See `Algorithm.step`."""
        clock, optimizer = Clock(), self.config.optimizer
        rate = learning_rate_at(number, optimizer, self.config.train.steps)

        # 1. Texts as tokens; the order in which rows come is shuffled already.
        rows, size = self.reader.rows(batch), self.settings.minibatch_size
        minibatches = [rows[start:start + size] for start in range(0, len(rows), size)]

        # 2. Each minibatch one optimizer step down its mean loss.
        records, skipped, shown, operations = list[dict[str, float]](), list[str](), list[Sample](), 0.0
        with self.policy.updating():
            for done, minibatch in enumerate(minibatches):
                progress("update", done / len(minibatches))
                lesson, self._told = TextLesson(minibatch, self.policy, self.room), {}
                try:
                    records.append(self.actor.step(lesson.all, lesson, rate, optimizer.max_grad_norm))
                except NonFiniteError as error:
                    skipped.append(str(error))
                    continue
                self.token_count += int(lesson.action_count(lesson.all))
                shown += self._samples(number, minibatch, self.config.train.samples_per_step - len(shown))
                operations += self._operations(minibatch)
        clock.lap("update")

        # 3. What it came to.
        metrics = {name: fmean(record[name] for record in records) for name in (records[0] if records else ())}
        if records:
            metrics["perplexity"] = perplexity(metrics["loss"])
        metrics |= {"policy/updates": float(len(records)), "train/skipped_updates": float(len(skipped)), "lr": rate,
                    "num_tokens": float(self.token_count), **clock.metrics(len(rows))}
        return StepResult(metrics, tuple(shown), operations, " and ".join(dict.fromkeys(skipped)))

    @torch.no_grad()
    def measure_held_out(self, rows: Rows) -> dict[str, float]:
        """See `MeasuresHeldOut`: the loss over all tokens of the rows, in one mean."""
        lesson = TextLesson(self.reader.rows(texts_of(rows, range(len(rows)))), self.policy, self.room)
        if not lesson.rows:
            return {}

        def attempt() -> list[float]:
            told = [self._forward(lesson.part(chosen)) for chosen in micro_batches(lesson.all, self.limit.size)]
            count = lesson.action_count(lesson.all)
            return torch.stack([torch.stack(cross_entropy(None, one, count)) for one in told]).sum(0).tolist()

        loss, _, accuracy = self.limit.fit(attempt)
        if not math.isfinite(loss):
            raise NonFiniteError("the held-out loss is not finite")
        self.best_held_out_loss = min(loss, self.best_held_out_loss)
        return {"eval/loss": loss, "eval/best_loss": self.best_held_out_loss, "eval/perplexity": perplexity(loss),
                "eval/mean_token_accuracy": accuracy}

    # --- parts of a step ---

    def _forward(self, part: TextPart) -> Tensor:
        """[3, tokens]: log-probs with gradient, entropies, and whether the token was the likeliest."""
        found = learned_log_probs(self.policy, part)
        told = torch.stack([found.log_probs, found.entropy, (found.log_probs >= found.best).float()])
        for row, of_row in zip(part.rows, told.detach().split(part.counts, dim=1), strict=True):
            if row < self.config.train.samples_per_step:
                self._told[row] = of_row
        return told

    def _samples(self, number: int, rows: Sequence[TextRow], most: int) -> Iterator[Sample]:
        """The first of the rows, with what the model said of each token before it learned them."""
        for at, row in enumerate(rows[:max(0, most)]):
            text = self.policy.texts.decode([row.response_ids], [row.prompt_ids])[0]
            learned = row.learned[-len(row.response_ids):]
            trace = None
            if all(learned):
                told = self._told[at][:, -len(learned):].float().tolist()
                texts = token_texts(row.response_ids, text, self.policy.texts.decoder_after(row.prompt_ids))
                trace = TokenTrace(texts, {"log_probs": tuple(told[0]), "entropy": tuple(told[1])},
                                   {"loss": -fmean(told[0])})
            yield Sample(number, row.prompt, text, None, {}, None, len(row.response_ids), row.whole, trace=trace)

    def _operations(self, rows: Sequence[TextRow]) -> float:
        cost = BatchCost(self.size, torch.tensor([len(row.ids) for row in rows]),
                         torch.tensor([row.count for row in rows]))
        return cost.forward(None, head=True) + cost.backward(None, head=True)

    def _room(self, resources: Resources) -> int | None:
        """Tokens of a packed sequence; None: nothing is packed."""
        if not self.settings.packing:
            return None
        if why := why_not_packed(self.policy):
            resources.tell(f"algorithm.packing: {type(self.policy.base).__name__} cannot be packed for: {why}; each "
                           "text is a row of its own, with the same result")
            return None
        return self.reader.limit or _ROOM

    # --- the rest of an `Algorithm` ---

    @property
    def settings(self) -> SFTConfig:
        """The section [algorithm]."""
        assert isinstance(self.config.algorithm, SFTConfig)
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
        own = {"token_count": self.token_count, "best_held_out_loss": best if math.isfinite(best) else None}
        return State(found.tensors, own | found.numbers)

    def require_fit(self, state: State) -> None:
        """See `Algorithm.require_fit`."""
        self.learners.require_fit(state, _NUMBERS)

    def load_state(self, state: State) -> None:
        """See `Algorithm.load_state`."""
        self.require_fit(state)
        self.learners.load_state(state)
        self.token_count, best = int(state.numbers["token_count"]), state.numbers["best_held_out_loss"]
        self.best_held_out_loss = math.inf if best is None else float(best)


def cross_entropy(part: object, told: Tensor, token_count: float) -> CrossEntropy:
    """told: [3, tokens], log-probs, entropies, hits; token_count: tokens of the whole minibatch."""
    return CrossEntropy(-told[0].sum() / token_count, told[1].sum() / token_count, told[2].sum() / token_count)


def perplexity(loss: float) -> float:
    """exp(loss), as far as a chart has any use for it."""
    return math.exp(min(loss, _MOST_NATS))


