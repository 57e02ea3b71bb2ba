"""One metric as a chart: a heading with its newest value, or what is read off, and the curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from rlhf_engine.errors import kind_and_message
from rlhf_engine.metrics import Metric, describe
from rlhf_tui.areas.charts.colors import rich_color
from rlhf_tui.areas.charts.plot import Picture, draw
from rlhf_tui.areas.charts.readout import heading, legend, why_empty
from rlhf_tui.areas.charts.scene import Scene
from rlhf_tui.areas.charts.sheet import Sheet
from rlhf_tui.engine.metrics_history import Points

KL = "objective/kl"
_KINDS = ("raw", "line", "axes", "target", "edit", "overlay", "cursor")
# told apart by weight too, where there is no colour
_BOLD = {"edit", "overlay", "cursor"}


class Canvas(Static):
    """Where the curve is drawn, or a sentence stands that says why there is none.

    Says when it has another size, which the pane around may not notice. A curve is lines of segments, as they go to
    the terminal: a Text would be wrapped and styled anew with every drawing, which takes as long as plotext.
    """

    ALLOW_SELECT = False  # it is a picture, of which no text could be copied

    class Resized(Message):
        """There is more or less room than before."""

    def __init__(self) -> None:
        super().__init__("", markup=False, classes="canvas")
        self._lines: list[list[tuple[str, str]]] = []
        self._styles: Mapping[str, Style] = {}

    @property
    def plain_text(self) -> str:
        """What it shows."""
        return "\n".join("".join(text for text, _ in line) for line in self._lines) or str(self.content)

    def show_curve(self, lines: list[list[tuple[str, str]]], styles: Mapping[str, Style]) -> None:
        """Lines of (text, kind), and the style of each kind; as wide as the canvas."""
        self._lines, self._styles = lines, styles
        self.refresh()

    def show_sentence(self, sentence: str) -> None:
        """Words instead of a curve."""
        self._lines = []
        self.update(Text(sentence), layout=False)

    def render_line(self, y: int) -> Strip:
        if not self._lines:
            return super().render_line(y)
        width, base = self.size.width, self.visual_style.rich_style
        line = self._lines[y] if y < len(self._lines) else []
        strip = Strip([Segment(text, base + style if (style := self._styles.get(kind)) else base)
                       for text, kind in line])
        return strip.adjust_cell_length(width, base)

    def on_resize(self, _: events.Resize) -> None:
        self.post_message(self.Resized())


class Chart(Widget):
    """One metric of the scene. Draws when told to: `draw` all of it, `show` what the cursor changes."""

    DEFAULT_CSS = """
    Chart { height: 1fr; width: 1fr; layout: vertical; padding: 0 1; }
    Chart > .title { height: 1; }
    Chart > .legend { height: 1; display: none; }
    Chart.-laid-over > .legend { display: block; }
    Chart > .canvas { height: 1fr; color: $text-muted; }
    Chart > .chart--raw { color: $primary 60%; }
    Chart > .chart--line { color: $primary; }
    Chart > .chart--axes { color: $text-muted; }
    Chart > .chart--target { color: $accent; }
    Chart > .chart--edit { color: $secondary; }
    Chart > .chart--overlay { color: $secondary; }
    Chart > .chart--cursor { color: $foreground; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chart--{kind}" for kind in _KINDS}

    @dataclass
    class Pointed(Message):
        """The mouse is over the canvas at `x` of its axis; None when it has left. `click`: and was pressed there."""

        x: float | None
        click: bool = False

    @dataclass
    class Named(Message):
        """The heading was clicked."""

        chart: Chart

    @dataclass
    class Chosen(Message):
        """The chart was clicked anywhere."""

        chart: Chart

    def __init__(self, name: str, scene: Scene) -> None:
        super().__init__()
        self.scene = scene
        self.target: float | None = None
        self.chosen = False
        self.dirty = True
        self._metric = describe(name)
        self._picture: Picture | None = None
        self._sheet: Sheet | str = ""
        self._drawn_for = Size(0, 0)
        self._title = Static("", markup=False, classes="title")
        self._legend = Static("", markup=False, classes="legend")
        self._canvas = Canvas()

    def compose(self) -> ComposeResult:
        yield self._title
        yield self._legend
        yield self._canvas

    @property
    def metric(self) -> Metric:
        """What it shows."""
        return self._metric

    @metric.setter
    def metric(self, metric: Metric) -> None:
        if metric != self._metric:
            self._metric, self.dirty = metric, True

    @property
    def points(self) -> Points:
        """The newest values as (step, value), of which thousands are kept."""
        return self.scene.run.points(self._metric.name)

    @property
    def columns(self) -> int:
        """How many columns the curve has."""
        return 1 if isinstance(self._sheet, str) else self._sheet.columns

    @property
    def picture_text(self) -> str:
        """What the canvas shows, as plain text."""
        return self._canvas.plain_text

    @property
    def heading_text(self) -> str:
        """The heading as plain text."""
        return str(self._title.content)

    @property
    def legend_text(self) -> str:
        """The line that names the runs laid over, as plain text."""
        return str(self._legend.content)

    @property
    def stale(self) -> bool:
        """True when what is seen is not what there is to see."""
        return self.dirty or self._canvas.size != self._drawn_for

    def draw(self) -> None:
        """Draw everything anew."""
        self.dirty = False
        size, name = self._canvas.size, self._metric.name
        self._drawn_for = size
        try:
            self._picture = self.scene.picture(name, self._aim, size.width)
            drawn = draw(self._picture, size.width, size.height) if self._picture else None
            self._sheet = why_empty(self.scene, name) if drawn is None else drawn
        except Exception as error:
            # whatever the library cannot draw must not take the workbench, and a running training, with it
            self._sheet = f"cannot draw this: {kind_and_message(error)}"
        self.show()

    def show(self) -> None:
        """Write heading, legend and the sheet as drawn last, with the cursor where it is now."""
        width = self._title.size.width
        line = self._picture.line if self._picture else []
        # the layout does not hang on what is written: nothing here but the text changes
        self._title.update(heading(self.scene, self._metric, width, target=self._aim, line=line, chosen=self.chosen),
                           layout=False)
        if self.scene.others:
            self._legend.update(legend(self.scene, self._metric, width), layout=False)
        if isinstance(self._sheet, str):
            self._canvas.show_sentence(self._sheet)
        else:
            self._canvas.show_curve(self._sheet.runs(self._cursor(self._sheet)), self._styles)

    @property
    def _aim(self) -> float | None:
        return self.target if self._metric.name == KL else None

    def _cursor(self, sheet: Sheet) -> tuple[int, int | None] | None:
        """Column of the cursor, and the row of the value there."""
        x, picture = self.scene.cursor_place(), self._picture
        if x is None or picture is None:
            return None
        reading = self.scene.read(self._metric.name, [])
        return sheet.column(x), sheet.row_of(reading.bucket.mean, log=picture.log) if reading else None

    # --- colours ---

    def notify_style_update(self) -> None:
        """Other colours: those found before count no more."""
        super().notify_style_update()
        self.__dict__.pop("_styles", None)

    @cached_property
    def _styles(self) -> dict[str, Style]:
        # asked for with each drawing, and to find a colour means asking all widgets that lie below it for theirs
        return {kind: Style(color=rich_color(self, f"chart--{kind}"), bold=kind in _BOLD or None) for kind in _KINDS}

    # --- mouse ---

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Read off what is under the pointer."""
        self.post_message(self.Pointed(self._x_at(event)))

    def on_leave(self, _: events.Leave) -> None:
        self.post_message(self.Pointed(None))

    def on_click(self, event: events.Click) -> None:
        """The heading offers other metrics; a place in the curve keeps the cursor there."""
        self.post_message(self.Chosen(self))
        if event.screen_y == self._title.region.y:
            self.post_message(self.Named(self))
        elif (x := self._x_at(event)) is not None:
            self.post_message(self.Pointed(x, click=True))

    def _x_at(self, event: events.MouseEvent) -> float | None:
        if isinstance(self._sheet, str) or not self._canvas.region.contains(event.screen_x, event.screen_y):
            return None
        column = event.screen_x - self._canvas.region.x - self._sheet.left
        return self._sheet.x(column) if 0 <= column < self._sheet.columns else None
