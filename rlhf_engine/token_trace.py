"""What an update was made of, token by token of one response, and how such numbers read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TokenTrace:
    """The tokens of one response, the end token included, with what its method tells of each.

    texts: one a token; joined they are the response (the end token's is empty, and a character that several tokens
    spell stands with the last of them). series: by name (`AlgorithmConfig.token_series`), one number a token. whole: by
    name, what the response has one of, such as its advantage where it is one action, and what the update went by, such
    as the KL coefficient of that step.
    """

    texts: tuple[str, ...]
    series: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    whole: Mapping[str, float] = field(default_factory=dict)


def signed_number(value: float) -> str:
    """A value in at most six characters, signed, with a minus sign as wide as a plus."""
    if not math.isfinite(value):
        return "?" if math.isnan(value) else "∞" if value > 0 else "−∞"
    text = f"{value:+.2f}" if abs(value) < 99.995 else f"{value:+.0f}" if abs(value) < 99_999 else f"{value:+.0e}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def percent(log_prob: float) -> str:
    """A log-probability, in nats, as per cent."""
    if math.isnan(log_prob):
        return "?"
    share = math.exp(min(0.0, log_prob)) * 100
    return f"{share:.0f} %" if share >= 10 else f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"
