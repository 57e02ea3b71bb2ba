"""Group relative policy optimization, described, with what others have made of it."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf_engine.config.methods.base import Condition, Settings, StepMetrics
from rlhf_engine.config.methods.critic_free import (
    COMES_WITH,
    GROUP_GLOSSARY,
    GROUP_TROUBLES,
    METRICS,
    CriticFreeConfig,
    GroupedConfig,
)
from rlhf_engine.config.methods.on_policy import GLOSSARY, TROUBLES, about_kl, clipping
from rlhf_engine.config.section import setting
from rlhf_engine.metrics import named


def _clipping(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    return clipping(recent, config, ("clip_ratio/low_mean", "clip_ratio/high_mean"), "tokens")


class GRPOConfig(GroupedConfig):
    """GRPO (Shao et al. 2024, "DeepSeekMath"), with the choices of Dr. GRPO, DAPO and GSPO."""

    title: ClassVar = "GRPO"
    implementation: ClassVar = "rlhf_engine.algorithms.grpo:GRPO"
    metrics: ClassVar = named(
        "reward", "reward_std", *METRICS, "frac_reward_zero_std", "kl", "entropy", "clip_ratio/low_mean",
        "clip_ratio/high_mean", "val/ratio",
    )
    conditions: ClassVar = (
        *CriticFreeConfig.conditions, Condition("clipping", _clipping, ("sentinel.clip_share",)))
    basic_settings: ClassVar = (
        "optimizer.learning_rate", "kl.coef", "kl.target", "algorithm.group_size", "algorithm.clip_range",
        "train.steps", "algorithm.responses_per_step", "algorithm.minibatch_size", "algorithm.epochs",
        "sampling.temperature", "sampling.max_new_tokens",
    )
    explanation: ClassVar = """\
A step samples several responses to each prompt (a group), and the configured rewards give each a score. How far a score
is from the mean of its group, in standard deviations, is the advantage of every token of that response: no critic is
learnt. Some epochs over the rollout make tokens of better responses likelier and of worse ones less likely, by no more
than the clip range allows. The KL to the frozen reference is no part of the reward: it is added to the loss, token by
token (k3)."""
    troubles: ClassVar = TROUBLES | GROUP_TROUBLES
    glossary: ClassVar = GLOSSARY | GROUP_GLOSSARY | {
        "GRPO": "Group relative policy optimization: the advantage of a response is its score against its group's.",
        "Dr. GRPO": "Advantages not divided by the group's deviation, a loss divided by a constant (Liu et al. 2025).",
        "DAPO": "A clip range that is wider above 1 than below, a loss per token (Yu et al. 2025).",
        "GSPO": "One ratio for a whole response: exp of its mean log-ratio (Zheng et al. 2025).",
        "clip fraction": "The share of tokens whose ratio was clipped, below 1 − ε (low) and above 1 + ε (high).",
    }
    comes_with: ClassVar = COMES_WITH
    # score − β · KL is not what it maximizes: its advantages are in deviations of a group, and its KL is in the loss
    best_metric: ClassVar = "objective/scores"
    best_held_out_metric: ClassVar = "eval/scores"

    kind: Literal["grpo"] = "grpo"
    advantage_scale: Literal["group", "batch", "none"] = setting(
        "group", "what advantages are divided by: group, the deviation of their group; batch, that of all scores of "
        "the step; none (Dr. GRPO)", label="advantage scale",
    )
    ratio_level: Literal["token", "sequence"] = setting(
        "token", "whose ratio π/π_old is clipped: token by token, or sequence, one for a whole response (GSPO; a clip "
        "range of 0.001 is usual there)", label="ratio per",
    )
    loss_normalization: Literal["response", "token", "constant"] = setting(
        "response", "response: mean over the tokens of a response, then over responses (GRPO); token: mean over all "
        "tokens of a minibatch (DAPO); constant: sum over tokens, divided by max_new_tokens (Dr. GRPO)",
        label="loss mean over",
    )
    epochs: int = setting(1, "passes over each rollout", live=True, ge=1, le=100)
    clip_range: float = setting(0.2, "the ratio is clipped to 1 − this below", live=True, gt=0, lt=1, label="clip ε")
    clip_range_high: float | None = setting(
        None, "and to 1 + this above; none is the same as clip_range (DAPO: 0.28)", live=True, gt=0,
        label="clip ε high",
    )
    drop_equal_groups: bool = setting(
        False, "leave groups whose scores are all equal out of the loss (they have no advantage, but would count in "
        "its mean and in the KL penalty; DAPO samples others in their place)", live=True, label="drop equal groups",
    )
    mask_truncated: bool = setting(
        False, "leave responses that were cut off at max_new_tokens out of the loss (DAPO)", live=True,
        label="mask truncated",
    )

    @property
    def clip_high(self) -> float:
        """How far above 1 the ratio may go."""
        return self.clip_range if self.clip_range_high is None else self.clip_range_high

    def advice(self, config: Settings) -> list[str]:
        found = super().advice(config)
        if self.ratio_level == "sequence" and self.loss_normalization != "response":
            found.append("algorithm.ratio_level = sequence with loss_normalization = "
                         f"{self.loss_normalization} weighs a response by its length; GSPO takes response")
        return found

    def summary(self, config: Settings) -> str:
        return (f"GRPO, groups of {self.group_size}, advantages by {self.advantage_scale}, ratio per "
                f"{self.ratio_level}, KL coefficient {config.kl.coef:g} in the loss")

    def about_credit(self, kl_coef: float) -> str:
        scale = {"group": "divided by the group's deviation", "batch": "divided by the batch's deviation",
                 "none": "not normalized"}[self.advantage_scale]
        mean = {"response": "over a response's tokens, then responses", "token": "over all tokens",
                "constant": "by a constant"}[self.loss_normalization]
        whose = "token" if self.ratio_level == "token" else "response"
        return (f"baseline: mean score of the group · {scale} · {about_kl(kl_coef, 'the loss, per token (k3)')} · "
                f"clip: ratio of a {whose}, {1 - self.clip_range:g} to {1 + self.clip_high:g} · loss mean {mean}"
                + (" · truncated responses are left out" if self.mask_truncated else ""))
