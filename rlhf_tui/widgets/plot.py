"""One chart as coloured text, drawn by plotext.

plotext shares one global figure by default, limits itself to the size of the terminal it finds, and raises on NaN; this
module uses a figure of its own, sets every size, tick and colour, and hands it finite points only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from rlhf_tui.widgets.series import Points, bucket, compact, nice_ticks, tick_labels, window

RAW_MARKER, TARGET_MARKER, EDIT_MARKER = "·", "╌", "┊"
LABEL_WIDTH = 7
LEAST_WIDTH, LEAST_HEIGHT = 16, 4

Paint = tuple[int, int, int] | int | str
"""A colour as plotext takes it: red, green, blue; a number of the terminal's palette; or "default"."""


@dataclass(frozen=True)
class Colours:
    """What is drawn in which colour."""

    raw: Paint
    line: Paint
    axes: Paint
    target: Paint
    edit: Paint


@dataclass(frozen=True)
class Picture:
    """What a chart shows: points of a metric as they came and smoothed, over steps `first` to `last`."""

    raw: Points
    line: Points
    first: float
    last: float
    target: float | None = None
    edits: Sequence[int] = ()
    log: bool = False


def draw(picture: Picture, width: int, height: int, colours: Colours) -> Text:
    """The chart as `height` lines of `width` cells. Points must be `drawable`.

    Raises nothing for any such points; too little room, or nothing to draw, gives a sentence.
    """
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return Text("")
    first, last = picture.first, max(picture.last, picture.first + 1)
    columns = width - LABEL_WIDTH - 1
    scaled = _log if picture.log else list
    raw, line = (scaled(window(points, first, last)) for points in (picture.raw, picture.line))
    if not raw:
        return Text("no values above 0 for a log axis" if picture.log and picture.raw else "no values yet")
    raw, line = bucket(raw, columns), bucket(line, columns)
    target = math.log10(picture.target) if picture.log and picture.target else picture.target
    low, high = _limits([y for _, y in [*raw, *line]], target)

    figure = new_figure(width, height, colours.axes)
    figure.xlim(first, last)
    figure.ylim(low, high)
    y_ticks = nice_ticks(low, high, max(2, (height - 2) // 2))
    figure.yticks(y_ticks, [label.rjust(LABEL_WIDTH) for label in _labels(y_ticks, picture.log)])
    x_ticks = [x for x in nice_ticks(first, last, max(2, columns // 12)) if x == int(x)]
    figure.xticks(x_ticks, [f"{x:.0f}" for x in x_ticks])

    rows = [low + (high - low) * row / (height - 3) for row in range(height - 2)]
    for step in picture.edits:
        if first <= step <= last:
            figure.scatter([step] * len(rows), rows, marker=EDIT_MARKER, color=colours.edit)
    if target is not None and low <= target <= high:
        xs = [first + (last - first) * column / (columns - 1) for column in range(columns)]
        figure.scatter(xs, [target] * columns, marker=TARGET_MARKER, color=colours.target)
    if raw != line:
        figure.scatter(*_axes(raw), marker=RAW_MARKER, color=colours.raw)
    if line:
        figure.plot(*_axes(line), marker="braille", color=colours.line)
    return as_text(figure)


def new_figure(width: int, height: int, axes: Paint) -> Any:
    """An empty plotext figure of that many cells, with axes left and below, on the terminal's own background."""
    # not at the top: the first frame need not wait for it. The class behind the global figure has no public name.
    from plotext._figure import _figure_class as Figure

    figure = Figure()
    figure._limit_size(False, False)
    figure.plotsize(width, height)
    for paint in (figure.canvas_color, figure.axes_color):
        paint("default")
    figure.ticks_color(axes)
    figure.xaxes(True, False)
    figure.yaxes(True, False)
    return figure


def as_text(figure: Any) -> Text:
    """The figure as lines that are cropped, never wrapped."""
    text = Text.from_ansi(figure.build().rstrip("\n"), no_wrap=True, overflow="crop")
    text.end = ""
    return text


def _axes(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _log(points: Points) -> Points:
    return [(x, math.log10(y)) for x, y in points if y > 0]


def _limits(values: list[float], target: float | None) -> tuple[float, float]:
    """The range to draw: all values, and the target when that is not far off; never empty."""
    low, high = min(values), max(values)
    if target is not None and low - (high - low) <= target <= high + max(high - low, 0.5 * abs(high)):
        low, high = min(low, target), max(high, target)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


def _labels(ticks: list[float], log: bool) -> list[str]:
    if log:
        return [compact(10**tick) if abs(tick) < 300 else f"1e{tick:.0f}" for tick in ticks]
    return tick_labels(ticks, LABEL_WIDTH)
