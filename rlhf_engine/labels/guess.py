"""What scores say of a pair before anybody has judged it."""

from __future__ import annotations

import math

from rlhf_engine.labels.pair import Answer


def guess_of(first: Answer, second: Answer) -> float | None:
    """Probability that the first is better, by Bradley and Terry (1952): the sigmoid of the gap of the scores. That of
    a reward model was trained to be just this; other rewards have a scale of their own. None without scores."""
    if first.score is None or second.score is None:
        return None
    return sigmoid(first.score - second.score)


def sigmoid(value: float) -> float:
    """1 / (1 + e^−value), for any finite value."""
    small = math.exp(-abs(value))
    return 1 / (1 + small) if value >= 0 else small / (1 + small)
