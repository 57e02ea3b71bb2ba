"""Numbers as the screen shows them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan
from statistics import fmean

_LEVELS = "▁▂▃▄▅▆▇█"
_EIGHTHS = ("", *"▏▎▍▌▋▊▉")


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
        return _LEVELS[3] * count
    return "".join(level((value - low) / (high - low)) for value in means)


def level(share: float) -> str:
    """`share` (0 to 1) as a character of so much height, never empty."""
    return _LEVELS[round(share * (len(_LEVELS) - 1))]


def progress_bar(share: float, width: int) -> str:
    """`share` (0 to 1) as a bar that grows from the left to `width` cells, to an eighth of a cell."""
    full, rest = divmod(round(max(0.0, min(1.0, share)) * width * 8), 8)
    return ("█" * full + _EIGHTHS[rest]).ljust(width)


def signed_bar(value: float, most: float, width: int) -> str:
    """A bar of `width` cells that grows from its middle, to the left for what is below 0; `most` fills a half."""
    half = max(1, (width - 1) // 2)
    if isnan(value):
        return f"{'?':>{half + 1}}".ljust(width)
    if value >= 0:
        return f"{'':{half}}│{progress_bar(value / most, half)}".ljust(width)
    # there is no left-growing eighth: half a cell is the finest
    full, rest = divmod(round(min(1.0, -value / most) * half * 8), 8)
    left = "█" * full if rest < 4 else "▐" + "█" * full
    return f"{left:>{half}}│".ljust(width)


def figure(value: float, form: str) -> str:
    """`value` by a format such as `+.2f`, with that minus sign; with none where it rounds to zero."""
    sign, rest = (form[0], form[1:]) if form[0] in "+- " else ("", form)
    return minus(format(value, f"{sign}z{rest}"))
