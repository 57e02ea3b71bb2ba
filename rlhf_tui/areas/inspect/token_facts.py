"""How one token of a response is shown: its label, and a colour for a number of it. Pure.

Colours diverge from 0: above it the theme's bluish green, below it vermilion and italic, so that the sign shows without
colour too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlhf_engine.config.methods.base import AlgorithmConfig, Series
from rlhf_engine.events import Sample
from rlhf_engine.token_trace import TokenTrace

STRENGTHS = (0, 10, 20, 30, 40, 50)
"""How much of the colour is laid behind a token, per cent: the more, the further its value is from 0."""
END, PART = "⟨end⟩", "⟨part⟩"


def drawn_series(method: AlgorithmConfig, trace: TokenTrace) -> list[Series]:
    """Those of the method's that the trace has, in its order."""
    return [series for series in method.token_series if series.name in trace.series]


def largest(values: Sequence[float]) -> float:
    """The size that a full bar and the strongest colour stand for; never 0."""
    return max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0


def heat(value: float, most: float, *, ansi: bool = False) -> str:
    """The style behind a token of this value.

    ansi: the terminal's own colours cannot be mixed, so weak ones get none, and only some of them can be read upon.
    """
    if math.isnan(value) or value == 0:
        return ""
    level = min(len(STRENGTHS) - 1, math.ceil(min(1.0, abs(value) / most) * (len(STRENGTHS) - 1)))
    if ansi and level < 3:
        return "italic" if value < 0 else ""
    if ansi:
        return "italic ansi_bright_white on ansi_red" if value < 0 else "ansi_black on ansi_green"
    return f"italic on $error {STRENGTHS[level]}%" if value < 0 else f"on $success {STRENGTHS[level]}%"


def heats(values: Sequence[float], *, ansi: bool = False) -> list[str]:
    """The style behind each token, by the largest of them."""
    most = largest(values)
    return [heat(value, most, ansi=ansi) for value in values]


def token_label(sample: Sample, trace: TokenTrace, index: int) -> str:
    """A token as the table names it: spaces as dots, and a name for what adds no text."""
    text = trace.texts[index]
    if text:
        return text.replace(" ", "·").replace("\n", "↵")
    return END if sample.finished and index == len(trace.texts) - 1 else PART


def shown_tokens(sample: Sample, trace: TokenTrace) -> list[str]:
    """The tokens as the response shows them: their own text, and a name for the one that ends it."""
    labels = (token_label(sample, trace, index) for index in range(len(trace.texts)))
    return [text or (END if label == END else "") for text, label in zip(trace.texts, labels, strict=True)]
