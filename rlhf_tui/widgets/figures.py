"""Numbers as the screen shows them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from statistics import fmean

_BARS = "▁▂▃▄▅▆▇█"


def minus(number: str) -> str:
    """A formatted number, or several, with a minus sign as wide as a plus, which a hyphen is not in most fonts.

    Not for what is typed, copied or stored: there it stays a hyphen.
    """
    return number.replace("-", "−")


def sparkline(values: Sequence[float], width: int) -> str:
    """The course of `values` in at most `width` characters, from the lowest (▁) to the highest (█); means of neighbours
    where there are more. What is not finite is left out.
    """
    known = [value for value in values if isfinite(value)]
    count = min(width, len(known))
    means = [fmean(known[len(known) * at // count : len(known) * (at + 1) // count]) for at in range(count)]
    if not means:
        return ""
    low, high = min(means), max(means)
    if low == high:
        return _BARS[3] * count
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in means)


def figure(value: float, form: str) -> str:
    """`value` by a format such as `+.2f`, with that minus sign; with none where it rounds to zero."""
    sign, rest = (form[0], form[1:]) if form[0] in "+- " else ("", form)
    return minus(format(value, f"{sign}z{rest}"))
