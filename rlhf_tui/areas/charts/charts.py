"""The charts pane: four metrics of the run, each of which can be any; other runs over them; a cursor to read off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Grid
from textual.content import Content
from textual.message import Message
from textual.theme import Theme
from textual.widget import Widget

from rlhf_engine.config.methods.base import AlgorithmConfig
from rlhf_engine.metrics import OF_HELD_OUT, REGISTRY, Metric, describe, named
from rlhf_tui.areas.charts.chart import Canvas, Chart
from rlhf_tui.areas.charts.chart_keys import KEYS
from rlhf_tui.areas.charts.curves import Curves
from rlhf_tui.areas.charts.drawing import ChartDrawing
from rlhf_tui.areas.charts.lens import DEFAULT_METRICS, LEAST_STEPS, SMOOTHINGS, Lens, Smoothing, step_at
from rlhf_tui.areas.charts.readout import place_line
from rlhf_tui.areas.charts.scene import Scene
from rlhf_tui.areas.charts.sheet import plain
from rlhf_tui.terminal.clean_text import clean_line


class Charts(Widget, can_focus=True):
    """Four charts that share one lens and one cursor; one at a time where there is little room.

    `curves` is told what is to be drawn, `drawing` decides when.
    """

    DEFAULT_CSS = """
    Charts > Grid { grid-size: 2 2; grid-gutter: 0 1; }
    Charts.-one > Grid { grid-size: 1 1; }
    Charts.-one Chart { display: none; }
    Charts.-one Chart.-open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    class AloneAsked(Message):
        """Enter: this chart alone on the whole screen, or all again."""

    def __init__(
        self, *, holds_out: Callable[[], bool] = lambda: True, id: str | None = None, classes: str | None = None
    ) -> None:
        """holds_out: whether the run has held-out prompts; only then is offered what is measured on these."""
        super().__init__(id=id, classes=classes)
        self._holds_out = holds_out
        self._drawn_for: tuple[str, bool] | None = None
        self.scene = Scene()
        self.charts = [Chart(name, self.scene) for name in DEFAULT_METRICS]
        self._chosen: tuple[str, ...] = DEFAULT_METRICS
        self._method: AlgorithmConfig | None = None
        self.drawing = ChartDrawing(self, self.charts, self._say_how)  # how smooth hangs on how many steps there are
        self.curves = Curves(self.scene, self.charts, self.drawing, lambda: self._look(self.scene.lens))
        self._open = 0
        self._one = False

    def compose(self) -> ComposeResult:
        yield Grid(*self.charts)

    def on_mount(self) -> None:
        self._show_open()
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)
        self.drawing.begin()

    # --- how a person likes it ---

    @property
    def shown(self) -> tuple[str, ...]:
        """The names of the four metrics that a person chose, in order. May be set; anything but four raises ValueError.

        Where one is of another method than the run's, its chart shows one of this method.
        """
        return self._chosen

    @shown.setter
    def shown(self, names: Sequence[str]) -> None:
        if len(names) != len(self.charts):
            raise ValueError(f"{len(names)} metrics for {len(self.charts)} charts: one each, please")
        if tuple(names) != self._chosen:
            self._chosen = tuple(names)
            self._draw_metrics()

    def use_method(self, method: AlgorithmConfig) -> None:
        """Draw a run of this method: of its metrics, as far as others were not chosen."""
        if (drawn_for := (method.kind, self._holds_out())) != self._drawn_for:
            self._method, self._drawn_for, self.scene.comes_with = method, drawn_for, method.comes_with
            self._draw_metrics()

    def _draw_metrics(self) -> None:
        names, method = list(self._chosen), self._method
        if method is not None:
            own = {metric.name for metric in self._known}
            for at, (name, default) in enumerate(zip(method.charts, DEFAULT_METRICS, strict=False)):
                names[at] = name if names[at] == default else names[at]  # where nobody has chosen
            offered = (*method.charts, *(metric.name for metric in self._known))
            spare = [name for name in offered if name not in names]
            foreign = [at for at, name in enumerate(names) if name in REGISTRY and name not in own]
            for at, name in zip(foreign, dict.fromkeys(spare), strict=False):
                names[at] = name
        if names != [chart.metric.name for chart in self.charts]:
            for chart, name in zip(self.charts, names, strict=True):
                chart.metric = describe(clean_line(name))
            self.drawing.draw_all_soon()

    @property
    def ascii(self) -> bool:
        """True to draw with plain ASCII characters, for fonts without braille."""
        return self.scene.ascii

    @ascii.setter
    def ascii(self, ascii_only: bool) -> None:
        if ascii_only != self.scene.ascii:
            self.scene.ascii = ascii_only
            self._look(self.scene.lens)

    @property
    def smoothing(self) -> Smoothing:
        """How the lines are smoothed: one of SMOOTHINGS, else ValueError."""
        return self.scene.lens.smoothing

    @smoothing.setter
    def smoothing(self, smoothing: Smoothing) -> None:
        if smoothing not in SMOOTHINGS:
            raise ValueError(f"a smoothing of {smoothing}: it is one of {', '.join(map(str, SMOOTHINGS))}")
        if smoothing != self.scene.lens.smoothing:
            self._look(replace(self.scene.lens, smoothing=smoothing))

    @property
    def responses_per_step(self) -> int:
        """How many responses a step of the shown run samples: the scale of the x axis by responses."""
        return self.scene.responses_per_step

    @responses_per_step.setter
    def responses_per_step(self, responses: int) -> None:
        if responses != self.scene.responses_per_step:
            self.scene.responses_per_step = responses
            self._look(self.scene.lens)

    # --- drawing ---

    def on_canvas_resized(self, event: Canvas.Resized) -> None:
        event.stop()
        self.call_later(self.drawing.draw_changed)

    def _theme_changed(self, _: Theme) -> None:
        self.drawing.draw_all_soon()

    def _look(self, lens: Lens) -> None:
        self.scene.lens = lens
        self._say_how()
        self.drawing.draw_all_soon()

    def on_focus(self) -> None:
        self.call_later(self._show_chosen)

    def on_blur(self) -> None:
        self.call_later(self._show_chosen)

    def _say_how(self) -> None:
        """How the charts are looked at, or where the cursor stands, into the frame."""
        if self.scene.looked_at is not None:
            self.border_subtitle = place_line(self.scene)
            return
        place = [f"{self._open + 1} of {len(self.charts)} ← →"] if self._one else []
        text = " · ".join([*place, *self.scene.lens.words(self.scene.decay)])
        self.border_subtitle = Content(plain(text) if self.ascii else text)

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
            self._show_open()

    def _show_open(self) -> None:
        for index, chart in enumerate(self.charts):
            chart.set_class(index == self._open, "-open")
        self._show_chosen()
        self._look(self.scene.lens)

    def _show_chosen(self) -> None:
        """Mark the chart that keys such as `m` mean, where several are seen."""
        for index, chart in enumerate(self.charts):
            chosen = index == self._open and self.has_focus and not self._one
            if chart.chosen != chosen:
                chart.chosen = chosen
                if chart.region:
                    chart.show()

    # --- metrics ---

    @property
    def open_chart(self) -> Chart:
        """The chart that keys such as `m` mean."""
        return self.charts[self._open]

    def action_choose(self, direction: int) -> None:
        """Another chart."""
        self._open = (self._open + direction) % len(self.charts)
        self._show_open()

    def action_metric(self) -> None:
        """Offer all metrics for this chart."""
        from rlhf_tui.areas.charts.metric import MetricScreen

        self._read_off(self.scene.cursor, None)
        drawn = tuple(chart.metric.name for chart in self.charts)
        self.app.push_screen(MetricScreen(self.scene.run, self._known, drawn, self._open), self.show_metric)

    @property
    def _known(self) -> list[Metric]:
        """The metrics of the method, and of its held-out prompts if it has any."""
        method, held_out = self._method, named(*OF_HELD_OUT)
        if method:
            held_out = (held_out if method.needs.answers else ()) + method.held_out_metrics
        return [*(metric for metric in (method.metrics if method else REGISTRY.values()) if metric not in held_out),
                *(held_out if self._holds_out() else ())]

    def action_explain(self) -> None:
        """Say what this chart means."""
        from rlhf_tui.areas.charts.metric import ExplainScreen

        self._read_off(self.scene.cursor, None)
        self.app.push_screen(ExplainScreen(self.open_chart.metric, self.scene.run))

    def show_metric(self, name: str | None) -> None:
        """Show the metric in the chosen chart; a chart that showed it shows what was here."""
        if name is None or name == self.open_chart.metric.name:
            return
        chosen = list(self._chosen)
        for index, chart in enumerate(self.charts):
            if chart.metric.name == name:
                chart.metric = self.open_chart.metric
                chosen[index] = chart.metric.name
        self.open_chart.metric = describe(name)
        chosen[self._open] = name
        self._chosen = tuple(chosen)  # the others stay as a person chose them, for a method that has them
        self.drawing.draw_all_soon()

    def on_chart_chosen(self, event: Chart.Chosen) -> None:
        event.stop()
        if self._open != (index := self.charts.index(event.chart)):
            self.action_choose(index - self._open)

    def on_chart_named(self, event: Chart.Named) -> None:
        event.stop()
        self.action_metric()

    # --- reading off ---

    def on_chart_pointed(self, event: Chart.Pointed) -> None:
        event.stop()
        history, responses = self.scene.leader
        step = None if event.x is None else step_at(history, self.scene.lens.axis, event.x, responses)
        if event.click:
            self._read_off(step, None)
        elif step != self.scene.pointed:
            self._read_off(self.scene.cursor, step)

    def action_read(self, columns: int) -> None:
        """Move the cursor by that many columns, a step at the least."""
        self._read_off(self.scene.moved(columns, self.open_chart.columns), None)

    def action_drop_cursor(self) -> None:
        """No cursor."""
        self._read_off(None, None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc belongs to this pane only while there is a cursor to take away."""
        return action != "drop_cursor" or self.scene.cursor is not None

    def _read_off(self, cursor: int | None, pointed: int | None) -> None:
        self.scene.cursor, self.scene.pointed = cursor, pointed
        self._say_how()
        for chart in self.charts:
            if chart.region:
                chart.show()

    # --- keys ---

    def action_alone(self) -> None:
        """This chart alone, or all again."""
        self.post_message(self.AloneAsked())

    def action_smooth(self) -> None:
        """Next smoothing."""
        self._look(self.scene.lens.smoothed_next())

    def action_log(self) -> None:
        """Logarithmic axis, or linear, for this chart."""
        self.scene.log ^= {self.open_chart.metric.name}
        self.drawing.draw_all_soon()

    def action_axis(self) -> None:
        """By step, by responses, by wall time."""
        self._look(self.scene.lens.along_next())

    def action_zoom(self, factor: float) -> None:
        """See `factor` times as many steps."""
        self._look(self.scene.lens.zoomed(factor, self._total))

    def action_sideways(self, direction: int) -> None:
        """Pan; where one chart is shown, change it."""
        if self._one:
            self.action_choose(direction)
        else:
            self.action_pan(direction)

    def action_pan(self, direction: int) -> None:
        """Half a screen of steps earlier or later."""
        self._look(self.scene.lens.panned(direction, self._total))

    def action_reset(self) -> None:
        """All steps by step, linear axes, smoothed by itself."""
        self.scene.log.clear()
        self._look(Lens())

    @property
    def _total(self) -> int:
        """Steps that the run spans."""
        first, last = self.scene.leader[0].bounds or (0, 0)
        return max(LEAST_STEPS, last - first)

