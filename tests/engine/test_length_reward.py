"""Penalties for responses that are too short or too long."""

from __future__ import annotations

import pytest

from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.length import LengthReward


def score(words: int, **settings: float | int | None) -> Score:
    (result,) = LengthReward(LengthRewardConfig(**settings)).score([""], ["word, " * words])
    assert result.total == sum(result.parts.values())
    return result


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (0, {"too_short": -1.5, "too_long": 0.0}),
        (2, {"too_short": -0.5, "too_long": 0.0}),
        (3, {"too_short": 0.0, "too_long": 0.0}),
        (5, {"too_short": 0.0, "too_long": 0.0}),
        (7, {"too_short": 0.0, "too_long": -1.0}),
    ],
)
def test_each_word_outside_the_range_costs(words: int, parts: dict[str, float]) -> None:
    assert score(words, min_words=3, max_words=5, penalty_per_word=0.5).parts == parts


def test_either_bound_may_be_missing() -> None:
    assert score(100, min_words=3).total == 0.0
    assert score(0, max_words=5).total == 0.0
    assert score(8, max_words=5, penalty_per_word=1.0).total == -3.0


def test_the_penalty_has_a_floor() -> None:
    assert score(1000, max_words=5, penalty_per_word=0.1, max_penalty=2.0).total == -2.0
    assert score(0, min_words=50, penalty_per_word=0.1, max_penalty=2.0).total == -2.0


def test_a_range_upside_down_is_refused() -> None:
    with pytest.raises(ValueError, match="max_words 4 is below min_words 5"):
        LengthRewardConfig(min_words=5, max_words=4)
