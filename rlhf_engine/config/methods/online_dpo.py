"""Online DPO, described: pairs of the actor's own answers, judged by the rewards of the run."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import model_validator

from rlhf_engine.config.methods.base import Condition, Settings, StepMetrics
from rlhf_engine.config.methods.critic_free import (
    COMES_WITH,
    GROUP_GLOSSARY,
    GROUP_TROUBLES,
    METRICS,
    CriticFreeConfig,
    GroupedConfig,
)
from rlhf_engine.config.methods.on_policy import GLOSSARY as SAMPLING_GLOSSARY
from rlhf_engine.config.methods.on_policy import TROUBLES as SAMPLING_TROUBLES
from rlhf_engine.config.methods.preferences import (
    CONDITIONS,
    GLOSSARY,
    PAIR_METRICS,
    TOKEN_SERIES,
    TROUBLES,
    PreferenceSettings,
    about_pair,
)
from rlhf_engine.config.section import setting
from rlhf_engine.metrics import named
from rlhf_engine.token_trace import TokenTrace

_OF_A_PENALTY = ("objective/rlhf_reward", "objective/non_score_reward", "kl_coef")
_PAIRED = "it needs groups whose scores differ, and in all steps so far they were equal"


def _by_beta(condition: Condition) -> Condition:
    """The same, that names what holds the actor near the reference here."""

    def find(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
        said = condition.find(start, recent, step, config)
        return said and said.replace("kl.coef", "algorithm.beta")

    return replace(condition, find=find)


class OnlineDPOConfig(PreferenceSettings, GroupedConfig):
    """Online DPO (Guo et al. 2024, "Direct language model alignment from online AI feedback")."""

    title: ClassVar = "Online DPO"
    implementation: ClassVar = "rlhf_engine.algorithms.online_dpo:OnlineDPO"
    metrics: ClassVar = (
        *named("objective/scores", "objective/scores_std", "objective/kl"),
        *PAIR_METRICS,
        *named(*(name for name in METRICS[3:] if name not in _OF_A_PENALTY), "frac_reward_zero_std"),
    )
    charts: ClassVar = ("objective/scores", "objective/kl", "rewards/accuracies", "rewards/margins")
    # the accuracy is that of pairs the actor has just made: it never has to be far above a half
    conditions: ClassVar = (*(_by_beta(condition) for condition in CriticFreeConfig.conditions), *CONDITIONS[1:])
    token_series: ClassVar = TOKEN_SERIES
    explanation: ClassVar = """\
A step samples several responses to each prompt (a group), and the configured rewards give each a score. The best and
the worst of a group are a pair, chosen and rejected; groups whose scores are all equal are left out. The loss of DPO
widens the margin between their implicit rewards (β · log-ratio to the frozen reference). Only which of two is better
is learnt from, not by how much; β alone holds the actor near the reference. No critic."""
    troubles: ClassVar = {
        name: help.replace("KL coef", "algorithm.beta") for name, help in SAMPLING_TROUBLES.items()
    } | GROUP_TROUBLES | {name: help for name, help in TROUBLES.items() if "0.5" not in name}
    glossary: ClassVar = {name: text for name, text in SAMPLING_GLOSSARY.items()
                          if name not in ("RLHF objective", "KL coef, β", "KL target")} | GLOSSARY | GROUP_GLOSSARY
    comes_with: ClassVar = COMES_WITH | dict.fromkeys((metric.name for metric in PAIR_METRICS), _PAIRED)
    held_out_metrics: ClassVar = ()
    best_metric: ClassVar = "objective/scores"
    best_held_out_metric: ClassVar = "eval/scores"
    basic_settings: ClassVar = (
        "optimizer.learning_rate", "algorithm.beta", "algorithm.loss", "algorithm.group_size", "train.steps",
        "algorithm.responses_per_step", "algorithm.minibatch_size", "algorithm.epochs", "sampling.temperature",
        "sampling.max_new_tokens",
    )
    unused: ClassVar = ("kl.coef", "kl.controller", "kl.horizon")

    kind: Literal["online_dpo"] = "online_dpo"
    minibatch_size: int = setting(8, "pairs per optimizer step", unit="pairs", ge=1, le=65536)
    epochs: int = setting(1, "passes over the pairs of each step", live=True, ge=1, le=100)

    @model_validator(mode="after")
    def _loss_is_sound(self) -> OnlineDPOConfig:
        self.require_sound_loss()
        return self

    @model_validator(mode="after")
    def _minibatch_fits(self) -> OnlineDPOConfig:
        groups = self.responses_per_step // self.group_size
        if self.minibatch_size > groups:
            raise ValueError(f"minibatch_size {self.minibatch_size} is more than the {groups} pairs of a step "
                             "(responses_per_step / group_size)")
        return self

    @property
    def rows_per_update(self) -> int:
        return 2 * self.minibatch_size

    def require_fit(self, config: Settings) -> None:
        """KL coefficient and controller belong to other methods, and are not looked at."""

    def advice(self, config: Settings) -> list[str]:
        return []

    def summary(self, config: Settings) -> str:
        return f"Online DPO, best against worst of {self.group_size}, {self.loss_summary}"

    def about_token(self, trace: TokenTrace, index: int, token: str) -> str:
        said, told = about_pair(trace, index), super(CriticFreeConfig, self).about_token(trace, index, token)
        return " ".join(filter(None, (said, told)))
