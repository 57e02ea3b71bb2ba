"""A reward that keeps responses within a range of lengths."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.rewards.base import Score
from rlhf_engine.words import words_of


class LengthReward:
    """Subtracts penalty_per_word for each word missing to min_words or beyond max_words, at most max_penalty.

    max_words None is no upper bound; within both bounds the score is 0. Parts: too_short, too_long.
    """

    def __init__(self, config: LengthRewardConfig) -> None:
        self.name, self._config = config.name, config

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        """One Score per response, never above 0; the prompts do not matter."""
        return [self._score_one(len(words_of(response))) for response in responses]

    def _score_one(self, words: int) -> Score:
        surplus = 0 if self._config.max_words is None else words - self._config.max_words
        parts = {"too_short": self._penalty(self._config.min_words - words), "too_long": self._penalty(surplus)}
        return Score(sum(parts.values()), parts)

    def _penalty(self, words: int) -> float:
        return -min(self._config.max_penalty, self._config.penalty_per_word * words) if words > 0 else 0.0
