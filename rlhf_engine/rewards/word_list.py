"""A reward made of two word lists, with brakes against the ways a policy learns to cheat on them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from rlhf_engine.config.rewards import WordListRewardConfig
from rlhf_engine.events import Span
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.word_matcher import Match, WordMatcher
from rlhf_engine.words import word_places, words_of


class WordListReward:
    """Adds for liked words, subtracts for disliked ones, as `WordMatcher` finds them. Parts:

    liked     +liked_bonus for each use of a liked word
    disliked  -disliked_penalty for each use of a disliked word
    distinct  +distinct_bonus for each different liked word
    short     -short_penalty if the response has at most short_words words
    excess    -excess_penalty for each use of a liked word above max(excess_min, floor(excess_share * words))
    repeat    -repeat_penalty for each use of one liked word beyond repeat_limit
    adjacent  -adjacent_penalty for each pair of liked words with no other word between them

    Raises ConfigError for an entry of punctuation alone.
    """

    def __init__(self, config: WordListRewardConfig) -> None:
        self.name, self._config = config.name, config
        self._matcher = WordMatcher(config.liked, config.disliked)

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        """One Score per response, with a Span for each match; the prompts do not matter."""
        return [self._score_one(response) for response in responses]

    def _score_one(self, response: str) -> Score:
        words = words_of(response)
        matches = self._matcher.matches(words)
        parts = self._parts(len(words), matches)
        places = word_places(response) if matches else []
        spans = tuple(
            Span(places[m.first][0], places[m.last - 1][1], "liked" if m.liked else "disliked") for m in matches
        )
        return Score(math.fsum(parts.values()), parts, spans)

    def _parts(self, word_count: int, matches: list[Match]) -> dict[str, float]:
        config, liked = self._config, [m for m in matches if m.liked]
        uses = Counter(m.entry for m in liked)
        # The nudge keeps floor(0.29 * 100) at 29, which binary fractions would make 28.
        allowed = max(config.excess_min, math.floor(config.excess_share * word_count + 1e-9))
        excess = max(0, len(liked) - allowed)
        repeats = sum(max(0, n - config.repeat_limit) for n in uses.values())
        adjacent = sum(a.liked and b.liked and a.last == b.first for a, b in pairwise(matches))
        parts = {
            "liked": config.liked_bonus * len(liked),
            "disliked": -config.disliked_penalty * (len(matches) - len(liked)),
            "distinct": config.distinct_bonus * len(uses),
            "short": -config.short_penalty * (word_count <= config.short_words),
            "excess": -config.excess_penalty * excess,
            "repeat": -config.repeat_penalty * repeats,
            "adjacent": -config.adjacent_penalty * adjacent,
        }
        return {part: value + 0.0 for part, value in parts.items()}  # + 0.0 turns -0.0, odd to read, into 0.0
