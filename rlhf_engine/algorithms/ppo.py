"""Proximal policy optimisation for language models (Schulman et al. 2017; Ziegler et al. 2019; Ouyang et al. 2022).

One step: sample a rollout, score it, evaluate it once under actor, reference and critic, turn scores and KL into
advantages, and take clipped updates over shuffled minibatches. Two levels share all of it:

token     KL, values, advantages (GAE) and ratio per token.
sequence  a response is one action: KL summed and taken off the score, the value read at the last token, one advantage,
          and one ratio of summed log-probs per response. This is how RLHF is often first taught.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from rlhf_engine.algorithms.experience import Experience, First, Kept, evaluate
from rlhf_engine.algorithms.generators import generator_states, require_generators, restore_generators
from rlhf_engine.algorithms.optimizer import AdapterOptimizer, learning_rate_factor
from rlhf_engine.algorithms.report import rollout_metrics, shown_samples
from rlhf_engine.algorithms.score_normalizer import ScoreNormalizer
from rlhf_engine.config.methods.ppo import ppo_settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError, NonFiniteError
from rlhf_engine.events import Sample
from rlhf_engine.maths.kl_control import adapt_kl_coef, kl_horizon
from rlhf_engine.maths.losses import clipped_policy_loss, clipped_value_loss
from rlhf_engine.models.decoding.traced import TracedDecoder
from rlhf_engine.models.flops import Lengths, ModelSize, ppo_step
from rlhf_engine.models.memory import MicroBatchLimit, out_of_memory
from rlhf_engine.models.micro_batch import choose_micro_batch_size
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout, draw_by_inverse, sample
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.composite import ScoredBatch
from rlhf_engine.runs.base_model import require_fit

Progress = Callable[[str, float], None]
Learn = Callable[[Tensor, Experience, float, Tensor | None], dict[str, float]]

SMALL_MODEL = 20_000_000  # parameters
_LOOKED_AT = 16  # tokens of a prompt that show whether weights compute at all; a prompt may be longer than a context


@dataclass(frozen=True)
class StepResult:
    """What one step leaves behind, as plain values. `nonfinite` says why updates were left out; empty if none were."""

    metrics: dict[str, float]
    samples: tuple[Sample, ...]
    operations: float
    """Floating-point operations by formula; see `flops`."""
    nonfinite: str = ""


class PPO:
    """The actor's and critic's learner. Holds everything that must survive a restart; see `state`."""

    def __init__(self, policy: Policy, config: RunConfig, tell: Callable[[str], None] = lambda text: None) -> None:
        """Fresh optimisers and generators for `policy`, seeded by the config. tell: takes sentences for the user."""
        self.policy = policy
        self.config = config
        self._tell = tell
        self._idle_rewards: set[str] = set()
        self.decoder = TracedDecoder(policy, tell)
        self.size = ModelSize.of_model(policy.base, policy.text_parameters)
        self.rewards = build_rewards(config.rewards)
        self.actor_optimizer = AdapterOptimizer("actor", policy.adapters["actor"], config.optimizer)
        self.critic_optimizer = AdapterOptimizer("critic", policy.adapters["critic"], config.optimizer)
        self.sampling_generator = torch.Generator(policy.device).manual_seed(config.train.seed)
        self.shuffle_generator = torch.Generator().manual_seed(config.train.seed)
        self.normalizer = ScoreNormalizer()
        self.kl_coef = config.kl.coef
        self.token_count = 0
        width = max(map(len, policy.texts.encode(config.data.prompts))) + config.sampling.max_new_tokens
        rows = config.algorithm.rows_per_update
        self.limit = MicroBatchLimit(
            config.train.micro_batch_size or choose_micro_batch_size(policy, rows, width), tell)

    def reconfigure(self, config: RunConfig) -> None:
        """Take over live edits; from the next step on."""
        if config.kl.coef != self.config.kl.coef:
            self.kl_coef = config.kl.coef
        self.rewards = build_rewards(config.rewards)
        self.config = config

    def step(self, step: int, prompts: list[str], progress: Progress = lambda phase, fraction: None) -> StepResult:
        """Step number `step` (from 1) on these prompts. Updates that are not finite are left out, with the weights as
        they were, and counted. Raises RewardError and ModelError."""
        started = time.perf_counter()
        try:
            rollout = self._sample(prompts, progress)
        except NonFiniteError as error:  # there are no responses that a reward could be asked about
            return self._nothing_learnt(step, {}, len(list(self._minibatches(len(prompts)))), str(error))
        sampled = time.perf_counter()
        progress("reward", 0.0)  # a phase of its own: somebody's function may take its time
        with record_function("score: rewards"):
            scored = self.rewards.score(rollout.prompts, rollout.responses)
        progress("score", 0.0)
        self._tell_of_rewards_that_do_not_apply(step, scored)
        minibatches = list(self._minibatches(len(rollout)))
        try:
            experience, kept = self._evaluate(step, rollout, scored, minibatches[0])
        except NonFiniteError as error:
            known = {
                "objective/scores": fmean(score.total for score in scored.scores),
                "completions/mean_length": rollout.response_mask.sum(1).float().mean().item(),
            }
            return self._nothing_learnt(step, known, len(minibatches), str(error))
        evaluated = time.perf_counter()
        updates, taken, nonfinite = self._update(step, experience, minibatches, kept, progress)
        self.token_count += int(experience.mask.sum())
        finished = time.perf_counter()
        metrics = rollout_metrics(experience, scored, self.kl_coef, ends=bool(self.policy.end_ids)) | updates
        metrics |= {
            "num_tokens": float(self.token_count),
            "time/rollout": sampled - started,
            "time/score": evaluated - sampled,
            "time/update": finished - evaluated,
            "throughput/responses_per_s": len(prompts) / (finished - started),
        }
        self._adapt_kl_coef(metrics["objective/kl"], len(prompts))
        operations = self._operations(step, rollout, minibatches[:taken], kept)
        samples = shown_samples(experience, scored, self.policy.texts, self.config, metrics["kl_coef"], step)
        return StepResult(metrics, samples, operations, nonfinite)

    # --- the parts of a step ---

    def _tell_of_rewards_that_do_not_apply(self, step: int, scored: ScoredBatch) -> None:
        """Once for each that applies to no response of a step: it may well be meant, or a mistake in its code."""
        for name, totals in scored.by_reward.items():
            if name not in self._idle_rewards and all(total is None for total in totals):
                self._idle_rewards.add(name)
                self._tell(f"step {step}: the reward {name!r} applied to none of the {len(totals)} responses (it gave "
                           "None for each) and added nothing")

    def _sample(self, prompts: list[str], progress: Progress) -> Rollout:
        limit = self.config.sampling.max_new_tokens
        report = max(1, limit // 8)

        def on_token(tokens: list[Tensor]) -> None:
            if len(tokens) % report == 0:
                progress("rollout", len(tokens) / limit)

        with self.policy.as_role("actor"):
            return sample(
                self.policy,
                prompts,
                self.config.sampling,
                self.sampling_generator,
                decoder=self.decoder,
                choose=draw_by_inverse,
                on_token=on_token,
            )

    def _evaluate(
        self, step: int, rollout: Rollout, scored: ScoredBatch, first_rows: Tensor
    ) -> tuple[Experience, Kept]:
        raw = torch.tensor([score.total for score in scored.scores], dtype=torch.float64)  # on the CPU: mps has none
        moments = self.normalizer.state()
        try:
            normalized = self.normalizer(raw, ppo_settings(self.config).score_normalization)
            scores = normalized.to(self.policy.device, torch.float32)
            if not (torch.isfinite(raw.float()).all() and math.isfinite(self.normalizer.variance)):
                raise NonFiniteError("scores are too large to compute with")

            def attempt() -> tuple[Experience, Kept]:
                first = self._first(step, first_rows)
                return evaluate(self.policy, rollout, scores, self.config, self.kl_coef, self.limit.size, first)

            return self.limit.fit(attempt)
        except NonFiniteError:
            self.normalizer.load_state(moments)  # running means would never forget an infinity
            raise

    def _first(self, step: int, rows: Tensor) -> First | None:
        """The first micro-batch's passes are kept where the update would repeat them exactly, which is without dropout.

        Keeping the actor's needs no more memory than its update; the critic's beside it is for small models.
        """
        if self.config.lora.dropout:
            return None
        rows = self._micro_batches(rows)[0]
        return First(rows, self._actor_learns(step), self.policy.parameter_count < SMALL_MODEL)

    def _actor_learns(self, step: int) -> bool:
        return step > ppo_settings(self.config).critic_warmup_steps

    def _update(
        self, step: int, experience: Experience, minibatches: list[Tensor], kept: Kept, progress: Progress
    ) -> tuple[dict[str, float], int, str]:
        """Minibatch updates of actor and critic; the means of their statistics over the updates, how many minibatches
        were taken, and why some updates were left out."""
        config = self.config
        factor = learning_rate_factor(step, config.optimizer, config.train.steps)
        records: list[dict[str, float]] = []
        left_out: list[str] = []
        with self.policy.updating():
            for done, rows in enumerate(minibatches):
                progress("update", done / len(minibatches))
                record: dict[str, float] = {}
                rate = ppo_settings(config).critic_learning_rate
                learners = [("critic", self._update_critic, rate * factor, kept.values)]
                if self._actor_learns(step):
                    actor = ("actor", self._update_actor, config.optimizer.learning_rate * factor, kept.log_probs)
                    learners.insert(0, actor)
                for name, learn, rate, passes in learners:
                    try:
                        with record_function(f"update: {name}"):
                            record |= self._fitting(learn, rows, experience, rate, passes)
                    except NonFiniteError as error:
                        left_out.append(str(error))
                kept = Kept(None, None)  # from now on the weights are others
                records.append(record)
                target = ppo_settings(config).target_kl
                if target is not None and record.get("policy/approxkl_avg", 0.0) > target:
                    break
        keys = dict.fromkeys(key for record in records for key in record)
        means = {key: fmean(record[key] for record in records if key in record) for key in keys}
        means |= {
            "policy/updates": float(sum("grad_norm/actor" in record for record in records)),
            "train/skipped_updates": float(len(left_out)),
            "lr": config.optimizer.learning_rate * factor,
        }
        return means, len(records), " and ".join(dict.fromkeys(left_out))

    def _fitting(
        self, learn: Learn, rows: Tensor, experience: Experience, rate: float, kept: Tensor | None
    ) -> dict[str, float]:
        """An update in as many portions as memory asks for; kept passes serve once, for the portion they were of."""
        unused = [kept]

        def attempt() -> dict[str, float]:
            passes = unused.pop() if unused else None
            fits = passes is not None and len(passes) == len(self._micro_batches(rows)[0])
            return learn(rows, experience, rate, passes if fits else None)

        return self.limit.fit(attempt)

    def _operations(self, step: int, rollout: Rollout, updates: list[Tensor], kept: Kept) -> float:
        response = rollout.response_mask.sum(dim=1)
        lengths = Lengths((rollout.prompt_mask.sum(dim=1) + response).cpu(), response.cpu())
        again = sum(passes is not None for passes in kept)
        learns, rows = self._actor_learns(step), self._micro_batches(updates[0])[0]
        return ppo_step(self.size, lengths, updates, actor_learns=learns, kept=again, kept_rows=rows)

    def _nothing_learnt(self, step: int, known: dict[str, float], minibatches: int, why: str) -> StepResult:
        """A step whose responses cannot be learnt from: what is known of it, and all its updates left out."""
        metrics = known | {
            "policy/updates": 0.0,
            "train/skipped_updates": float(minibatches * (1 + self._actor_learns(step))),
        }
        return StepResult(metrics, (), 0.0, why)

    def _minibatches(self, count: int) -> Iterator[Tensor]:
        settings = ppo_settings(self.config)
        for _ in range(settings.epochs):
            yield from torch.randperm(count, generator=self.shuffle_generator).split(settings.minibatch_size)

    def _micro_batches(self, rows: Tensor) -> tuple[Tensor, ...]:
        portions = math.ceil(len(rows) / self.limit.size)
        return rows.split(math.ceil(len(rows) / portions))  # equal ones: a small rest would take as long as a whole

    def _update_actor(
        self, rows: Tensor, experience: Experience, learning_rate: float, kept: Tensor | None = None
    ) -> dict[str, float]:
        self.actor_optimizer.zero_grad()
        normalizer = experience.action_count(rows)
        totals = torch.zeros(4, device=self.policy.device)
        for micro in self._micro_batches(rows):
            part = experience.part(micro)
            log_probs, kept = kept, None  # of the first micro-batch
            if log_probs is None:
                temperature = self.config.sampling.temperature
                log_probs = self.policy.log_probs("actor", part.ids, part.mask, part.width, temperature).log_probs
            outcome = clipped_policy_loss(
                part.actions(log_probs),
                part.old_log_probs,
                part.advantages,
                part.action_mask,
                clip_range=ppo_settings(self.config).clip_range,
                normalizer=normalizer,
            )
            outcome.loss.backward()
            totals += torch.stack([outcome.loss.detach(), *outcome[1:]])
        norm = self.actor_optimizer.step(learning_rate, self.config.optimizer.max_grad_norm)
        names = ("loss/policy_avg", "policy/clipfrac_avg", "policy/approxkl_avg", "val/ratio")
        return dict(zip(names, totals.tolist(), strict=True)) | {"grad_norm/actor": norm}

    def _update_critic(
        self, rows: Tensor, experience: Experience, learning_rate: float, kept: Tensor | None = None
    ) -> dict[str, float]:
        self.critic_optimizer.zero_grad()
        normalizer = experience.action_count(rows)
        totals = torch.zeros(2, device=self.policy.device)
        for micro in self._micro_batches(rows):
            part = experience.part(micro)
            values, kept = kept, None  # of the first micro-batch
            if values is None:
                values = self.policy.head_values(
                    "value", part.ids, part.mask, part.width, after=experience.sequence_level
                )
            outcome = clipped_value_loss(
                part.state_values(values),
                part.old_values,
                part.returns,
                part.action_mask,
                clip_range=ppo_settings(self.config).value_clip_range,
                normalizer=normalizer,
            )
            outcome.loss.backward()
            totals += torch.stack([outcome.loss.detach(), outcome.clip_fraction])
        norm = self.critic_optimizer.step(learning_rate, ppo_settings(self.config).critic_max_grad_norm)
        return dict(zip(("loss/value_avg", "val/clipfrac_avg"), totals.tolist(), strict=True)) | {
            "grad_norm/critic": norm
        }

    def _adapt_kl_coef(self, observed: float, responses: int) -> None:
        kl, steps = self.config.kl, self.config.train.steps
        if kl.controller == "adaptive":
            horizon = kl_horizon(kl.horizon, responses=responses, steps=steps)
            self.kl_coef = adapt_kl_coef(
                self.kl_coef, observed, target=kl.target, horizon=horizon, responses=responses
            )

    @torch.no_grad()
    def computes(self) -> bool:
        """Whether actor and critic, as they are, have finite numbers to say after the end of the first prompt."""
        ids, mask = (tensor[:, -_LOOKED_AT:] for tensor in self.policy.encode(self.config.data.prompts[:1]))
        try:
            value = self.policy.head_values("value", ids, mask, 1, after=True)
            with self.policy.as_role("actor"):
                hidden = self.policy.forward(ids, mask)[:, -1]
            probabilities = self.policy.next_logits(hidden, self.config.sampling.temperature).softmax(dim=-1)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return True  # of that the next step will tell; nothing says that the weights are broken
        return bool(value.isfinite().all() & probabilities.isfinite().all())

    # --- what survives a restart ---

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, numbers): adapters, value head, optimisers, generators; KL coefficient, moments, token count."""
        tensors = {name: parameter.detach() for name, parameter in self.policy.parameters.items()}
        tensors |= self.actor_optimizer.state() | self.critic_optimizer.state()
        tensors |= generator_states(self.sampling_generator, self.shuffle_generator)
        numbers = {
            "kl_coef": self.kl_coef,
            "token_count": self.token_count,
            "scores": self.normalizer.state(),
            # an optimizer that lost what it knew would pass for one that has not begun
            "moments": {optimizer.name: optimizer.moments() for optimizer in self._optimizers},
        }
        return tensors, numbers

    def require_fit(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Raises CheckpointError unless these are what `state` can have given: every name, shape and type."""
        require_adapters(self.policy, tensors)
        moments = numbers.get("moments", {})  # earlier versions did not count them
        for optimizer in self._optimizers:
            optimizer.require_fit(tensors, moments.get(optimizer.name))
        require_generators(tensors, self.sampling_generator)
        known = ("actor/", "critic/", "generator/", *(f"optimizer/{optimizer.name}/" for optimizer in self._optimizers))
        if unknown := [name for name in tensors if not name.startswith(known)]:
            raise CheckpointError(f"{unknown[0]} is nothing that a run has")
        if missing := [name for name in ("kl_coef", "token_count", "scores") if name not in numbers]:
            raise CheckpointError(f"it has no {missing[0]}")

    def load_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Take over what `state` gave, bit for bit. Raises CheckpointError, with nothing changed, for what does not
        fit."""
        self.require_fit(tensors, numbers)
        load_adapters(self.policy, tensors)
        for optimizer in self._optimizers:
            optimizer.load_state(tensors)
        if restore_generators(tensors, self.sampling_generator, self.shuffle_generator):
            self._tell("the checkpoint was saved on another kind of device: its random numbers for sampling mean "
                       f"nothing to {self.policy.device.type}, and begin anew from train.seed")
        self.kl_coef = float(numbers["kl_coef"])
        self.token_count = int(numbers["token_count"])
        self.normalizer.load_state(numbers["scores"])

    @property
    def _optimizers(self) -> tuple[AdapterOptimizer, AdapterOptimizer]:
        return self.actor_optimizer, self.critic_optimizer


def require_adapters(policy: Policy, tensors: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError unless a checkpoint's adapters and value head are of the names, shapes and types that
    `policy` has."""
    require_fit(_adapters_in(tensors), policy.parameters,
                f"adapters of the checkpoint do not fit {type(policy.base).__name__}")


def load_adapters(policy: Policy, tensors: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's adapters and value head into `policy`. Raises CheckpointError, before it changes anything,
    when they do not fit it."""
    require_adapters(policy, tensors)
    with torch.no_grad():
        for name, parameter in policy.parameters.items():
            parameter.copy_(tensors[name])


def _adapters_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(("actor/", "critic/"))}
