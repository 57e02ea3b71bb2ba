"""Proximal policy optimisation for language models (Schulman et al. 2017; Ziegler et al. 2019; Ouyang et al. 2022).

Before it stands a model that can write (pre-trained, and often fine-tuned on examples), and something that scores what
it writes (word lists, a function, a reward model). `PPO.step` is the method, in order: sample a rollout, score it,
evaluate it once under actor, reference and critic, turn scores and KL into advantages, and take clipped updates over
shuffled minibatches. Two levels share all of it:

token     every token is an action: KL, value, advantage (GAE) and ratio of each.
sequence  a response is one action: KL summed and taken off the score, one value, one advantage, and one ratio of summed
          log-probs per response. This is how RLHF is often first taught.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from rlhf_engine.algorithms.base import Progress, Resources, State, StepResult
from rlhf_engine.algorithms.credit import Credit, EvaluatedGroup, token_pushes
from rlhf_engine.algorithms.experience import Experience, Part, estimate_advantages, state_values
from rlhf_engine.algorithms.kl_coefficient import KLCoefficient
from rlhf_engine.algorithms.learners import Learners
from rlhf_engine.algorithms.on_policy import Clock, OnPolicy, nothing_learnt, response_length
from rlhf_engine.algorithms.passes import Forward, evaluate
from rlhf_engine.algorithms.report import rollout_metrics, shown_samples
from rlhf_engine.algorithms.score_normalizer import ScoreNormalizer
from rlhf_engine.algorithms.scoring import finite_scores
from rlhf_engine.config.methods.ppo import PPOConfig, ppo_settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.events import Sample
from rlhf_engine.learning.optimizer import learning_rate_factor
from rlhf_engine.learning.update import AdapterUpdate
from rlhf_engine.maths.estimators import explained_variance
from rlhf_engine.maths.losses import PolicyLoss, ValueLoss, clipped_policy_loss, clipped_value_loss
from rlhf_engine.models.policy import Policy
from rlhf_engine.rewards.composite import ScoredBatch

# of what a step evaluates, whether it reads the language model's head
_HEADS = {"reference": True, "critic": False, "actor": True}
_NUMBERS = ("kl_coef", "token_count", "scores")
NO_CRITIC = "this run has no critic, so values are 0, as before a critic's first update"


class PPO:
    """The actor's and the critic's learner (an `Algorithm`)."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        self.config, self.policy = config, resources.policy
        self.learners = Learners(config, resources)
        self.on_policy = OnPolicy(config, resources, self.learners)
        self.normalizer = ScoreNormalizer()
        self.kl = KLCoefficient(config)
        self.token_count = 0
        optimizers, limit = self.learners.optimizers, self.on_policy.limit
        self.actor = AdapterUpdate(optimizers["actor"], limit, self.on_policy.log_probs_of, self._policy_loss, {
            "loss": "loss/policy_avg", "clip_fraction": "policy/clipfrac_avg", "approx_kl": "policy/approxkl_avg",
            "ratio_mean": "val/ratio"})
        self.critic = AdapterUpdate(optimizers["critic"], limit, self._values_of, self._value_loss, {
            "loss": "loss/value_avg", "clip_fraction": "val/clipfrac_avg"})

    def step(self, number: int, batch: PromptBatch, progress: Progress = lambda phase, fraction: None) -> StepResult:
        """See `Algorithm.step`."""
        on_policy, settings, optimizer = self.on_policy, self.settings, self.config.optimizer
        clock, known, moments = Clock(), dict[str, float](), self.normalizer.state()
        minibatches = on_policy.minibatches(len(batch.prompts), settings.minibatch_size, settings.epochs)
        # the critic may learn alone at first: advantages over a critic that knows nothing are noise
        learning = ["critic"] if number <= settings.critic_warmup_steps else ["actor", "critic"]
        try:
            # 1. The actor continues the prompts.
            rollout = on_policy.roll_out(batch, progress)
            clock.lap("rollout")

            # 2. Rewards read prompts and responses: those that run a model now, others while a GPU is busy with 3.
            scoring = on_policy.scoring(number, batch, rollout, progress)

            # 3. Log-probs of what was sampled under actor and reference, and the critic's values, once: the ratio of
            #    step 5 and the KL of step 4 are against the weights that sampled.
            evaluated = on_policy.evaluate(
                rollout,
                self.forwards,
                learning,
                minibatches[0],
                progress,
            )
            log_probs, entropy = evaluated.outputs["actor"]
            scored = scoring.result()
            known = {"objective/scores": fmean(score.total for score in scored.scores),
                     "completions/mean_length": response_length(rollout)}

            # 4. Reward = score − β · KL. The plain estimator of KL (k1) penalises, for its mean is the KL whatever was
            #    sampled. An advantage is how much better the return was than the critic's value; centred scores give
            #    the critic numbers around 0 to predict.
            scores = self.normalizer(finite_scores(scored), settings.score_normalization)
            with record_function("score: advantages"):  # looks at numbers: here a GPU is waited for
                experience = estimate_advantages(
                    rollout,
                    scores.to(log_probs, non_blocking=True),
                    log_probs=log_probs,
                    reference_log_probs=evaluated.outputs["reference"][0],
                    entropy=entropy,
                    values=state_values(evaluated.outputs["critic"][0], rollout.response_mask, settings),
                    kl_coef=self.kl_coef,
                    settings=settings,
                )
            clock.lap("score")
        except NonFiniteError as error:  # there is nothing to learn from; running means must not keep an infinity
            self.normalizer.load_state(moments)
            return StepResult(nothing_learnt(known, len(minibatches) * len(learning)), nonfinite=str(error))

        # 5. Clipped updates: a ratio that has moved by more than the clip range has no gradient any more; nor has a
        #    value, so that one minibatch does not pull the critic far from what the advantages were taken with.
        factor = learning_rate_factor(number, optimizer, self.config.train.steps)

        def update_actor(rows: Tensor, reused: Tensor | None) -> dict[str, float]:
            return self.actor.step(rows, experience, optimizer.learning_rate * factor, optimizer.max_grad_norm, reused)

        def update_critic(rows: Tensor, reused: Tensor | None) -> dict[str, float]:
            rate = settings.critic_learning_rate * factor
            return self.critic.step(rows, experience, rate, settings.critic_max_grad_norm, reused)

        every = {"actor": update_actor, "critic": update_critic}
        updates = on_policy.update(
            minibatches, {name: every[name] for name in learning}, evaluated, progress, self._moved_enough)
        clock.lap("update")

        # 6. What it led to; and the penalty for the next step.
        self.token_count += int(rollout.lengths[1].sum())
        metrics = self._metrics_of(experience, scored) | updates.metrics
        metrics |= {"lr": optimizer.learning_rate * factor, "num_tokens": float(self.token_count)}
        metrics |= clock.metrics(len(batch.prompts))
        samples = self._samples_of(number, experience, scored)
        self.kl.adapt(self.config, metrics["objective/kl"], number)
        operations = on_policy.operations(rollout, _HEADS, minibatches[:updates.taken], learning, evaluated)
        return StepResult(metrics, samples, operations, updates.nonfinite)

    # --- what a step tells ---

    def _metrics_of(self, experience: Experience, scored: ScoredBatch) -> dict[str, float]:
        explained = explained_variance(experience.old_values, experience.returns, experience.action_mask)
        return rollout_metrics(
            experience.rollout,
            scored,
            log_probs=experience.log_probs,
            reference_log_probs=experience.reference_log_probs,
            entropy=experience.entropy,
            kl_coef=self.kl_coef,
            ends=bool(self.policy.end_ids),
            others={"val/explained_variance": explained},
        )

    def _samples_of(self, number: int, experience: Experience, scored: ScoredBatch) -> tuple[Sample, ...]:
        per_token = {
            "log_probs": experience.log_probs,
            "reference_log_probs": experience.reference_log_probs,
            "kl": experience.token_kl,
        }
        per_action = {
            "rewards": experience.rewards,
            "values": experience.old_values,
            "returns": experience.returns,
            "raw_advantages": experience.raw_advantages,
            "advantages": experience.advantages,
        }
        whole_responses = experience.sequence_level
        return shown_samples(
            experience.rollout,
            scored.scores,
            self.policy.texts,
            self.config.train.samples_per_step,
            number,
            response_kl=experience.response_kl,
            per_token=per_token if whole_responses else per_token | per_action,
            per_response=per_action if whole_responses else None,
            facts={"kl_coef": self.kl_coef, "whitened": float(self.settings.whiten_advantages)},
        )

    # --- what actor, reference and critic say of a response, and what it costs those that learn ---

    @property
    def forwards(self) -> dict[str, Forward]:
        """What a rollout is evaluated by."""
        on_policy = self.on_policy
        return {"reference": on_policy.reference_log_probs, "critic": self.values, "actor": on_policy.log_probs}

    def values(self, ids: Tensor, mask: Tensor, width: int) -> tuple[Tensor]:
        """The critic's values [rows, width], with gradient: before each response token, or once it stands where the
        critic reads the response."""
        return critic_values(self.policy, self.settings, ids, mask, width)

    def _values_of(self, part: Part) -> Tensor:
        return self.values(part.ids, part.mask, part.width)[0]

    def _policy_loss(self, part: Part, log_probs: Tensor, normalizer: float) -> PolicyLoss:
        return policy_loss(self.settings, part, log_probs, normalizer)

    def _value_loss(self, part: Part, values: Tensor, normalizer: float) -> ValueLoss:
        values = state_values(values, part.response_mask, self.settings)
        return clipped_value_loss(values, part.old_values, part.returns, part.action_mask,
                                  clip_range=self.settings.value_clip_range, normalizer=normalizer)

    def _moved_enough(self, record: Mapping[str, float]) -> bool:
        """Whether the rest of a step's updates is left out (by k3, whose terms are never negative, so that few tokens
        measure it well)."""
        target = self.settings.target_kl
        return target is not None and record.get("policy/approxkl_avg", 0.0) > target

    @classmethod
    def assign_credit(cls, config: RunConfig, group: EvaluatedGroup) -> Credit:
        """See `AssignsCredit`. A policy without a critic has values of 0, as a critic has that has learnt nothing."""
        settings, rollout, normalizer = ppo_settings(config), group.rollout, ScoreNormalizer()
        if "scores" in group.numbers:
            normalizer.load_state(group.numbers["scores"])
        values, lacks = torch.zeros_like(group.log_probs), NO_CRITIC
        if "value" in group.policy.heads:
            critic = {"critic": partial(critic_values, group.policy, settings)}
            values, lacks = evaluate(rollout, critic, group.rows_at_once)[0]["critic"][0], ""
        experience = estimate_advantages(
            rollout,
            normalizer(group.scores, settings.score_normalization).to(group.log_probs),
            log_probs=group.log_probs,
            reference_log_probs=group.reference_log_probs,
            entropy=group.entropy,
            values=state_values(values, rollout.response_mask, settings),
            kl_coef=config.kl.coef,
            settings=settings,
        )
        pushes = token_pushes(experience, group.log_probs, group.all_rows, partial(policy_loss, settings))
        return Credit(experience.advantages, pushes, lacks)

    # --- the rest of an `Algorithm` ---

    @property
    def settings(self) -> PPOConfig:
        """The section [algorithm]."""
        return ppo_settings(self.config)

    @property
    def kl_coef(self) -> float:
        """β, as it is now."""
        return self.kl.value

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
        own: dict[str, Any] = self.kl.numbers() | {
            "token_count": self.token_count, "scores": self.normalizer.state()}
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
        self.normalizer.load_state(state.numbers["scores"])


def critic_values(policy: Policy, settings: PPOConfig, ids: Tensor, mask: Tensor, width: int) -> tuple[Tensor]:
    """The critic's values [rows, width], with gradient: before each response token, or once it stands where the critic
    reads the response."""
    return (policy.head_values("value", ids, mask, width, after=settings.reads_response),)


def policy_loss(settings: PPOConfig, part: Part, log_probs: Tensor, normalizer: float) -> PolicyLoss:
    """The actor's clipped loss; log_probs: [rows, width], with gradient."""
    return clipped_policy_loss(part.actions(log_probs), part.old_log_probs, part.advantages, part.action_mask,
                               clip_range=settings.clip_range, normalizer=normalizer)
