"""What the charts are told: a run's metrics, its live edits, and other runs laid over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rlhf_tui.areas.charts.chart import Chart
from rlhf_tui.areas.charts.drawing import ChartDrawing
from rlhf_tui.areas.charts.scene import Edit, Scene
from rlhf_tui.engine.metrics_file import clean_metrics
from rlhf_tui.engine.metrics_history import MetricsHistory
from rlhf_tui.terminal.clean_text import clean_line


class Curves:
    """Keeps all metrics of the run in the `scene`, shown or not, and has the `charts` drawn that change; how much of
    the metrics is kept tells `engine.metrics_history`. lens_changed: called when all steps are to be seen anew."""

    def __init__(
        self, scene: Scene, charts: Sequence[Chart], drawing: ChartDrawing, lens_changed: Callable[[], object],
    ) -> None:
        self._scene, self._charts, self._drawing, self._lens_changed = scene, charts, drawing, lens_changed

    @property
    def edits(self) -> list[int]:
        """The steps from which live edits count."""
        return [edit.step for edit in self._scene.edits]

    def add(self, step: int, metrics: Mapping[str, float], seconds: float | None = None) -> None:
        """Take in the metrics of a step, which ended `seconds` after the run's start."""
        first = self._scene.run.bounds is None  # then charts without a value have something else to say, too
        self._scene.run.add(step, clean_metrics(metrics), seconds)
        for chart in self._charts:
            chart.dirty = chart.dirty or first or chart.metric.name in metrics

    def take_past(self, past: MetricsHistory) -> None:
        """What the run did up to a step, in the place of what was added of it; later steps that were added stay.
        Metrics by clean names (see `engine.metrics_file`)."""
        if past.bounds is not None:
            past.extend(self._scene.run.recent().after(past.bounds[1]))
            self._scene.run = past
        self._drawing.draw_all_soon()

    def mark(self, step: int, text: str) -> None:
        """Mark the step from which a live edit counts, with what it was in a few words (see `editing.change_text`). One
        that counts from the first parts nothing: it is left out."""
        if step > 1:
            self._scene.edits.append(Edit(step, clean_line(text)))
            self._drawing.draw_all_soon()

    def cut(self, step: int) -> None:
        """The run went back to `step`."""
        self._scene.run.cut(step)
        self._scene.edits = [edit for edit in self._scene.edits if edit.step <= step]
        self._drawing.draw_all_soon()

    def clear(self) -> None:
        """A new run begins. Runs that are laid over stay."""
        self._scene.run, self._scene.edits, self._scene.cursor, self._scene.pointed = MetricsHistory(), [], None, None
        self._scene.lens = replace(self._scene.lens, span=None, back=0)
        self._lens_changed()

    def show_target(self, target: float | None) -> None:
        """The KL that a controller aims at, or that a person has in mind."""
        for chart in self._charts:
            if chart.target != target:
                chart.target, chart.dirty = target, True

    def overlay(self, label: str, history: MetricsHistory, *, responses_per_step: int | None = None) -> None:
        """Lay another run over the charts: its smoothed line, drawn with a marker that the legend names.

        label: what to call it, such as its name; the same label again replaces it. history: its metrics by clean names
        (see `engine.metrics_file`). responses_per_step: of that run, for the x axis by responses; the shown run's when
        None. Six runs at most: a seventh takes the place of the first.
        """
        self._scene.lay_over(clean_line(label), history, responses_per_step)
        self._laid_over()

    def rename_overlay(self, label: str, new: str) -> None:
        """Another name for a run that is laid over."""
        others = self._scene.others
        self._scene.others = {clean_line(new) if known == label else known: other for known, other in others.items()}
        self._laid_over()

    def remove_overlay(self, label: str) -> None:
        """Take a run away, if it is there."""
        if self._scene.others.pop(label, None) is not None:
            self._laid_over()

    def clear_overlays(self) -> None:
        """Take all other runs away."""
        self._scene.others.clear()
        self._laid_over()

    def _laid_over(self) -> None:
        for chart in self._charts:
            chart.set_class(bool(self._scene.others), "-laid-over")
        self._drawing.draw_all_soon()

    @property
    def overlaid(self) -> list[str]:
        """What the runs that are laid over are called."""
        return list(self._scene.others)
