"""The scores of reference and tuned as one histogram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import Static

from rlhf_engine.errors import kind_and_message
from rlhf_tui.areas.charts.histogram import REFERENCE_MARKER, TUNED_MARKER, Colours, draw_histogram
from rlhf_tui.areas.charts.plot import Paint


class ScoreHistogram(Widget):
    """Draws itself anew when its size, the scores or the theme change."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"scores--reference", "scores--tuned", "scores--axes"}
    DEFAULT_CSS = """
    ScoreHistogram { layout: vertical; }
    ScoreHistogram > #legend { height: 1; padding: 0 1; }
    ScoreHistogram > #canvas { height: 1fr; color: $text-muted; }
    ScoreHistogram > .scores--reference { color: $secondary; }
    ScoreHistogram > .scores--tuned { color: $primary; }
    ScoreHistogram > .scores--axes { color: $text-muted; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._reference: Sequence[float] = ()
        self._tuned: Sequence[float] = ()
        self._labels = ("reference", "tuned")
        self._legend = Static("", id="legend", markup=False)
        self._canvas = Static("", id="canvas", markup=False)

    def compose(self) -> ComposeResult:
        yield self._legend
        yield self._canvas

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)

    def on_unmount(self) -> None:
        self.app.theme_changed_signal.unsubscribe(self)  # it would keep what it calls

    def _theme_changed(self, _: Theme) -> None:
        self.call_after_refresh(self._draw)

    def on_resize(self, _: events.Resize) -> None:
        self.call_after_refresh(self._draw)

    def load(
        self, reference: Sequence[float], tuned: Sequence[float], labels: tuple[str, str] = ("reference", "tuned")
    ) -> None:
        """Show other scores, under the names of the two."""
        self._reference, self._tuned, self._labels = reference, tuned, labels
        self._draw()

    def _draw(self) -> None:
        if not self._reference and not self._tuned:
            self._legend.update("")
            self._canvas.update("")
            return
        first, second = self._labels
        self._legend.update(Content.assemble(
            (REFERENCE_MARKER * 2, "$secondary"), f" {first}   ", (TUNED_MARKER * 2, "$primary"), f" {second}"))
        size = self._canvas.size
        try:
            picture = draw_histogram(self._reference, self._tuned, size.width, size.height, self._colours())
        except Exception as error:
            # whatever the library cannot draw must not take the workbench, and a running training, with it
            picture = Text(f"cannot draw this: {kind_and_message(error)}")
        self._canvas.update(picture)

    def _colours(self) -> Colours:
        return Colours(*(self._paint(f"scores--{name}") for name in ("reference", "tuned", "axes")))

    def _paint(self, component: str) -> Paint:
        colour = self.get_component_styles(component).color
        if colour.ansi is not None:
            # a theme of the terminal's own colours: their red, green and blue would all read 0
            return colour.ansi if colour.ansi >= 0 else "default"
        return (self.background_colors[1] + colour).rgb
