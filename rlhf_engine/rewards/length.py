"""A reward that keeps responses within a range of lengths."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_engine.errors import ConfigError
from rlhf_engine.rewards.base import Score
from rlhf_engine.words import count_words


class LengthReward:
    """Subtracts penalty_per_word for each word missing to min_words or beyond max_words, at most max_penalty.

    max_words None is no upper bound; within both bounds the score is 0. Parts: too_short, too_long.
    Raises ConfigError when min_words is above max_words.
    """

    def __init__(
        self,
        name: str,
        *,
        min_words: int = 0,
        max_words: int | None = None,
        penalty_per_word: float = 0.1,
        max_penalty: float = 5.0,
    ) -> None:
        if max_words is not None and min_words > max_words:
            raise ConfigError(f"The reward {name!r} has min_words {min_words}, above its max_words {max_words}.")
        self.name = name
        self.min_words = min_words
        self.max_words = max_words
        self.penalty_per_word = penalty_per_word
        self.max_penalty = max_penalty

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        """One Score per response, never above 0; the prompts do not matter."""
        return [self._score_one(len(count_words(response))) for response in responses]

    def _score_one(self, words: int) -> Score:
        surplus = 0 if self.max_words is None else words - self.max_words
        parts = {"too_short": self._penalty(self.min_words - words), "too_long": self._penalty(surplus)}
        return Score(sum(parts.values()), parts)

    def _penalty(self, words: int) -> float:
        return -min(self.max_penalty, self.penalty_per_word * words) if words > 0 else 0.0
