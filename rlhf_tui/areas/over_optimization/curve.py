"""One score over √KL: a dot for each step, the fit through them, and where to stop; or the calibration of a reward
model, beside the diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.style import Style
from textual.app import ComposeResult
from textual.content import Content
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import Static

from rlhf_engine.errors import kind_and_message
from rlhf_tui.areas.charts.chart import Canvas
from rlhf_tui.areas.charts.colors import rich_color
from rlhf_tui.areas.charts.plot import Picture, draw
from rlhf_tui.areas.charts.sheet import Sheet
from rlhf_tui.engine.metrics_history import Points, drawable
from rlhf_tui.terminal.clean_text import clean_line

_KINDS = ("overlay", "line", "axes", "edit", "raw")
_MARK = "o"
_LEAST = 0.1  # √KL, that the axis is long at the least


class CurveView(Widget):
    """Draws itself anew when its size, what it shows or the theme change."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"curve--{kind}" for kind in _KINDS}
    DEFAULT_CSS = """
    CurveView { layout: vertical; height: 1fr; padding: 0 1; }
    CurveView > .title { height: 1; }
    CurveView > .canvas { height: 1fr; color: $text-muted; }
    CurveView > .curve--overlay { color: $primary; }
    CurveView > .curve--line { color: $accent; }
    CurveView > .curve--raw { color: $primary; }
    CurveView > .curve--edit { color: $secondary; }
    CurveView > .curve--axes { color: $text-muted; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._points: Points = []
        self._fit: Points = []
        self._intervals: list[tuple[float, float, float]] = []
        self._stop: tuple[float, str] | None = None
        self._first, self._covers = 0.0, False
        self._otherwise = ""
        self._title = Static("", markup=False, classes="title")
        self._canvas = Canvas()

    def compose(self) -> ComposeResult:
        yield self._title
        yield self._canvas

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)

    def on_unmount(self) -> None:
        self.app.theme_changed_signal.unsubscribe(self)  # it would keep what it calls

    def _theme_changed(self, _: Theme) -> None:
        self.call_after_refresh(self._draw)

    def on_canvas_resized(self) -> None:
        """There is room, or another."""
        self._draw()

    @property
    def picture_text(self) -> str:
        """What the canvas shows, as plain text."""
        return self._canvas.plain_text

    def load(
        self, title: str, points: Sequence[tuple[float, float]], fit: Sequence[tuple[float, float]],
        stop: tuple[float, str] | None = None, otherwise: str = "", *, first: float = 0.0,
        covers: bool = False, intervals: Sequence[tuple[float, float, float]] = (),
    ) -> None:
        """Show (√KL, score) of steps, their fit, and a line at √KL with words beside it; or whatever else is held
        against a line. otherwise: what is said where there is nothing to draw; first: where the x axis begins;
        covers: whether a mark is seen where it falls on the line, which many would hide; intervals: (x, low, high) of
        marks."""
        seen = [(x, y) for x, y in points if drawable(x) and drawable(y)]
        self._points = sorted(seen)
        self._fit = [(x, y) for x, y in fit if drawable(x) and drawable(y)]
        self._intervals = [interval for interval in intervals if all(map(drawable, interval))]
        self._stop, self._otherwise, self._first, self._covers = stop, otherwise, first, covers
        self._title.update(Content(clean_line(title)))
        self._draw()

    def _draw(self) -> None:
        size = self._canvas.size
        sheet: Sheet | str | None = None
        if self._points:
            try:
                sheet = draw(self._picture(), size.width, size.height)
            except Exception as error:
                # whatever the library cannot draw must not take the workbench, and a running training, with it
                sheet = f"cannot draw this: {kind_and_message(error)}"
        if isinstance(sheet, Sheet):
            for x, y in self._points:  # as overlays only every other column of them is drawn
                if self._covers:
                    sheet.mark(x, y, _MARK, "overlay")
                else:
                    sheet.put(sheet.column(x), sheet.row(y), _MARK, "overlay")
            self._canvas.show_curve(sheet.runs(), {kind: self._style(kind) for kind in _KINDS})
        else:
            self._canvas.show_sentence(sheet or clean_line(self._otherwise))

    def _picture(self) -> Picture:
        last = max(self._first + _LEAST, *(x for x, _ in self._points), *(x for x, _ in self._fit))
        marks = [self._stop] if self._stop and drawable(self._stop[0]) else []
        # as overlays they have their place within the limits of both axes
        return Picture(band=self._intervals, line=self._fit, first=self._first, last=last, edits=marks,
                       overlays=[(_MARK, self._points)])

    def _style(self, kind: str) -> Style:
        return Style(color=rich_color(self, f"curve--{kind}"), bold=kind == "edit" or None)
