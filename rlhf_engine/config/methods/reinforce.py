"""REINFORCE with the mean score of the batch as its baseline, described: the simplest method there is."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf_engine.config.methods.critic_free import COMES_WITH, CriticFreeConfig
from rlhf_engine.config.methods.on_policy import GLOSSARY, TROUBLES, about_kl


class ReinforceConfig(CriticFreeConfig):
    """REINFORCE (Williams 1992), a response being one action."""

    title: ClassVar = "REINFORCE"
    implementation: ClassVar = "rlhf_engine.algorithms.reinforce:Reinforce"
    explanation: ClassVar = """\
A step samples one response to each of a batch of prompts, and the configured rewards give each a score. Its reward is
the score less what it moved away from the frozen reference (score − β · KL). What is above the mean reward of the batch
is made likelier as a whole, what is below it less likely, each in proportion. No critic, no clipping, one pass: what
every other method adds to this is there to make it steadier."""
    troubles: ClassVar = TROUBLES
    glossary: ClassVar = GLOSSARY | {
        "REINFORCE": "The plain policy gradient: log-prob of a response × how much better it was than a baseline.",
        "baseline": "What a reward is held against: here the mean over the batch.",
    }
    comes_with: ClassVar = COMES_WITH

    kind: Literal["reinforce"] = "reinforce"

    def about_credit(self, kl_coef: float) -> str:
        return ("baseline: mean reward of the batch, itself included · not normalized · "
                f"{about_kl(kl_coef, 'the reward')} · nothing is clipped · a response is one action")
