"""Two sets of scores as one histogram, drawn by plotext: reference in light bars, tuned in full ones, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from rlhf_tui.areas.charts.plot import Paint, as_text, empty_figure
from rlhf_tui.areas.charts.series import nice_ticks, tick_labels

REFERENCE_MARKER, TUNED_MARKER = "░", "█"
LEAST_WIDTH, LEAST_HEIGHT = 20, 5
_COLUMNS_A_BIN = 3
_LABEL_WIDTH = 4
_HUGE = 1e300  # beyond it the range of the axis would overflow


@dataclass(frozen=True)
class Colours:
    """What is drawn in which colour."""

    reference: Paint
    tuned: Paint
    axes: Paint


def bins(values: Sequence[float], low: float, high: float, count: int) -> list[int]:
    """How many of `values` fall into each of `count` equal parts of [low, high]; the top one includes `high`."""
    counts = [0] * count
    for value in values:
        if low <= value <= high:
            counts[min(count - 1, int((value - low) / (high - low) * count))] += 1
    return counts


def limits(values: Sequence[float]) -> tuple[float, float]:
    """A range that holds all values and is never empty."""
    low, high = min(values), max(values)
    margin = 0.5 if low == high else 0.0
    return low - max(margin, abs(low) * 1e-6), high + max(margin, abs(high) * 1e-6)


def draw_histogram(
    reference: Sequence[float], tuned: Sequence[float], width: int, height: int, colours: Colours
) -> Text:
    """The histogram as `height` lines of `width` cells; values that are not finite are left out."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return Text("")
    finite = [[max(-_HUGE, min(_HUGE, float(v))) for v in side if math.isfinite(v)] for side in (reference, tuned)]
    if not finite[0] and not finite[1]:
        return Text("no finite scores")
    low, high = limits(finite[0] + finite[1])
    columns = width - _LABEL_WIDTH - 1
    count = max(1, columns // _COLUMNS_A_BIN)
    counts = [bins(side, low, high, count) for side in finite]

    figure = empty_figure(width, height, colours.axes)
    top = max(max(side) for side in counts)
    figure.xlim(0, columns - 1)
    figure.ylim(0, top)
    y_ticks = [tick for tick in nice_ticks(0, top, max(2, height // 3)) if tick == int(tick) and tick >= 0]
    figure.yticks(y_ticks, [f"{tick:.0f}".rjust(_LABEL_WIDTH)[:_LABEL_WIDTH] for tick in y_ticks])
    x_ticks = nice_ticks(low, high, max(2, columns // 10))
    places = [(tick - low) / (high - low) * (count * _COLUMNS_A_BIN - 1) for tick in x_ticks]
    figure.xticks(places, tick_labels(x_ticks))
    rows = height - 2
    sides = ((counts[0], REFERENCE_MARKER, colours.reference), (counts[1], TUNED_MARKER, colours.tuned))
    for place, (side, marker, colour) in enumerate(sides):
        xs, ys = [], []
        for index, number in enumerate(side):
            # a bar of one cell's width, a point for every cell; whatever is there shows at least one cell
            for row in range(max(1, round(number / top * rows)) if number else 0):
                xs.append(index * _COLUMNS_A_BIN + place)
                ys.append(row / max(1, rows - 1) * top)
        if xs:
            figure.scatter(xs, ys, marker=marker, color=colour)
    return as_text(figure)
