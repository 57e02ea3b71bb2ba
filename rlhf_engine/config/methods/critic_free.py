"""What the methods that sample and have no critic share: settings of a step, what they measure and show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from rlhf_engine.config.methods.base import AlgorithmConfig, Condition, Needs, Series, Settings
from rlhf_engine.config.methods.on_policy import (
    DISTINCT,
    ENTROPY,
    EQUAL_SCORES,
    GAMING,
    KL,
    OVER_OPTIMIZATION,
    SAMPLING,
    TRUNCATED,
    forked_kl_coef,
    kl_advice,
    require_kl_controller,
    require_sound_scores,
)
from rlhf_engine.config.section import setting
from rlhf_engine.metrics import Metric, named
from rlhf_engine.token_trace import TokenTrace, signed_number

METRICS = (
    "objective/scores", "objective/scores_std", "objective/kl", "objective/rlhf_reward", "objective/non_score_reward",
    "objective/entropy", "objective/ref_logprob", "sampling/logprob_gap", "policy/entropy_avg", "loss/policy_avg",
    "policy/updates", "train/skipped_updates", "lr", "kl_coef", "grad_norm/actor", "completions/mean_length",
    "completions/score_length_corr",
    "completions/clipped_ratio", "completions/distinct_2", "num_tokens", "time/rollout", "time/score", "time/update",
    "throughput/responses_per_s", "throughput/matmul_share",
)  # fmt: skip
TOKEN_SERIES = (
    Series("kl", "log-ratio", "log-ratio", "log π − log π_ref, nats: its mean over samples is the KL"),
    Series("log_probs", "log p", "log-probability", "of the actor that sampled it, nats; 0 is certain"),
    Series("reference_log_probs", "ref.", "reference log-probability", "of the frozen model, nats", dispensable=True),
)
GROUP_GLOSSARY = {"group": "The responses to one prompt in one step."}
GROUP_TROUBLES = {
    "frac_reward_zero_std climbs": "groups with equal scores teach nothing: a finer reward, or a larger group"}
"""Of methods that hold several responses to a prompt against each other."""
COMES_WITH = {
    **dict.fromkeys(("objective/kl", "objective/rlhf_reward", "objective/non_score_reward", "objective/ref_logprob"),
                    "it needs the reference, which is asked while kl.coef is above 0"),
    **dict.fromkeys(("loss/policy_avg", "grad_norm/actor"),
                    "it needs optimizer steps, and all so far were skipped"),
}


class CriticFreeConfig(AlgorithmConfig):
    """A method whose baseline is made of scores: one adapter, and the reference."""

    needs: ClassVar = Needs(adapters=("actor",))
    metrics: ClassVar = named(*METRICS)
    charts: ClassVar = ("objective/scores", "objective/kl", "loss/policy_avg", "policy/entropy_avg")
    conditions: ClassVar[tuple[Condition, ...]] = (
        KL, ENTROPY, DISTINCT, GAMING, OVER_OPTIMIZATION, SAMPLING, TRUNCATED, EQUAL_SCORES)
    token_series: ClassVar[tuple[Series, ...]] = TOKEN_SERIES
    held_out_metrics: ClassVar[tuple[Metric, ...]] = named("eval/rlhf_reward")
    best_metric: ClassVar = "objective/rlhf_reward"
    best_held_out_metric: ClassVar = "eval/rlhf_reward"
    basic_settings: ClassVar[tuple[str, ...]] = (
        "optimizer.learning_rate", "kl.coef", "kl.target", "train.steps", "algorithm.responses_per_step",
        "algorithm.minibatch_size", "sampling.temperature", "sampling.max_new_tokens",
    )

    responses_per_step: int = setting(64, "responses sampled in one step", unit="responses", ge=2, le=65536,
                                      label="responses/step")
    minibatch_size: int = setting(64, "responses per optimizer step", unit="responses", ge=1, le=65536)

    @model_validator(mode="after")
    def _minibatch_fits(self) -> CriticFreeConfig:
        if self.minibatch_size > self.responses_per_step:
            raise ValueError(
                f"minibatch_size {self.minibatch_size} is more than responses_per_step {self.responses_per_step}")
        return self

    @property
    def rows_per_step(self) -> int:
        return self.responses_per_step

    @property
    def learned_per_step(self) -> int:
        return self.responses_per_step

    @property
    def rows_per_update(self) -> int:
        return self.minibatch_size

    def require_fit(self, config: Settings) -> None:
        require_kl_controller(config)

    def advice(self, config: Settings) -> list[str]:
        return kl_advice(config)

    def summary(self, config: Settings) -> str:
        return f"{self.title}, KL coefficient {config.kl.coef:g} ({config.kl.controller})"

    def about_token(self, trace: TokenTrace, index: int, token: str) -> str:
        whole = trace.whole
        if not {"rewards", "baselines", "advantages"} <= whole.keys():  # a file may tell anything
            return super().about_token(trace, index, token)
        advantage = signed_number(whole["advantages"])
        still = advantage in ("0.00", "+0.00", "−0.00")
        sign, verb = (("○", "stays as likely") if still else ("▲", "is made likelier") if whole["advantages"] > 0
                      else ("▼", "is made less likely"))
        pushed = (f"{sign} The whole response {verb}: reward {signed_number(whole['rewards'])}, its baseline "
                  f"{signed_number(whole['baselines'])}: advantage {advantage}.")
        return f"{pushed} {super().about_token(trace, index, token)}"

    def require_sound_numbers(self, numbers: Mapping[str, Any]) -> None:
        require_sound_scores(numbers)

    def forked_numbers(self, numbers: Mapping[str, Any], before: Settings, after: Settings) -> dict[str, Any]:
        return forked_kl_coef(numbers, before, after)


class GroupedConfig(CriticFreeConfig):
    """A method that answers each prompt several times and holds the answers against each other."""

    group_size: int = setting(8, "responses to each prompt, which are held against each other",
                              unit="responses", ge=2, le=65536, label="group size")

    @model_validator(mode="after")
    def _groups_are_whole(self) -> GroupedConfig:
        if self.responses_per_step % self.group_size:
            raise ValueError(f"responses_per_step {self.responses_per_step} is no multiple of group_size "
                             f"{self.group_size}: every prompt of a step gets a whole group of responses")
        return self

    @property
    def rows_per_step(self) -> int:
        return self.responses_per_step // self.group_size
