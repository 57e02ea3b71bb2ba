"""From a metric's history to the few points a chart can show. Pure functions over lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

Points = list[tuple[float, float]]


def finite(points: Sequence[tuple[float, float]]) -> Points:
    """The points whose value is a finite number."""
    return [(x, y) for x, y in points if math.isfinite(y)]


def smooth(points: Sequence[tuple[float, float]], decay: float) -> Points:
    """Exponential moving average of the values, corrected for its start at zero (as Adam does, Kingma & Ba 2015).

    decay 0 hands the points back as they are. Points must be finite.
    """
    if decay <= 0:
        return list(points)
    mean, weight, out = 0.0, 0.0, []
    for x, y in points:
        mean = decay * mean + (1 - decay) * y
        weight = decay * weight + (1 - decay)
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


def tick_labels(values: Sequence[float]) -> list[str]:
    """Short labels, with the same number of decimals, enough to tell them apart."""
    if not values:
        return []
    largest = max(abs(value) for value in values)
    if largest and (largest >= 1e5 or largest < 1e-3):
        return [f"{value:.1e}" for value in values]
    gap = min((b - a for a, b in pairwise(values)), default=largest) or 1.0
    decimals = max(0, min(6, math.ceil(-math.log10(gap) - 1e-9) + (1 if f"{gap:.1e}".startswith("2.5") else 0)))
    return [f"{value:.{decimals}f}" for value in values]
