"""From a metric's history to the few points a chart can show. Pure functions over lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from rlhf_tui.engine.metrics_history import Points
from rlhf_tui.widgets.figures import minus

Line = Sequence[tuple[float, float]]


def smooth(points: Sequence[tuple[float, float]], decay: float, sizes: Sequence[int] | None = None) -> Points:
    """Exponential moving average of the values, corrected for its start at zero (as Adam does, Kingma & Ba 2015).

    decay 0 hands the points back as they are. Points must be finite. sizes: how many steps each point is the mean of.
    """
    if decay <= 0:
        return list(points)
    mean, weight, out = 0.0, 0.0, []
    kept = [decay**size for size in sizes] if sizes else [decay] * len(points)
    for (x, y), keep in zip(points, kept, strict=True):
        mean = keep * mean + (1 - keep) * y
        weight = keep * weight + (1 - keep)
        out.append((x, mean / weight))
    return out


def bucket(points: Sequence[tuple[float, float]], columns: int) -> Points:
    """At most two points a column, its lowest and its highest, so that no spike is lost. `points` ascend in x."""
    if columns < 1 or len(points) <= 2 * columns:
        return list(points)
    first, last = points[0][0], points[-1][0]
    width = (last - first) / columns or 1.0
    kept: Points = []
    start = 0
    for column in range(columns):
        end = start
        edge = first + (column + 1) * width
        while end < len(points) and (points[end][0] < edge or column == columns - 1):
            end += 1
        cell = points[start:end]
        start = end
        if cell:
            low, high = min(cell, key=lambda p: p[1]), max(cell, key=lambda p: p[1])
            kept += [low] if low is high else sorted((low, high))
    return kept


def window(points: Sequence[tuple[float, float]], first: float, last: float) -> Points:
    """The points with first <= x <= last."""
    return [(x, y) for x, y in points if first <= x <= last]


def time_ticks(low: float, high: float, most: int) -> list[float]:
    """Round times between `low` and `high` seconds, at most `most` of them: whole seconds, minutes, hours or days."""
    for unit in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400):
        begin, end = math.ceil(low / unit), math.floor(high / unit)
        if end - begin + 1 <= most:
            return [index * unit for index in range(begin, end + 1)]
    return [tick * 86400 for tick in nice_ticks(low / 86400, high / 86400, most)]


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values between `low` and `high`, at most `most` of them and at least one where there is one."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low or most < 1:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 0.0
    if power <= 0 or not math.isfinite(power):
        return [low]
    for factor in (1, 2, 2.5, 5, 10, 20, 25, 50, 100):
        step = factor * power
        begin, end = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if 1 <= end - begin + 1 <= most:
            return [index * step for index in range(begin, end + 1)]
    return [low]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Decimal logarithms of 1, 2 or 5 times a power of ten, at most `most` of them between `low` and `high`, which are
    logarithms too; of other round values where fewer than two of those lie there."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low or most < 1:
        return [low]
    decades = range(math.floor(low), math.ceil(high) + 1)
    for factors, every in (((1, 2, 5), 1), ((1, 5), 1), ((1,), 1), *(((1,), many) for many in (2, 5, 10, 20, 50, 100))):
        found = [power + math.log10(factor) for power in decades if power % every == 0 for factor in factors]
        found = [tick for tick in found if low - 1e-9 <= tick <= high + 1e-9]
        if len(found) <= most:
            break
    if len(found) < 2 and high - low < 2:
        return [math.log10(value) for value in nice_ticks(10**low, 10**high, most) if value > 0]
    return found or [low]


def tick_labels(values: Sequence[float], width: int = 7) -> list[str]:
    """Labels with the same number of decimals, enough to tell them apart; powers of ten where that is too wide."""
    if not values:
        return []
    gap = min((b - a for a, b in pairwise(values)), default=max(map(abs, values))) or 1.0
    digits = f"{gap:.1e}"
    decimals = max(0, -int(digits.partition("e")[2]) + (digits[2] != "0"))
    labels = [minus(f"{value:.{decimals}f}") for value in values]
    return labels if max(map(len, labels)) <= width else [compact(value) for value in values]


def compact(value: float) -> str:
    """Two or three places in at most seven cells: `0.25`, `−1.2e−5`."""
    if abs(value) < 1e-99:
        return "0"
    if 0.01 <= abs(value) < 1e5:
        return minus(f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}")
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    short = f"{mantissa}e{int(exponent)}"
    return minus(short if len(short) <= 7 else f"{float(mantissa):.0f}e{int(exponent)}")
