"""The charts pane: four metrics of the run, each of which can be any; other runs over them; a cursor to read off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Grid
from textual.content import Content
from textual.message import Message
from textual.theme import Theme
from textual.timer import Timer
from textual.widget import Widget

from rlhf_engine.metrics import describe
from rlhf_tui.clean_text import clean_line
from rlhf_tui.widgets.chart import Canvas, Chart
from rlhf_tui.widgets.chart_keys import KEYS
from rlhf_tui.widgets.history import History
from rlhf_tui.widgets.lens import LEAST_STEPS, Lens, step_at
from rlhf_tui.widgets.readout import place_line
from rlhf_tui.widgets.scene import Edit, Scene
from rlhf_tui.widgets.sheet import plain

SHOWN = ("objective/scores", "objective/kl", "loss/policy_avg", "loss/value_avg")
REDRAW_SECONDS = 0.5


class Charts(Widget, can_focus=True):
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

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.scene = Scene()
        self.charts = [Chart(name, self.scene) for name in SHOWN]
        self._open = 0
        self._one = False
        self._redraw_seconds = REDRAW_SECONDS
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Grid(*self.charts)

    def on_mount(self) -> None:
        self._show_open()
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)
        self._timer = self.set_interval(self._redraw_seconds, self.draw_changed)

    # --- settings ---

    @property
    def shown(self) -> tuple[str, ...]:
        """The names of the four metrics, in order. May be set; anything but four raises ValueError."""
        return tuple(chart.metric.name for chart in self.charts)

    @shown.setter
    def shown(self, names: Sequence[str]) -> None:
        if len(names) != len(self.charts):
            raise ValueError(f"{len(names)} metrics for {len(self.charts)} charts: one each, please")
        for chart, name in zip(self.charts, names, strict=True):
            chart.metric = describe(clean_line(name))
        self._changed()

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
    def redraw_seconds(self) -> float:
        """Seconds between two drawings of new data, at the least; what a key does is seen at once."""
        return self._redraw_seconds

    @redraw_seconds.setter
    def redraw_seconds(self, seconds: float) -> None:
        if not 0 < seconds < float("inf"):
            raise ValueError(f"{seconds} seconds between drawings: a number above 0 is needed")
        self._redraw_seconds = seconds
        if self._timer is not None:
            self._timer.stop()
            self._timer = self.set_interval(seconds, self.draw_changed)

    @property
    def responses_per_step(self) -> int:
        """How many responses a step of the shown run samples: the scale of the x axis by responses."""
        return self.scene.responses_per_step

    @responses_per_step.setter
    def responses_per_step(self, responses: int) -> None:
        if responses != self.scene.responses_per_step:
            self.scene.responses_per_step = responses
            self._look(self.scene.lens)

    # --- data ---

    @property
    def edits(self) -> list[int]:
        """The steps from which live edits count."""
        return [edit.step for edit in self.scene.edits]

    def add(self, step: int, metrics: Mapping[str, float], seconds: float | None = None) -> None:
        """Take in the metrics of a step, which ended `seconds` after the run's start."""
        self.scene.run.add(step, clean_names(metrics), seconds)
        for chart in self.charts:
            chart.dirty = chart.dirty or chart.metric.name in metrics

    def mark(self, step: int, text: str) -> None:
        """Mark the step from which a live edit counts, with what it was in a few words (see `readout.edit_text`)."""
        self.scene.edits.append(Edit(step, clean_line(text)))
        self._changed()

    def cut(self, step: int) -> None:
        """The run went back to `step`."""
        self.scene.run.cut(step)
        self.scene.edits = [edit for edit in self.scene.edits if edit.step <= step]
        self._changed()

    def clear(self) -> None:
        """A new run begins. Runs that are laid over stay."""
        self.scene.run, self.scene.edits, self.scene.cursor, self.scene.pointed = History(), [], None, None
        self._look(replace(self.scene.lens, span=None, back=0))

    def show_target(self, target: float | None) -> None:
        """The KL that the adaptive controller aims at, or that a person has in mind."""
        for chart in self.charts:
            if chart.target != target:
                chart.target, chart.dirty = target, True

    def overlay(self, label: str, steps: Sequence[tuple[int, float, Mapping[str, float]]], *,
                responses_per_step: int | None = None) -> None:
        """Lay another run over the charts: its smoothed line, drawn with a marker that the legend names.

        label: what to call it, such as its name; the same label again replaces it. steps: (step, seconds since that
        run's start, metrics), ascending. responses_per_step: of that run, for the x axis by responses; the shown
        run's when None. Six runs at most: a seventh takes the place of the first.
        """
        history = History()
        for step, seconds, metrics in steps:
            history.add(step, clean_names(metrics), seconds)
        self.scene.lay_over(clean_line(label), history, responses_per_step)
        self._laid_over()

    def clear_overlays(self) -> None:
        """Take all other runs away."""
        self.scene.others.clear()
        self._laid_over()

    def _laid_over(self) -> None:
        for chart in self.charts:
            chart.set_class(bool(self.scene.others), "-laid-over")
        self._changed()

    # --- drawing ---

    def draw_changed(self) -> None:
        """Draw the charts that have changed and are seen."""
        if not self.is_attached or not self.screen.is_current or not self.display:
            return
        for chart in self.charts:
            if chart.stale and chart.is_attached and chart.region:
                chart.draw()

    def on_canvas_resized(self, event: Canvas.Resized) -> None:
        event.stop()
        self.call_after_refresh(self.draw_changed)

    def on_focus(self) -> None:
        self.call_later(self._show_chosen)

    def on_blur(self) -> None:
        self.call_later(self._show_chosen)

    def _theme_changed(self, _: Theme) -> None:
        self._changed()

    def _changed(self) -> None:
        for chart in self.charts:
            chart.dirty = True
        self.call_after_refresh(self.draw_changed)

    def _look(self, lens: Lens) -> None:
        self.scene.lens = lens
        self._say_how()
        self._changed()

    def _say_how(self) -> None:
        """How the charts are looked at, or where the cursor stands, into the frame."""
        if self.scene.looked_at is not None:
            self.border_subtitle = place_line(self.scene)
            return
        place = [f"{self._open + 1} of {len(self.charts)} ← →"] if self._one else []
        text = " · ".join([*place, *self.scene.lens.words])
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
        from rlhf_tui.screens.metric import MetricScreen

        self._read_off(self.scene.cursor, None)
        self.app.push_screen(MetricScreen(self.scene.run, self.shown, self._open), self.show_metric)

    def action_explain(self) -> None:
        """Say what this chart means."""
        from rlhf_tui.screens.metric import ExplainScreen

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

    def action_smooth(self) -> None:
        """Next smoothing."""
        self._look(self.scene.lens.smoothed_next())

    def action_log(self) -> None:
        """Logarithmic axis, or linear."""
        self._look(replace(self.scene.lens, log=not self.scene.lens.log))

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
        """All steps by step, linear axis, first smoothing."""
        self._look(Lens())

    @property
    def _total(self) -> int:
        """Steps that the run spans."""
        first, last = self.scene.leader[0].bounds or (0, 0)
        return max(LEAST_STEPS, last - first)


def clean_names(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics by names that may be shown."""
    return {_clean_name(name): float(value) for name, value in metrics.items()}


@lru_cache(maxsize=1024)
def _clean_name(name: str) -> str:
    return clean_line(name)
