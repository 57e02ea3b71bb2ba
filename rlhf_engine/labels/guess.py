"""What scores say of a pair before anybody has judged it."""

from __future__ import annotations

import math

from rlhf_engine.labels.pair import Answer


def guess_of(first: Answer, second: Answer, log_odds_per_unit: float | None = 1.0) -> float | None:
    """Probability that the first is better, by Bradley and Terry (1952): σ(log_odds_per_unit · gap of the scores).

    A reward model was trained to say log-odds, but its scores are told in units of their own, of which the factor says
    how many nats they are; other rewards have no such probability, and 1 is as good as any. None without scores, or
    where the factor is not known.
    """
    if first.score is None or second.score is None or log_odds_per_unit is None:
        return None
    return sigmoid(log_odds_per_unit * (first.score - second.score))


def sigmoid(value: float) -> float:
    """1 / (1 + e^−value), for any finite value."""
    small = math.exp(-abs(value))
    return 1 / (1 + small) if value >= 0 else small / (1 + small)
