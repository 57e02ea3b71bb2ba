"""Choose what a chart shows, out of all that is measured; and what a chart says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from rlhf_engine.metrics import Metric, describe
from rlhf_tui.areas.charts.readout import show_metric
from rlhf_tui.engine.metrics_history import MetricsHistory
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.picker import DetailsPicker
from rlhf_tui.widgets.screen import BaseDialog

_BETTER = {"up": "▲ is good", "down": "▼ is good", "neither": ""}


def choices(run: MetricsHistory, known: Sequence[Metric]) -> list[Metric]:
    """Those that are known of the run's method, and what else the run tells of; its rewards stand after the first few.
    """
    names = {metric.name for metric in known}
    others = [describe(name) for name in run.names if name not in names]
    rewards = [metric for metric in others if metric.name.startswith("rewards/")]
    at = next((i for i, metric in enumerate(known) if not metric.name.startswith("objective/")), len(known))
    return [*known[:at], *rewards, *known[at:], *(metric for metric in others if metric not in rewards)]


def matching(metrics: Sequence[Metric], words: str) -> list[Metric]:
    """Those whose title, name, unit or help holds all `words`, in any case: the title itself, by title, by name."""
    wanted = words.lower().split()

    def has(text: str) -> bool:
        return all(word in text.lower() for word in wanted)

    found = [metric for metric in metrics if has(f"{metric.title} {metric.name} {metric.unit} {metric.help}")]
    return sorted(found, key=lambda metric: (metric.title.lower() != " ".join(wanted), not has(metric.title),
                                             not has(f"{metric.title} {metric.name}")))


def explanation(metric: Metric, run: MetricsHistory) -> Content:
    """Everything there is to say of a metric."""
    facts = " · ".join(filter(None, (clean_line(metric.unit), _BETTER[metric.better])))
    parts: list[Content] = [Content.styled(clean_line(metric.title), "bold")]
    parts.append(Content.styled("\n".join(filter(None, (clean_line(metric.name), facts))), "$text-muted"))
    parts.append(Content(f"newest value: {_newest(metric, run) or 'none yet'}"))
    if metric.help:
        parts.append(Content(clean_line(metric.help)))
    for word, style, sentence in (("Good", "$text-success bold", metric.good), ("Bad", "$text-error bold", metric.bad)):
        if sentence:
            parts.append(Content.assemble((f"{word}: ", style), clean_line(sentence)))
    return Content("\n\n").join(parts)


class MetricScreen(DetailsPicker):
    """Dismisses with the name of a metric, or None.

    known: the metrics of the method. shown: those of the charts, in order; the one at `slot` is to be replaced.
    title: what it is for, where that is no chart.
    """

    CSS_PATH = "metric.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-slim"), (76, "-roomy")]  # noqa: RUF012 (so the base class declares it)
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Take", tooltip="Show this metric in the chart", id="metric.take", priority=True),
    ]

    def __init__(
        self, run: MetricsHistory, known: Sequence[Metric], shown: Sequence[str], slot: int, title: str = ""
    ) -> None:
        super().__init__()
        self._run, self._shown, self._slot = run, shown, slot
        self._metrics = choices(run, known)
        self.title_text = title or f"Metric of chart {slot + 1}"
        self._of_charts = not title

    def _fill(self) -> None:
        """The cursor begins on what the chart shows, and while one types, on the best match."""
        found = matching(self._metrics, self._filter.value)
        self._list.clear_options()
        self._list.add_options([Option(self._line(metric), id=metric.name) for metric in found])
        names = [metric.name for metric in found]
        if found:
            now = self._shown[self._slot]
            self._list.highlighted = names.index(now) if not self._filter.value and now in names else 0
        else:
            self._details.update(Content("no metric matches"))

    def _line(self, metric: Metric) -> Content:
        """Title, newest value, and in which chart it is."""
        newest = _newest(metric, self._run)
        place = ""
        if metric.name in self._shown and self._of_charts:
            place = f"  chart {self._shown.index(metric.name) + 1}"
        return Content.assemble((clean_line(metric.title), "bold"), (f"  {newest}" if newest else "", "$primary"),
                                (place, "$text-muted"))

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Explain it."""
        if event.option.id is not None:
            self._details.update(explanation(describe(event.option.id), self._run))


class ExplainScreen(BaseDialog[None]):
    """What one chart says; reads."""

    CSS_PATH = "metric.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,e", "dismiss", "Close", id="explain.close"),
    ]

    def __init__(self, metric: Metric, run: MetricsHistory) -> None:
        super().__init__()
        self._metric, self._run = metric, run

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page") as page:
            page.border_title = Content("This chart")
            page.border_subtitle = Content("Esc close")
            yield Static(explanation(self._metric, self._run), markup=False)


def _newest(metric: Metric, run: MetricsHistory) -> str:
    newest = run.newest(metric.name)
    return show_metric(metric, newest[-1]) if newest else ""

