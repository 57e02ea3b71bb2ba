"""What every method does that learns from its own samples: roll out, score, evaluate, go through minibatches.

What it learns from them is the method's: see `ppo`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.profiler import record_function

from rlhf_engine.algorithms.base import Progress, Resources
from rlhf_engine.algorithms.learners import Learners
from rlhf_engine.algorithms.passes import Forward, ReusedRows, evaluate
from rlhf_engine.algorithms.scoring import Scoring
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import ModelError, NonFiniteError
from rlhf_engine.learning.update import micro_batches
from rlhf_engine.models.choice import INVERSE_CDF
from rlhf_engine.models.flops import BatchCost, ModelSize
from rlhf_engine.models.memory import MicroBatchLimit, out_of_memory
from rlhf_engine.models.micro_batch import choose_micro_batch_size
from rlhf_engine.models.rollout import Rollout, sample
from rlhf_engine.rewards.composite import RewardSum, ScoredBatch

SMALL_MODEL = 20_000_000  # parameters

UpdateOne = Callable[[Tensor, Tensor | None], dict[str, float]]
"""(rows of a minibatch, the reused output of its first micro-batch) -> metrics of one optimizer step."""


class ResponsePart(Protocol):
    """Some rows, ready for a forward pass. ids, mask: [rows, time], of which the last `width` columns are the
    response."""

    @property
    def ids(self) -> Tensor: ...
    @property
    def mask(self) -> Tensor: ...
    @property
    def width(self) -> int: ...


class Evaluated(NamedTuple):
    """What the passes over a rollout gave, by the name of what was evaluated. outputs: [batch, time] each; reused:
    those of the rows that are learned from first, with gradient; reused_rows: which these are."""

    outputs: dict[str, tuple[Tensor, ...]]
    reused: dict[str, Tensor]
    reused_rows: Tensor


@dataclass
class Updates:
    """What a step's minibatches led to. metrics: means over them; taken: how many; skipped: sentences about updates
    that were not finite; learned: the places of the minibatches of which none was skipped."""

    metrics: dict[str, float]
    taken: int
    skipped: list[str]
    learned: list[int] = field(default_factory=list)

    @property
    def nonfinite(self) -> str:
        """Why updates were skipped; empty if none were."""
        return " and ".join(dict.fromkeys(self.skipped))


@dataclass
class Clock:
    """Seconds of the phases of a step, as metrics."""

    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def lap(self, phase: str) -> None:
        """All since the last lap was `phase`."""
        now = time.perf_counter()
        self.seconds[f"time/{phase}"] = now - self.started - sum(self.seconds.values())

    def metrics(self, rows: int) -> dict[str, float]:
        """The phases, and how many of the step's responses were learned from in a second."""
        return {**self.seconds, "throughput/responses_per_s": rows / sum(self.seconds.values())}


