"""Estimates with their intervals, shares and differences, as cells of a table."""

from __future__ import annotations

import math
from collections.abc import Callable

from textual.content import Content

from rlhf_engine.maths.statistics import Estimate
from rlhf_tui.widgets.figures import figure

MORE, LESS, UNCLEAR = "▲", "▼", "≈"


def sign_of(difference: Estimate) -> tuple[str, str]:
    """▲ or ▼ where the interval leaves no doubt, ≈ where it holds zero; and a style. More is not always better."""
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return UNCLEAR, "dim"
    if difference.low > 0:
        return MORE, "$primary bold"
    return (LESS, "$primary bold") if difference.high < 0 else (UNCLEAR, "dim")


def show_estimate(estimate: Estimate, number: Callable[[float], str], interval: bool) -> Content:
    """A value, and its interval in a quieter colour."""
    value = Content(number(estimate.value))
    if not interval:
        return value
    return value.append_text(f" [{number(estimate.low)}, {number(estimate.high)}]", "$text-muted")


def share(value: float) -> str:
    """A share of one as per cent."""
    return f"{value * 100:.1f}%" if math.isfinite(value) else _unknown(value)


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{figure(value * 100, '+.1f')}pp" if math.isfinite(value) else _unknown(value)


def plain(value: float) -> str:
    """A number with two places."""
    return figure(value, ".2f") if math.isfinite(value) else _unknown(value)


def signed(value: float) -> str:
    """A difference with its sign."""
    return figure(value, "+.2f") if math.isfinite(value) else _unknown(value)


def _unknown(value: float) -> str:
    return "?" if math.isnan(value) else "∞" if value > 0 else "−∞"
