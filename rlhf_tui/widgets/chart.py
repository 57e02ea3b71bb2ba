"""The charts pane: reward, KL, policy loss and value loss over the steps of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid
from textual.content import Content
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import Static

from rlhf_engine.metrics import Metric, describe
from rlhf_tui.widgets.plot import Colours, Paint, Picture, draw
from rlhf_tui.widgets.series import Points, compact, drawable, smooth
from rlhf_tui.widgets.status import Part, fit

SHOWN = ("objective/scores", "objective/kl", "loss/policy_avg", "loss/value_avg")
SMOOTHINGS = (0.9, 0.97, 0.0, 0.6)
REDRAW_SECONDS = 0.5
LEAST_STEPS = 10


@dataclass(frozen=True)
class Lens:
    """How all charts look at their series. `span` steps are seen, all when None; `back` steps before the newest."""

    decay: float = SMOOTHINGS[0]
    log: bool = False
    span: int | None = None
    back: int = 0

    def steps(self, first: int, last: int) -> tuple[int, int]:
        """The steps to draw of a run that has `first` to `last`."""
        if self.span is None:
            return first, max(last, first + LEAST_STEPS)
        end = max(last - self.back, first + self.span)
        return max(first, end - self.span), end


@dataclass
class History:
    """One metric of one run. Values that are not finite are counted, not kept."""

    metric: Metric
    points: Points = field(default_factory=list)
    not_finite_at: int | None = None

    def add(self, step: int, value: float) -> None:
        """Take in the value of a step; a resumed run may take steps again, which replaces them."""
        while self.points and self.points[-1][0] >= step:
            self.points.pop()
        if drawable(value):
            self.points.append((float(step), float(value)))
        elif self.not_finite_at is None:
            self.not_finite_at = step

    def cut(self, step: int) -> None:
        """Forget what came after `step`."""
        self.points = [point for point in self.points if point[0] <= step]


class Chart(Widget):
    """One metric: a heading with its newest value, and the curve."""

    DEFAULT_CSS = """
    Chart { height: 1fr; width: 1fr; layout: vertical; padding: 0 1; }
    Chart > .title { height: 1; }
    Chart > .canvas { height: 1fr; color: $text-muted; }
    Chart > .chart--raw { color: $primary 60%; }
    Chart > .chart--line { color: $primary; }
    Chart > .chart--axes { color: $text-muted; }
    Chart > .chart--target { color: $accent; }
    Chart > .chart--edit { color: $secondary; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chart--{name}" for name in ("raw", "line", "axes", "target", "edit")}

    def __init__(self, name: str) -> None:
        super().__init__()
        self.history = History(describe(name))
        self.lens = Lens()
        self.edits: list[int] = []
        self.target: float | None = None
        self.dirty = True
        self._title = Static("", markup=False, classes="title")
        self._canvas = Static("", markup=False, classes="canvas")

    def compose(self) -> ComposeResult:
        yield self._title
        yield self._canvas

    @property
    def picture_text(self) -> str:
        """What the canvas shows, as plain text."""
        return str(self._canvas.content)

    def clear(self) -> None:
        """Forget the run."""
        self.history, self.edits = History(self.history.metric), []
        self.dirty = True

    def draw(self) -> None:
        """Draw heading and curve now."""
        self.dirty = False
        self._title.update(self.heading(self._title.size.width))
        self._canvas.update(self._picture())

    def heading(self, width: int) -> Content:
        """Title, newest value with its direction, target, unit, and a badge once a value was not finite."""
        metric, points = self.history.metric, self.history.points
        value = show_value(points[-1][1], signed=metric.better == "up") if points else ""
        parts = [Part(Content.styled(metric.title, "bold"), 0)]
        if points:
            parts.append(Part(Content.styled(f"{value} {self._direction()}".rstrip(), "$primary bold"), 1))
        if self.history.not_finite_at is not None:
            parts.append(Part(Content.styled("✗ diverged", "$error bold"), 2))
            parts.append(Part(Content.styled(f"not finite at step {self.history.not_finite_at}", "$error"), 3))
        target = f"(target {self.target:g})" if self.target is not None else ""
        parts.append(Part(Content.styled(metric.unit.replace(" per ", "/"), "$text-muted"), 5))
        parts.append(Part(Content.styled(target, "$text-muted"), 4))
        return fit(parts, width, " ")

    def _direction(self) -> str:
        line = smooth(self.history.points[-60:], self.lens.decay or 0.6)
        if len(line) < 2:
            return " "
        change = line[-1][1] - line[max(0, len(line) - 4)][1]
        spread = max(y for _, y in line) - min(y for _, y in line)
        return "→" if abs(change) < 0.02 * spread or not spread else "▲" if change > 0 else "▼"

    def _picture(self) -> Text:
        points, size = self.history.points, self._canvas.size
        if not points:
            return Text("no values yet" if self.history.not_finite_at is None else "no finite value")
        first, last = self.lens.steps(int(points[0][0]), int(points[-1][0]))
        picture = Picture(points, smooth(points, self.lens.decay), first, last, self.target, self.edits, self.lens.log)
        try:
            return draw(picture, size.width, size.height, self._colours())
        except Exception as error:
            # whatever the library cannot draw must not take the workbench, and a running training, with it
            return Text(f"cannot draw this: {type(error).__name__}: {error}")

    def _colours(self) -> Colours:
        return Colours(**{name: self._paint(f"chart--{name}") for name in ("raw", "line", "axes", "target", "edit")})

    def _paint(self, component: str) -> Paint:
        styles = self.get_component_styles(component)
        colour = styles.color
        if colour.ansi is not None:
            # a theme of the terminal's own colours: red, green, blue would all read 0, black on black
            return colour.ansi if colour.ansi >= 0 else "default"
        return (self.background_colors[1] + colour).rgb


class Charts(Widget, can_focus=True):
    """Four charts that share one lens; one at a time where there is little room."""

    DEFAULT_CSS = """
    Charts > Grid { grid-size: 2 2; grid-gutter: 0 1; }
    Charts.-one > Grid { grid-size: 1 1; }
    Charts.-one Chart { display: none; }
    Charts.-one Chart.-open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "smooth", "Smoothing", tooltip="Next smoothing of the curves", id="charts.smooth"),
        Binding("plus,equals_sign", "zoom(0.5)", "Zoom in", tooltip="See fewer steps", key_display="+",
                id="charts.zoom_in"),
        Binding("minus,underscore", "zoom(2)", "Zoom out", tooltip="See more steps", key_display="-",
                id="charts.zoom_out"),
        Binding("left", "sideways(-1)", "Earlier", tooltip="Earlier steps, or the chart before", id="charts.left"),
        Binding("right", "sideways(1)", "Later", tooltip="Later steps, or the next chart", id="charts.right"),
        Binding("shift+left", "pan(-1)", "Earlier", tooltip="Earlier steps", id="charts.earlier", show=False),
        Binding("shift+right", "pan(1)", "Later", tooltip="Later steps", id="charts.later", show=False),
        Binding("0", "reset", "Reset", tooltip="All steps, linear axis", id="charts.reset"),
        Binding("Y", "log", "Log axis", tooltip="Logarithmic axis, or linear", id="charts.log"),
    ]

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.charts = [Chart(name) for name in SHOWN]
        self._lens = Lens()
        self._open = 0
        self._one = False
        self._first = self._last = 0

    def compose(self) -> ComposeResult:
        yield Grid(*self.charts)

    def on_mount(self) -> None:
        self._show_open()
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)
        self.set_interval(REDRAW_SECONDS, self.draw_changed)

    # --- data ---

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of a step."""
        self._first, self._last = self._first or step, step
        for chart in self.charts:
            if chart.history.metric.name in metrics:
                chart.history.add(step, metrics[chart.history.metric.name])
                chart.dirty = True

    def mark(self, step: int) -> None:
        """Mark the step from which a live edit counts."""
        for chart in self.charts:
            chart.edits.append(step)
            chart.dirty = True

    def cut(self, step: int) -> None:
        """The run went back to `step`."""
        self._last = min(self._last, step)
        for chart in self.charts:
            chart.history.cut(step)
            chart.edits = [edit for edit in chart.edits if edit <= step]
            chart.dirty = True

    def clear(self) -> None:
        """A new run begins."""
        self._first = self._last = 0
        for chart in self.charts:
            chart.clear()
        self._look(replace(self._lens, span=None, back=0))

    def show_target(self, target: float | None) -> None:
        """The KL that the adaptive controller aims at, or that a person has in mind."""
        chart = self.charts[SHOWN.index("objective/kl")]
        if chart.target != target:
            chart.target, chart.dirty = target, True

    # --- drawing ---

    def draw_changed(self) -> None:
        """Draw the charts that have changed and are seen."""
        if not self.screen.is_current or not self.display:
            return
        for chart in self.charts:
            if chart.dirty and chart.is_attached and chart.region:
                chart.draw()

    def on_resize(self, _: events.Resize) -> None:
        self._all_changed()

    def _theme_changed(self, _: Theme) -> None:
        self._all_changed()

    def _all_changed(self) -> None:
        for chart in self.charts:
            chart.dirty = True
        self.call_after_refresh(self.draw_changed)

    def _look(self, lens: Lens) -> None:
        self._lens = lens
        for chart in self.charts:
            chart.lens = lens
        facts = [f"{self._open + 1} of {len(self.charts)} ← →"] if self._one else []
        facts += [f"· raw  ⠒ ema {lens.decay:g}" if lens.decay else "⠒ raw", "log" if lens.log else "linear"]
        back = f", {lens.back} back" if lens.back else ""
        facts.append("all steps" if lens.span is None else f"{lens.span} steps{back}")
        self.border_subtitle = Content(" · ".join(facts))
        self._all_changed()

    # --- one at a time ---

    @property
    def one_at_a_time(self) -> bool:
        """True where one chart takes the whole pane, and ← → change it."""
        return self._one

    @one_at_a_time.setter
    def one_at_a_time(self, one: bool) -> None:
        if one != self._one:
            self._one = one
            self.set_class(one, "-one")
            self._look(self._lens)

    def _show_open(self) -> None:
        for index, chart in enumerate(self.charts):
            chart.set_class(index == self._open, "-open")
        self._look(self._lens)

    # --- keys ---

    def action_smooth(self) -> None:
        """Next smoothing."""
        decay = SMOOTHINGS[(SMOOTHINGS.index(self._lens.decay) + 1) % len(SMOOTHINGS)]
        self._look(replace(self._lens, decay=decay))

    def action_log(self) -> None:
        """Logarithmic axis, or linear."""
        self._look(replace(self._lens, log=not self._lens.log))

    def action_zoom(self, factor: float) -> None:
        """See `factor` times as many steps."""
        total = max(LEAST_STEPS, self._last - self._first)
        span = max(LEAST_STEPS, round((self._lens.span or total) * factor))
        self._look(replace(self._lens, span=None, back=0) if span >= total else replace(self._lens, span=span))

    def action_sideways(self, direction: int) -> None:
        """Pan; where one chart is shown, change it."""
        if self._one:
            self._open = (self._open + direction) % len(self.charts)
            self._show_open()
        else:
            self.action_pan(direction)

    def action_pan(self, direction: int) -> None:
        """Half a screen of steps earlier or later."""
        if self._lens.span is not None:
            back = self._lens.back - direction * max(1, self._lens.span // 2)
            most = max(0, self._last - self._first - self._lens.span)
            self._look(replace(self._lens, back=max(0, min(back, most))))

    def action_reset(self) -> None:
        """All steps, linear axis, first smoothing."""
        self._look(Lens())


def show_value(value: float, *, signed: bool = False) -> str:
    """A value in few cells; a plus sign when `signed`."""
    sign = "+" if signed else ""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return (sign if value > 0 else "") + compact(value)
    return f"{value:{sign}.2f}" if abs(value) >= 0.1 else f"{value:{sign}.4f}"
