"""The charts pane: four metrics of the run, each of which can be any; other runs over them; a cursor to read off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Grid
from textual.content import Content
from textual.message import Message

from rlhf_engine.metrics import describe
from rlhf_tui.areas.charts.chart import Chart
from rlhf_tui.areas.charts.chart_keys import KEYS
from rlhf_tui.areas.charts.charts_data import ChartsData
from rlhf_tui.areas.charts.lens import LEAST_STEPS, Lens, step_at
from rlhf_tui.areas.charts.readout import place_line
from rlhf_tui.areas.charts.sheet import plain


class Charts(ChartsData, can_focus=True):
    """Four charts that share one lens and one cursor; one at a time where there is little room.

    All metrics of the run are kept, shown or not; see `history` for how much of them.
    """

    DEFAULT_CSS = """
    Charts > Grid { grid-size: 2 2; grid-gutter: 0 1; }
    Charts.-one > Grid { grid-size: 1 1; }
    Charts.-one Chart { display: none; }
    Charts.-one Chart.-open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    @dataclass
    class ShownChanged(Message):
        """A person chose other metrics: the names of the four, in order."""

        names: tuple[str, ...]

    class AloneAsked(Message):
        """Enter: this chart alone on the whole screen, or all again."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._open = 0
        self._one = False

    def compose(self) -> ComposeResult:
        yield Grid(*self.charts)

    def on_mount(self) -> None:
        self._show_open()

    # --- drawing ---

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
        self.app.push_screen(MetricScreen(self.scene.run, self.shown, self._open), self.show_metric)

    def action_explain(self) -> None:
        """Say what this chart means."""
        from rlhf_tui.areas.charts.metric import ExplainScreen

        self._read_off(self.scene.cursor, None)
        self.app.push_screen(ExplainScreen(self.open_chart.metric, self.scene.run))

    def show_metric(self, name: str | None) -> None:
        """Show the metric in the chosen chart; a chart that showed it shows what was here."""
        if name is None or name == self.open_chart.metric.name:
            return
        for chart in self.charts:
            if chart.metric.name == name:
                chart.metric = self.open_chart.metric
        self.open_chart.metric = describe(name)
        self._changed()
        self.post_message(self.ShownChanged(self.shown))

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
        self._changed()

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

