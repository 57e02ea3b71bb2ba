"""Proximal policy optimization, described: its settings, what it needs, measures and shows, and what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from rlhf_engine.config.methods.base import AlgorithmConfig, Condition, Needs, Series, Settings, StepMetrics
from rlhf_engine.config.methods.on_policy import (
    DISTINCT,
    ENTROPY,
    EQUAL_SCORES,
    GAMING,
    GLOSSARY,
    KL,
    OVER_OPTIMIZATION,
    SAMPLING,
    TROUBLES,
    TRUNCATED,
    about_kl,
    clipping,
    forked_kl_coef,
    kl_advice,
    mean_of,
    require_kl_controller,
    require_sound_scores,
)
from rlhf_engine.config.section import COUNT, setting
from rlhf_engine.metrics import named
from rlhf_engine.token_trace import TokenTrace, percent, signed_number

METRICS = (
    "objective/scores", "objective/scores_std", "objective/kl", "objective/rlhf_reward", "objective/non_score_reward",
    "objective/entropy", "objective/ref_logprob", "sampling/logprob_gap", "policy/approxkl_avg", "policy/clipfrac_avg",
    "policy/entropy_avg", "loss/policy_avg", "loss/value_avg", "val/clipfrac_avg", "val/ratio",
    "val/explained_variance", "policy/updates", "train/skipped_updates", "lr", "kl_coef", "grad_norm/actor",
    "grad_norm/critic", "completions/mean_length", "completions/score_length_corr",
    "completions/clipped_ratio", "completions/distinct_2", "num_tokens",
    "time/rollout", "time/score", "time/update", "throughput/responses_per_s", "throughput/matmul_share",
)  # fmt: skip
CHARTS = ("objective/scores", "objective/kl", "loss/policy_avg", "loss/value_avg")
TOKEN_SERIES = (
    Series("advantages", "adv.", "advantage", "above 0 the update makes the token likelier, below 0 less likely"),
    Series("rewards", "reward", "reward", "−β · log-ratio of the token; the last token gets the score as well"),
    Series("values", "value", "value", "the return that the critic predicted here, before the update"),
    Series("returns", "return", "return", "the rewards from here on: what the critic learns to predict",
           dispensable=True),
    Series("kl", "log-ratio", "log-ratio", "log π − log π_ref, nats: its mean over samples is the KL"),
    Series("log_probs", "log p", "log-probability", "of the actor that sampled it, nats; 0 is certain"),
    Series("reference_log_probs", "ref.", "reference log-probability", "of the frozen model, nats", dispensable=True),
)
_ACTOR_LEARNT = "it needs optimizer steps of the actor, which begin after algorithm.critic_warmup_steps"
_CRITIC_LEARNT = "it needs optimizer steps of the critic, and all so far were skipped"
COMES_WITH = {
    **dict.fromkeys(("policy/approxkl_avg", "policy/clipfrac_avg", "loss/policy_avg", "val/ratio", "grad_norm/actor"),
                    _ACTOR_LEARNT),
    **dict.fromkeys(("loss/value_avg", "val/clipfrac_avg", "grad_norm/critic"), _CRITIC_LEARNT),
}
PPO_GLOSSARY = {
    "critic": "The base model with a second adapter and a value head: it predicts the return at each token.",
    "approx. KL (old‖new)": "KL between the policy that sampled the rollout and the actor as updated since, by the "
          "k3 estimator. target KL ends a step's updates above it.",
    "value": "The critic's prediction of the return at one token.",
    "return": "The discounted sum of rewards from a token on: what the critic learns to predict.",
    "advantage": "How much better than the critic predicted. Tokens with a positive one are made likelier.",
    "GAE": "Generalized advantage estimation: a weighted mean of n-step advantages. λ = 1 uses the sampled return, "
           "λ = 0 the critic's prediction one token ahead.",
    "discount, γ": "The factor by which a reward counts less for each token that it lies ahead; 1: no discount.",
    "PPO": "Proximal policy optimization: some epochs over a rollout, kept near its policy by clipping.",
    "ratio": "π_new / π_old: a token's probability now over that when it was sampled.",
    "clip range, ε": "Beyond 1 ± ε the ratio no longer changes the loss.",
    "clip fraction": "The share of actions whose ratio was clipped.",
    "policy loss": "The actor's loss: minus ratio × advantage, clipped.",
    "value loss": "The critic's loss: half the squared difference of value and return.",
    "explained variance": "The share of the returns' variance that the critic predicts.",
    "whitening": "Shifting and scaling the advantages of a rollout to mean 0 and standard deviation 1.",
    "epoch (PPO)": "One pass over a rollout's responses.",
    "minibatch": "The responses of one optimizer step.",
}
_EXPLAINED = {"raw_advantages", *(series.name for series in TOKEN_SERIES)}
EXPLANATION = """\
A step samples one response to each of a batch of prompts (a rollout). The configured rewards give each a score. The
KL penalty holds the actor near the frozen reference (reward = score − β · KL). The critic predicts the return; how much
better the return was than predicted is the advantage of each token (GAE). Then some epochs over the rollout make tokens
with a positive advantage likelier and others less likely, by no more than the clip range allows in one step.
Actor and critic are small adapters (LoRA) on one frozen base model, so the reference costs no second copy."""


def _critic(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    share, explained = config.sentinel.critic_share, mean_of(recent, "val/explained_variance")
    if share is None or step < config.sentinel.critic_patience or not explained < share:
        return None
    return (f"explained variance is {explained:.2f} after {step} steps: the critic predicts the returns poorly, and "
            "advantages are mostly noise; raise algorithm.critic_learning_rate, or set algorithm.critic_warmup_steps")


def _clipping(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    what = "responses" if ppo_settings(config).level == "sequence" else "tokens"
    return clipping(recent, config, ("policy/clipfrac_avg",), what)


CRITIC = Condition("critic", _critic, ("sentinel.critic_share", "sentinel.critic_patience"))
CLIPPING = Condition("clipping", _clipping, ("sentinel.clip_share",))


def ppo_settings(config: Settings) -> PPOConfig:
    """The settings of a run whose method is PPO."""
    assert isinstance(config.algorithm, PPOConfig)
    return config.algorithm


def _push(what: str, numbers: Mapping[str, float], kind: str, *, whitened: bool) -> str:
    """What the advantage of an action does to it; `kind`: what its return is."""
    raw, advantage = numbers["raw_advantages"], numbers["advantages"]
    # a push that the two decimals do not show is none to speak of
    still = math.isnan(advantage) or signed_number(advantage) == "0.00"
    sign, verb = (("○", "stays as likely") if still else ("▲", "is made likelier") if advantage > 0
                  else ("▼", "is made less likely"))
    changed = "whitened" if whitened else "weighted" if signed_number(advantage) != signed_number(raw) else ""
    scaled = f", {changed} {signed_number(advantage)}" if changed else ""
    return (f"{sign} {what} {verb}: {kind} {signed_number(numbers['returns'])}, the critic predicted "
            f"{signed_number(numbers['values'])}: advantage {signed_number(raw)}{scaled}.")


class PPOConfig(AlgorithmConfig):
    """Proximal policy optimization (Schulman et al. 2017), per token or per response."""

    title: ClassVar = "PPO"
    implementation: ClassVar = "rlhf_engine.algorithms.ppo:PPO"
    explanation: ClassVar = EXPLANATION
    needs: ClassVar = Needs(adapters=("actor", "critic"), heads=(("value", "critic"),))
    metrics: ClassVar = named(*METRICS)
    charts: ClassVar = CHARTS
    conditions: ClassVar = (KL, ENTROPY, DISTINCT, GAMING, OVER_OPTIMIZATION, CRITIC, CLIPPING, SAMPLING, TRUNCATED,
                            EQUAL_SCORES)
    token_series: ClassVar = TOKEN_SERIES
    comes_with: ClassVar = COMES_WITH
    troubles: ClassVar = TROUBLES | {
        "value loss climbs and stays up": "lower critic lr, or give the critic warm-up steps"}
    glossary: ClassVar = GLOSSARY | PPO_GLOSSARY
    held_out_metrics: ClassVar = named("eval/rlhf_reward")
    best_metric: ClassVar = "objective/rlhf_reward"
    best_held_out_metric: ClassVar = "eval/rlhf_reward"
    learning_rates: ClassVar = ("optimizer.learning_rate", "algorithm.critic_learning_rate")
    basic_settings: ClassVar = (
        "optimizer.learning_rate", "algorithm.critic_learning_rate", "kl.coef", "kl.target", "algorithm.clip_range",
        "train.steps", "algorithm.responses_per_step", "algorithm.minibatch_size", "algorithm.epochs",
        "sampling.temperature", "sampling.max_new_tokens",
    )

    labels: ClassVar = {"optimizer.learning_rate": "actor lr", "optimizer.max_grad_norm": "actor max grad norm"}

    kind: Literal["ppo"] = "ppo"

    level: Literal["token", "sequence"] = setting(
        "token", "what is one action: token (KL, value, ratio and advantage per token, by GAE), or sequence (a whole "
        "response, with one of each)", label="PPO level",
    )
    sequence_baseline: Literal["prompt", "response"] = setting(
        "prompt", "at level sequence, where the critic reads the value of a response: prompt, before its first token "
        "(the advantage stays unbiased), or response, at its last token, as textbooks do (a critic that has read the "
        "response can predict its score, and a perfect one leaves no advantage)", label="value read at",
    )
    responses_per_step: int = setting(64, "responses sampled in one step", unit="responses", ge=1, le=65536,
                                      label="responses/step")
    minibatch_size: int = setting(32, "responses per optimizer step", unit="responses", ge=1, le=65536)
    epochs: int = setting(2, "passes over each rollout", live=True, ge=1, le=100, label="PPO epochs")
    clip_range: float = setting(0.2, "the ratio π/π_old of an action is clipped to 1 ± this", live=True, gt=0, lt=1,
                                label="clip ε")
    value_clip_range: float | None = setting(
        0.2, "the critic's loss clips a value to that of the rollout ± this; none is off; val/clipfrac_avg shows how "
        "often", unit="score", live=True, gt=0, label="value clip ε",
    )
    discount: float = setting(1.0, "γ of the return; not used at level sequence", live=True, ge=0, le=1,
                              label="discount γ")
    trace_decay: float = setting(
        0.95, "λ of generalized advantage estimation (GAE); not used at level sequence", live=True, ge=0, le=1,
        label="GAE λ",
    )
    whiten_advantages: bool = setting(True, "advantages to mean 0 and variance 1 over the rollout", live=True)
    score_normalization: Literal["none", "center", "standardize"] = setting(
        "none", "center subtracts the running mean of scores, standardize divides by their running deviation too"
    )
    target_kl: float | None = setting(
        None, "skip the rest of a step's optimizer steps once approx. KL (old‖new) is over this (k3, measured before "
        "each of them, so the first is always taken); none is off", unit="nats per action", live=True, gt=0,
        label="target KL",
    )
    importance_sampling_cap: float | None = setting(
        None, "truncated importance sampling: weight each action's loss by p_scored / p_sampled, at most this (2 is "
        "common); corrects for what sampling/logprob_gap shows; none is off", live=True, ge=1, label="IS ratio cap",
    )

    critic_learning_rate: float = setting(1e-3, "learning rate of the critic", live=True, ge=0, le=1, label="critic lr")
    critic_max_grad_norm: float = setting(1.0, "the critic's grad norm is clipped to this", live=True, gt=0)
    critic_warmup_steps: int = setting(0, "first steps that train the critic alone", unit="steps", ge=0, le=COUNT,
                                       label="critic warm-up")

    @model_validator(mode="after")
    def _minibatch_fits(self) -> PPOConfig:
        if self.minibatch_size > self.responses_per_step:
            raise ValueError(
                f"minibatch_size {self.minibatch_size} is more than responses_per_step {self.responses_per_step}"
            )
        return self

    @model_validator(mode="after")
    def _something_is_left_to_learn(self) -> PPOConfig:
        if self.whiten_advantages and self.level == "sequence" and self.responses_per_step == 1:
            raise ValueError(
                "whiten_advantages with level = sequence and responses_per_step = 1 leaves every advantage 0, and "
                "nothing would be learnt: sample 2 responses per step or more, or set whiten_advantages = false"
            )
        return self

    @property
    def reads_response(self) -> bool:
        """Whether the critic's value is that of a response it has read; see `sequence_baseline`."""
        return self.level == "sequence" and self.sequence_baseline == "response"

    @property
    def rows_per_step(self) -> int:
        return self.responses_per_step

    @property
    def rows_per_update(self) -> int:
        return self.minibatch_size

    def require_fit(self, config: Settings) -> None:
        require_kl_controller(config)
        if self.whiten_advantages and self.responses_per_step == config.sampling.max_new_tokens == 1:
            raise ValueError(
                "algorithm.whiten_advantages with algorithm.responses_per_step = 1 and sampling.max_new_tokens = 1 "
                "leaves every advantage 0, and nothing would be learnt: sample more, or set "
                "algorithm.whiten_advantages = false"
            )

    def advice(self, config: Settings) -> list[str]:
        steps, found = config.train.steps, []
        if self.critic_warmup_steps >= steps:
            found.append(
                f"algorithm.critic_warmup_steps {self.critic_warmup_steps} is not below train.steps {steps}: the "
                "critic trains alone to the end, and the actor never learns"
            )
        minibatches = math.ceil(self.responses_per_step / self.minibatch_size)
        if self.target_kl is not None and self.epochs * minibatches == 1:
            found.append(
                "algorithm.target_kl stops nothing: with one epoch of one minibatch a step has a single optimizer "
                "step, which is always taken"
            )
        if rest := self.responses_per_step % self.minibatch_size:
            found.append(
                f"algorithm.responses_per_step {self.responses_per_step} is no multiple of algorithm.minibatch_size "
                f"{self.minibatch_size}: the last minibatch of each epoch has {rest} and counts as much as the others"
            )
        return [*found, *kl_advice(config)]

    def summary(self, config: Settings) -> str:
        action = "response" if self.level == "sequence" else "token"
        return f"PPO per {action}, KL coefficient {config.kl.coef:g} ({config.kl.controller})"

    def about_credit(self, kl_coef: float) -> str:
        scale = "whitened over the batch" if self.whiten_advantages else "not normalized"
        if self.level == "sequence":
            where = "after its last token" if self.reads_response else "before its first token"
            action, baseline = "response", f"the critic's value {where}"
        else:
            action, baseline = "token", f"the critic's value at each token, by GAE (λ {self.trace_decay:g})"
        penalty = about_kl(kl_coef, f"the reward of each {action}")
        told = f"baseline: {baseline} · {scale} · {penalty} · clip: ratio of a {action}, 1 ± {self.clip_range:g}"
        warmup = self.critic_warmup_steps
        return f"{told} · the actor learns after {warmup} steps of critic warm-up" if warmup else told

    def about_token(self, trace: TokenTrace, index: int, token: str) -> str:
        per_response = "advantages" in trace.whole
        known = trace.series.keys() | (trace.whole.keys() if per_response else ())
        if not known >= _EXPLAINED or "kl_coef" not in trace.whole:  # a file may tell anything
            return super().about_token(trace, index, token)
        kl, coef = trace.series["kl"][index], trace.whole["kl_coef"]
        cost = -coef * kl
        chance = (f"the actor gave it {percent(trace.series['log_probs'][index])}, the reference "
                  f"{percent(trace.series['reference_log_probs'][index])}: log-ratio {signed_number(kl)} nats, KL "
                  f"penalty {signed_number(cost)} (β {coef:g})")
        whitened = bool(trace.whole.get("whitened"))
        if per_response:
            kind = "reward (score − β · log-ratio)"
            said = _push("The whole response, one action,", trace.whole, kind, whitened=whitened)
            return f"{said} {token}: {chance}."
        numbers = {name: values[index] for name, values in trace.series.items()}
        said = _push(token, numbers, "return", whitened=whitened)
        if index == len(trace.texts) - 1:
            reward = numbers["rewards"]
            chance += f"; with the score of {signed_number(reward - cost)} a reward of {signed_number(reward)}"
        return f"{said} {chance[0].upper()}{chance[1:]}."

    def title_of(self, series: Series, trace: TokenTrace) -> str:
        return "advantage, whitened" if series.name == "advantages" and trace.whole.get("whitened") else series.title

    def require_sound_numbers(self, numbers: Mapping[str, Any]) -> None:
        require_sound_scores(numbers)

    def forked_numbers(self, numbers: Mapping[str, Any], before: Settings, after: Settings) -> dict[str, Any]:
        return forked_kl_coef(numbers, before, after)
