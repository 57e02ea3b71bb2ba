"""A method of one's own, described: it makes one word likelier after every prompt. No rewards, no critic, no reference.

This module is imported wherever presets are read, so it stays without torch; the learning is in `one_word_learner`.
"""

from typing import Any, ClassVar, Literal

from rlhf_engine.config.methods.base import AlgorithmConfig, Condition, Needs, Series
from rlhf_engine.config.section import setting
from rlhf_engine.metrics import Metric, named


def _stuck(start: Any, recent: Any, step: int, config: Any) -> str | None:
    if recent[-1]["word/log_prob"] > start[0]["word/log_prob"]:
        return None
    return "the word is no likelier than it was; raise optimizer.learning_rate"


class OneWordConfig(AlgorithmConfig):
    """Make one word likelier."""

    title: ClassVar = "One word"
    implementation: ClassVar = "one_word_learner:OneWord"
    explanation: ClassVar = "Each step raises the log-probability of one word after a few prompts."
    needs: ClassVar = Needs(adapters=("actor",), reference=False, batch="prompts")
    metrics: ClassVar = (
        Metric("word/log_prob", "log-prob of the word", "nats", "up",
               "Mean log-probability of the word after a prompt.",
               "Climbs towards 0.", "Stays where it was: the learning rate is too low."),
        *named("lr", "grad_norm/actor", "train/skipped_updates"),
    )
    charts: ClassVar = ("word/log_prob", "grad_norm/actor")
    conditions: ClassVar = (Condition("stuck", _stuck, from_start=True),)
    token_series: ClassVar = (Series("log_probs", "log p", "log-probability", "of the word's tokens, nats"),)
    best_metric: ClassVar = "word/log_prob"
    basic_settings: ClassVar = ("algorithm.word", "optimizer.learning_rate", "train.steps")
    unused: ClassVar = ("kl.", "rewards.")

    kind: Literal["one_word"] = "one_word"
    word: str = setting("fox", "the word", live=True, min_length=1)
    prompts_per_step: int = setting(8, "prompts in one step", ge=1, le=1024)

    @property
    def rows_per_step(self) -> int:
        return self.prompts_per_step
