"""One chart as a sheet of cells: plotext draws axes and the smoothed line, the rest is put into the cells left free.

plotext shares one global figure by default, limits itself to the size of the terminal it finds, and raises on NaN; this
module uses a figure of its own, sets every size and tick, and hands it finite points only. Everything but the line is
put in afterwards: a scatter of plotext costs more than all else in a redraw, and would paint over the line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rich.text import Text

from rlhf_engine.system.units import format_clock
from rlhf_tui.areas.charts.lens import Axis
from rlhf_tui.areas.charts.series import bucket, compact, log_ticks, nice_ticks, tick_labels, time_ticks, window
from rlhf_tui.areas.charts.sheet import Sheet
from rlhf_tui.engine.metrics_history import Points
from rlhf_tui.widgets.figures import minus

RAW, TARGET, EDIT = "·", "╌", "┊"
OVERLAY_MARKERS = "ox+%#&"  # no star: in ASCII that is the line of the run itself
LABEL_WIDTH = 7
LEAST_WIDTH, LEAST_HEIGHT = 16, 4
_LABEL_ROWS = 3

Paint = tuple[int, int, int] | int | str
"""A colour as plotext takes it: red, green, blue; a number of the terminal's palette; or "default"."""

Band = Sequence[tuple[float, float, float]]
"""(x, lowest, highest), ascending in x."""


@dataclass(frozen=True)
class Picture:
    """What a chart shows between `first` and `last` of its x axis. All numbers must be `drawable`.

    band: what was measured; line: the same, smoothed; overlays: the lines of other runs, each with its marker;
    edits: where a live change took effect, and what it was.
    """

    band: Band
    line: Points
    first: float
    last: float
    target: float | None = None
    edits: Sequence[tuple[float, str]] = ()
    overlays: Sequence[tuple[str, Points]] = ()
    log: bool = False
    axis: Axis = "step"
    ascii: bool = False


def draw(picture: Picture, width: int, height: int) -> Sheet | str | None:
    """The chart as a sheet of `height` lines of `width` cells; a sentence where there is too little room, or nothing
    that the axis has a place for; None where there is no value.

    Raises nothing for any such picture.
    """
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return ""
    first, last = picture.first, picture.last if picture.last > picture.first else picture.first + 1
    columns = width - LABEL_WIDTH - 1
    band, line, overlays = _seen(picture, first, last, columns)
    if not any((band, line, *overlays)):
        return "no values above 0 for a log axis" if picture.log and (picture.band or picture.line) else None
    target = picture.target
    if picture.log and target is not None:
        target = math.log10(target) if target > 0 else None
    values = [y for _, low, high in band for y in (low, high)] + [y for points in (line, *overlays) for _, y in points]
    low, high = _limits(values, target)
    sheet = _with_plotext(picture, line, (first, last), (low, high), (width, height))
    for (marker, _), points in zip(picture.overlays, overlays, strict=True):
        sheet.dots(points, marker, "overlay")
    sheet.band(band, RAW, "raw")
    if target is not None and low <= target <= high:
        for column in range(sheet.columns):
            sheet.put(column, sheet.row(target), TARGET, "target")
    edits = [(sheet.column(x), text) for x, text in picture.edits if first <= x <= last]
    for column, _ in edits:
        for row in range(sheet.rows):
            sheet.put(column, row, EDIT, "edit")
    for column, text in reversed(edits):
        sheet.label(column, text, "edit", _LABEL_ROWS)
    return sheet.in_ascii() if picture.ascii else sheet


def empty_figure(width: int, height: int, axes: Paint = "default") -> Any:
    """A plotext figure of that many cells, with axes left and below, on the terminal's own background. Limits, ticks
    and all that is drawn are the caller's to set, each time: there is one figure of a size.
    """
    figure = _figure(width, height, axes)
    figure.clear_data()
    return figure


@lru_cache(maxsize=16)
def _figure(width: int, height: int, axes: Paint) -> Any:
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


def _with_plotext(picture: Picture, line: Points, x_range: tuple[float, float], y_range: tuple[float, float],
                  size: tuple[int, int]) -> Sheet:
    """Axes with their ticks, and the line."""
    (width, height), columns = size, size[0] - LABEL_WIDTH - 1
    figure = empty_figure(width, height)
    figure.xlim(*x_range)
    figure.ylim(*y_range)
    y_ticks = (log_ticks if picture.log else nice_ticks)(*y_range, max(2, (height - 2) // 2))
    figure.yticks(y_ticks, [label.rjust(LABEL_WIDTH) for label in _labels(y_ticks, picture.log)])
    x_ticks = _x_ticks(picture.axis, *x_range, max(2, columns // 12))
    figure.xticks(x_ticks, [_x_label(picture.axis, x) for x in x_ticks])
    if line:
        figure.plot([x for x, _ in line], [y for _, y in line], marker="*" if picture.ascii else "braille")
    else:  # without any point there would be no axes
        figure.scatter(x_range[:1], y_range[:1], marker=" ")
    # `build`, without the text with escape codes that it ends with and we have no use for
    figure._set_sizes()
    figure._build_matrix()
    matrix = figure.monitor.matrix  # its lines count from the bottom
    return Sheet(matrix.marker[::-1], matrix.Cols_canvas.start, matrix.Rows_canvas.start, x_range, y_range)


def _seen(picture: Picture, first: float, last: float, columns: int) -> tuple[Band, Points, list[Points]]:
    """Band, line and overlays as they are drawn: within the axis, on its scale, a few points for each column."""
    band = [found for found in picture.band if first <= found[0] <= last]
    lines = [window(points, first, last) for points in (picture.line, *(points for _, points in picture.overlays))]
    if picture.log:
        band = [(x, math.log10(low if low > 0 else high), math.log10(high)) for x, low, high in band if high > 0]
        lines = [[(x, math.log10(y)) for x, y in points if y > 0] for points in lines]
    line, *overlays = (bucket(points, columns) for points in lines)
    return band, line, overlays


def _limits(values: list[float], target: float | None) -> tuple[float, float]:
    """The range to draw: all values, and the target when that is not far off; never empty."""
    low, high = min(values), max(values)
    if target is not None and low - (high - low) <= target <= high + max(high - low, 0.5 * abs(high)):
        low, high = min(low, target), max(high, target)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


def _labels(ticks: list[float], log: bool) -> list[str]:
    if log:
        return [compact(float(f"{10**tick:.6g}")) if abs(tick) < 300 else minus(f"1e{tick:.0f}") for tick in ticks]
    return tick_labels(ticks, LABEL_WIDTH)


def _x_ticks(axis: Axis, first: float, last: float, most: int) -> list[float]:
    if axis == "time":
        return time_ticks(first, last, most)
    return [x for x in nice_ticks(first, last, most) if x == int(x)]


def _x_label(axis: Axis, x: float) -> str:
    if axis == "time":
        return format_clock(x)
    if axis == "step" or x < 10_000:
        return f"{x:.0f}"
    return f"{x / 1e6:g}M" if x >= 1e6 else f"{x / 1e3:g}k"
