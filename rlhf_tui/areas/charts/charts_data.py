"""What the charts pane is told: a run's metrics, live edits, other runs, how a person likes it; and when it draws."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from textual.theme import Theme
from textual.timer import Timer
from textual.widget import Widget

from rlhf_engine.metrics import describe
from rlhf_tui.areas.charts.chart import Canvas, Chart
from rlhf_tui.areas.charts.lens import DEFAULT_METRICS, SMOOTHINGS, Lens, Smoothing
from rlhf_tui.areas.charts.scene import Edit, Scene
from rlhf_tui.engine.metrics_file import clean_metrics
from rlhf_tui.engine.metrics_history import MetricsHistory
from rlhf_tui.terminal.clean_text import clean_line

REDRAW_SECONDS = 0.5
DRAWING_SHARE = 0.02  # of one core, at most, for drawing new data: the training has better use for the rest
TURN_SECONDS = 0.02  # from one chart to the next: long enough for a key to take its way through the app


class ChartsData(Widget):
    """Four charts of one scene. All metrics of the run are kept, shown or not; see `history` for how much of them."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.scene = Scene()
        self.charts = [Chart(name, self.scene) for name in DEFAULT_METRICS]
        self._redraw_seconds = REDRAW_SECONDS
        self._timer: Timer | None = None
        self._rests_until = 0.0

    def on_mount(self) -> None:
        # Textual calls that of each class: the pane's own comes before this one
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)
        self._timer = self.set_interval(self._redraw_seconds, self._draw_new)

    # --- settings ---

    @property
    def shown(self) -> tuple[str, ...]:
        """The names of the four metrics, in order. May be set; anything but four raises ValueError."""
        return tuple(chart.metric.name for chart in self.charts)

    @shown.setter
    def shown(self, names: Sequence[str]) -> None:
        if len(names) != len(self.charts):
            raise ValueError(f"{len(names)} metrics for {len(self.charts)} charts: one each, please")
        if tuple(names) != self.shown:
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
    def redraw_seconds(self) -> float:
        """Seconds between two drawings of new data, at the least; see also `DRAWING_SHARE`. What a key does is seen
        at once."""
        return self._redraw_seconds

    @redraw_seconds.setter
    def redraw_seconds(self, seconds: float) -> None:
        if not 0 < seconds < float("inf"):
            raise ValueError(f"{seconds} seconds between drawings: a number above 0 is needed")
        changed, self._redraw_seconds = seconds != self._redraw_seconds, seconds
        if changed and self._timer is not None:
            self._timer.stop()
            self._timer = self.set_interval(seconds, self._draw_new)

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
        first = self.scene.run.bounds is None  # then charts without a value have something else to say, too
        self.scene.run.add(step, clean_metrics(metrics), seconds)
        for chart in self.charts:
            chart.dirty = chart.dirty or first or chart.metric.name in metrics

    def take_past(self, past: MetricsHistory) -> None:
        """What the run did up to a step, in the place of what was added of it; later steps that were added stay.
        Metrics by clean names (see `past`)."""
        if past.bounds is not None:
            past.extend(self.scene.run.recent().after(past.bounds[1]))
            self.scene.run = past
        self._changed()

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
        self.scene.run, self.scene.edits, self.scene.cursor, self.scene.pointed = MetricsHistory(), [], None, None
        self._look(replace(self.scene.lens, span=None, back=0))

    def show_target(self, target: float | None) -> None:
        """The KL that the adaptive controller aims at, or that a person has in mind."""
        for chart in self.charts:
            if chart.target != target:
                chart.target, chart.dirty = target, True

    def overlay(self, label: str, history: MetricsHistory, *, responses_per_step: int | None = None) -> None:
        """Lay another run over the charts: its smoothed line, drawn with a marker that the legend names.

        label: what to call it, such as its name; the same label again replaces it. history: its metrics by clean names
        (see `past`). responses_per_step: of that run, for the x axis by responses; the shown run's when None. Six runs
        at most: a seventh takes the place of the first.
        """
        self.scene.lay_over(clean_line(label), history, responses_per_step)
        self._laid_over()

    def rename_overlay(self, label: str, new: str) -> None:
        """Another name for a run that is laid over."""
        others = self.scene.others
        self.scene.others = {clean_line(new) if known == label else known: other for known, other in others.items()}
        self._laid_over()

    def remove_overlay(self, label: str) -> None:
        """Take a run away, if it is there."""
        if self.scene.others.pop(label, None) is not None:
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
        if due := self._due():
            self._say_how()  # how smooth hangs on how many steps there are
        for chart in due:
            chart.draw()

    def draw_in_turn(self) -> None:
        """As `draw_changed`, but one by one: a key that is pressed meanwhile waits for one of them at most."""
        if due := self._due():
            began = time.thread_time()
            self._say_how()
            due[0].draw()
            rest = (time.thread_time() - began) / DRAWING_SHARE
            self._rests_until = max(self._rests_until, time.monotonic()) + rest
            if len(due) > 1:
                self.set_timer(TURN_SECONDS, self.draw_in_turn)

    def _draw_new(self) -> None:
        if time.monotonic() >= self._rests_until:
            self.draw_in_turn()

    def _due(self) -> list[Chart]:
        if not self.is_attached or not self.screen.is_current or not self.display:
            return []
        return [chart for chart in self.charts if chart.stale and chart.is_attached and chart.region]

    def on_canvas_resized(self, event: Canvas.Resized) -> None:
        event.stop()
        self.call_later(self.draw_changed)

    def _theme_changed(self, _: Theme) -> None:
        self._changed()

    def _changed(self) -> None:
        for chart in self.charts:
            chart.dirty = True
        if self.is_attached:
            self.call_after_refresh(self.draw_changed)

    def _look(self, lens: Lens) -> None:
        self.scene.lens = lens
        self._say_how()
        self._changed()

    def _say_how(self) -> None:
        """How the charts are looked at, into the frame."""
        raise NotImplementedError

