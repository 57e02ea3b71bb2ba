"""Score against KL, with best-of-n of the reference as the curve that models are held against."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.style import Style
from textual.app import ComposeResult
from textual.content import Content
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import Static

from rlhf_engine.errors import kind_and_message
from rlhf_engine.evaluation.frontier import Frontier
from rlhf_tui.areas.charts.chart import Canvas
from rlhf_tui.areas.charts.colors import rich_color
from rlhf_tui.areas.charts.frontier import draw_frontier
from rlhf_tui.areas.charts.sheet import Sheet
from rlhf_tui.terminal.clean_text import clean_line

MARKS = ("o", "x")
_KINDS = ("line", "overlay", "axes")


class FrontierView(Widget):
    """Draws itself anew when its size, what it shows or the theme change."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"frontier--{kind}" for kind in _KINDS}
    DEFAULT_CSS = """
    FrontierView { layout: vertical; }
    FrontierView > .legend { height: 1; padding: 0 1; }
    FrontierView > .canvas { height: 1fr; color: $text-muted; }
    FrontierView > .told { height: auto; max-height: 60%; padding: 0 1; }
    FrontierView > .frontier--line { color: $secondary; }
    FrontierView > .frontier--overlay { color: $primary; }
    FrontierView > .frontier--axes { color: $text-muted; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._frontier: Frontier | None = None
        self._legend = Static("", markup=False, classes="legend")
        self._canvas = Canvas()
        self._told = Static("", markup=False, classes="told")

    def compose(self) -> ComposeResult:
        yield self._legend
        yield self._canvas
        yield self._told

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)

    def on_unmount(self) -> None:
        self.app.theme_changed_signal.unsubscribe(self)  # it would keep what it calls

    def _theme_changed(self, _: Theme) -> None:
        self.call_after_refresh(self._draw)

    def on_canvas_resized(self) -> None:
        """The sentences are told, and the rest of the room is known."""
        self._draw()

    def load(self, frontier: Frontier | None, otherwise: str = "") -> None:
        """Show another one; or, where there is none, why."""
        self._frontier = frontier
        if frontier is None or not frontier.curve:
            self._legend.update("")
            self._told.update(Content(frontier.why if frontier else otherwise))
        else:
            sides = [(mark, standing) for mark, standing in zip(MARKS, frontier.standings, strict=True) if standing]
            self._legend.update(Content.assemble(
                ("⠒⠒", "$secondary"), " best-of-n ",
                *(part for mark, standing in sides for part in ((f"  {mark}", "$primary bold"), f" {standing.label}"))))
            lines = [*frontier.sentences(), f"x: KL, nats · y: score · {frontier.source}"]
            self._told.update(Content("\n".join(clean_line(line) for line in lines)))
        self._draw()

    def _draw(self) -> None:
        frontier, size = self._frontier, self._canvas.size
        if frontier is None or not frontier.curve:
            self._canvas.show_sentence("")
            return
        marks = [(mark, standing.kl, standing.score)
                 for mark, standing in zip(MARKS, frontier.standings, strict=True) if standing]
        try:
            sheet = draw_frontier([(point.kl, point.score) for point in frontier.curve], marks, size.width, size.height)
        except Exception as error:
            # whatever the library cannot draw must not take the workbench, and a running training, with it
            sheet = f"cannot draw this: {kind_and_message(error)}"
        if isinstance(sheet, Sheet):
            self._canvas.show_curve(sheet.runs(), {kind: self._style(kind) for kind in _KINDS})
        else:
            self._canvas.show_sentence(sheet or "")

    def _style(self, kind: str) -> Style:
        return Style(color=rich_color(self, f"frontier--{kind}"), bold=kind == "overlay" or None)