class OnPolicy:
    """Samples, scores and evaluates for one method, within the memory that there is."""

    def __init__(self, config: RunConfig, resources: Resources, learners: Learners) -> None:
        self.config, self.learners = config, learners
        self.resources, self._idle_rewards = resources, set[str]()
        self.size = ModelSize.of_model(resources.policy.base, resources.policy.text_parameters)
        width = max(map(len, resources.policy.texts.encode(resources.rows.prompts))) + config.sampling.max_new_tokens
        rows = choose_micro_batch_size(resources.policy, config.algorithm.rows_per_update, width)
        self.limit = MicroBatchLimit(config.train.micro_batch_size or rows, resources.tell)

    def minibatches(self, count: int, size: int, epochs: int) -> list[Tensor]:
        """The rows of every minibatch of a step, shuffled anew in each epoch."""
        shuffled = [torch.randperm(count, generator=self.learners.shuffle_generator) for _ in range(epochs)]
        return [rows for order in shuffled for rows in order.split(size)]

    def roll_out(self, batch: PromptBatch, progress: Progress) -> Rollout:
        """The actor's responses to the prompts. Raises NonFiniteError when its probabilities are no numbers."""
        limit = self.config.sampling.max_new_tokens
        report = max(1, limit // 8)

        def on_token(tokens: list[Tensor]) -> None:
            if len(tokens) % report == 0:
                progress("rollout", len(tokens) / limit)

        policy = self.resources.policy
        try:
            with policy.as_role("actor"):
                return sample(
                    policy,
                    batch.prompts,
                    self.config.sampling,
                    self.learners.sampling_generator,
                    decoder=self.resources.decoder,
                    draw=INVERSE_CDF,
                    on_token=on_token,
                )
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise ModelError("out of memory while sampling: lower algorithm.responses_per_step or "
                             "sampling.max_new_tokens") from error

    def scoring(self, step: int, batch: PromptBatch, rollout: Rollout, progress: Progress) -> Scoring:
        """What the rewards give each response to `batch`. They are asked when the result is: after the evaluation was
        asked for, a GPU computes meanwhile. Those that read with a model on that GPU are asked now instead: they would
        wait for it, want its memory beside the passes that are kept, and may touch the weights that these read."""
        rewards = self.resources.rewards
        assert rewards is not None, "a method that samples is not started without rewards"

        def score() -> ScoredBatch:
            return self._score(rewards, step, batch, rollout, progress)

        return Scoring(score, now=rewards.reads_with_model_on(self.resources.policy.device.type))

    def _score(
        self, rewards: RewardSum, step: int, batch: PromptBatch, rollout: Rollout, progress: Progress
    ) -> ScoredBatch:
        progress("reward", 0.0)  # a phase of its own: somebody's function may take its time
        with record_function("score: rewards"):
            scored = rewards.score(rollout.prompts, rollout.responses, batch.columns)
        progress("score", 0.0)
        # once for each that applies to no response of a step: it may well be meant, or a mistake in its code
        for name, totals in scored.by_reward.items():
            if name not in self._idle_rewards and all(total is None for total in totals):
                self._idle_rewards.add(name)
                self.resources.tell(f"step {step}: the reward {name!r} applied to none of the {len(totals)} responses "
                                     "(it gave None for each) and added nothing")
        return scored

    def evaluate(
        self, rollout: Rollout, forwards: Mapping[str, Forward], learning: list[str], first_rows: Tensor,
        progress: Progress = lambda phase, fraction: None,
    ) -> Evaluated:
        """Each of `forwards` over the rollout, once. learning: those that are updated, the most useful to keep first.
        On a GPU this is asked for, and done by the time that somebody looks at a number of it.

        The passes of the first micro-batch of `first_rows` are kept where the update would repeat them exactly, which
        is without dropout. One needs no more memory than its update; the others beside it are for small models.
        """

        def attempt() -> Evaluated:
            rows = micro_batches(first_rows, self.limit.size)[0]
            small = self.resources.policy.parameter_count < SMALL_MODEL
            keep = [] if self.config.lora.dropout else learning if small else learning[:1]
            reused = ReusedRows(rows, keep) if keep else None
            return Evaluated(*evaluate(rollout, forwards, self.limit.size, reused), rows)

        progress("score", 0.0)
        return self.limit.fit(attempt)

    def log_probs(self, ids: Tensor, mask: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """The actor's log-probs and entropies of the last `width` tokens, [rows, width], nats; the first with
        gradient."""
        policy, temperature = self.resources.policy, self.config.sampling.temperature
        told = policy.log_probs("actor", ids, mask, width, temperature, with_entropy=True)
        return told.log_probs, told.entropy

    def reference_log_probs(self, ids: Tensor, mask: Tensor, width: int) -> tuple[Tensor]:
        """The reference's log-probs of the last `width` tokens, [rows, width], nats."""
        policy, temperature = self.resources.policy, self.config.sampling.temperature
        return (policy.log_probs("reference", ids, mask, width, temperature).log_probs,)

    def log_probs_of(self, part: ResponsePart) -> Tensor:
        """The actor's log-probs of some rows as it is now, [rows, width], nats, with gradient."""
        policy, temperature = self.resources.policy, self.config.sampling.temperature
        return policy.log_probs("actor", part.ids, part.mask, part.width, temperature).log_probs

    def update(
        self,
        minibatches: list[Tensor],
        updates: Mapping[str, UpdateOne],
        evaluated: Evaluated,
        progress: Progress,
        enough: Callable[[Mapping[str, float]], bool] = lambda record: False,
    ) -> Updates:
        """Every update of `updates` on every minibatch, until `enough` says so of a minibatch's metrics. One that is
        not finite is skipped, with the weights as they were."""
        records: list[dict[str, float]] = []
        skipped: list[str] = []
        learned: list[int] = []
        taken = dict.fromkeys(updates, 0)
        reused = dict(evaluated.reused)
        with self.resources.policy.updating():
            for done, rows in enumerate(minibatches):
                progress("update", done / len(minibatches))
                record: dict[str, float] = {}
                failed_before = len(skipped)
                for name, update in updates.items():
                    try:
                        record |= update(rows, reused.pop(name, None))
                        taken[name] += 1
                    except NonFiniteError as error:
                        skipped.append(str(error))
                if len(skipped) == failed_before:
                    learned.append(done)
                reused = {}  # from now on the weights have changed
                records.append(record)
                if enough(record):
                    break
        keys = dict.fromkeys(key for record in records for key in record)
        means = {key: fmean(record[key] for record in records if key in record) for key in keys}
        means |= {
            "policy/updates": float(taken.get("actor", 0)),
            "train/skipped_updates": float(len(skipped)),
        }
        return Updates(means, len(records), skipped, learned)

    def operations(
        self, rollout: Rollout, heads: Mapping[str, bool], minibatches: list[Tensor], learning: list[str],
        evaluated: Evaluated,
    ) -> float:
        """Floating-point operations of a step by formula: sampled once, then evaluated and updated as was asked for.

        heads: of everything that is evaluated, whether it reads the language model's head.
        """
        prompts, response = rollout.lengths
        cost = BatchCost(self.size, prompts + response, response)
        work = cost.forward(None, head=True) + sum(cost.forward(None, head=head) for head in heads.values())
        for rows in minibatches:
            work += sum(cost.forward(rows, head=heads[name]) + cost.backward(rows, head=heads[name])
                        for name in learning)
        return work - sum(cost.forward(evaluated.reused_rows, head=heads[name]) for name in evaluated.reused)


def response_length(rollout: Rollout) -> float:
    """Mean tokens of a response, the end token included."""
    return rollout.lengths[1].float().mean().item()


def nothing_learnt(known: dict[str, float], updates: int) -> dict[str, float]:
    """The metrics of a step whose responses cannot be learned from: what is known of it, and its updates skipped."""
    return known | {"policy/updates": 0.0, "train/skipped_updates": float(updates)}
