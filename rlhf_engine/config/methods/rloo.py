"""REINFORCE leave-one-out, described."""

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
    return clipping(recent, config, ("policy/clipfrac_avg",), "responses")


class RLOOConfig(GroupedConfig):
    """REINFORCE leave-one-out (Ahmadian et al. 2024, "Back to basics"), a response being one action."""

    title: ClassVar = "RLOO"
    implementation: ClassVar = "rlhf_engine.algorithms.rloo:RLOO"
    metrics: ClassVar = named(*METRICS, "policy/approxkl_avg", "policy/clipfrac_avg", "val/ratio",
                              "frac_reward_zero_std")
    conditions: ClassVar = (
        *CriticFreeConfig.conditions, Condition("clipping", _clipping, ("sentinel.clip_share",)))
    basic_settings: ClassVar = (
        "optimizer.learning_rate", "kl.coef", "kl.target", "algorithm.group_size", "train.steps",
        "algorithm.responses_per_step", "algorithm.minibatch_size", "algorithm.epochs", "sampling.temperature",
        "sampling.max_new_tokens",
    )
    explanation: ClassVar = """\
A step samples several responses to each prompt (a group), and the configured rewards give each a score. Its reward is
the score less what it moved away from the frozen reference (score − β · KL). The baseline of a response is the mean
reward of the others of its group: it has not seen the response, so the advantage is unbiased, and no critic has to
learn it. A whole response is one action: it is made likelier or less likely, by no more than the clip range allows."""
    troubles: ClassVar = TROUBLES | GROUP_TROUBLES
    glossary: ClassVar = GLOSSARY | GROUP_GLOSSARY | {
        "RLOO": "REINFORCE leave-one-out: the baseline of a response is the mean reward of the others of its group.",
        "clip fraction": "The share of actions whose ratio was clipped.",
    }
    comes_with: ClassVar = COMES_WITH

    kind: Literal["rloo"] = "rloo"
    epochs: int = setting(1, "passes over each rollout", live=True, ge=1, le=100)
    clip_range: float = setting(0.2, "the ratio π/π_old of a response is clipped to 1 ± this", live=True, gt=0, lt=1,
                                label="clip ε")
    whiten_advantages: bool = setting(False, "advantages to mean 0 and variance 1 over the rollout", live=True)

    def about_credit(self, kl_coef: float) -> str:
        scale = "whitened" if self.whiten_advantages else "not normalized"
        return (f"baseline: mean reward of the others of the group · {scale} · {about_kl(kl_coef, 'the reward')} · "
                f"clip: ratio of a response, 1 ± {self.clip_range:g} · a response is one action")
