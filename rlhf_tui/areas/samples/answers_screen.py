"""The same prompt through time: what the model answers, every few steps, from the same random numbers."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.events import Probed, RolledBack, RunStarted, StepFinished
from rlhf_engine.metrics import describe
from rlhf_tui.areas.samples.answer_history import AnswerHistory, ProbeLog
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.engine.metrics_history import MetricsHistory
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.terminal.clipboard import copy
from rlhf_tui.widgets.figures import figure, sparkline
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, StatusLine

_SCORE = "objective/scores"
_COURSE = 40
ABOUT = "bold: new words · same random numbers each time: what changes is the model"


class AnswersScreen(BaseScreen[None]):
    """Follows the run while it is open; `log` is the workbench's."""

    AUTO_FOCUS = "#answers"
    DEFAULT_CSS = """
    AnswersScreen #prompt { height: auto; max-height: 3; padding: 0 1; color: $text-muted; }
    AnswersScreen #course { height: auto; max-height: 2; padding: 0 1; }
    AnswersScreen #answers { height: 1fr; border: round $border-blurred; border-subtitle-color: $text-muted; }
    AnswersScreen #answers:focus { border: heavy $border; border-title-color: $primary; border-title-style: bold; }
    AnswersScreen.-tiny #answers { border: none; }
    AnswersScreen.-tiny #keys, AnswersScreen.-tiny #status, AnswersScreen.-tiny #course { display: none; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-roomy")]  # noqa: RUF012 (so the base class declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,h", "dismiss", "Back", tooltip="Back to the workbench", id="history.back"),
        Binding("v", "against", "Against", tooltip="Mark what is new since the answer before, or since the reference",
                id="history.against"),
        Binding("y", "copy", "Copy", tooltip="Copy the answer to the clipboard", id="history.copy"),
    ]

    def __init__(self, bridge: EngineBridge, log: ProbeLog, run: Callable[[], MetricsHistory]) -> None:
        """run: hands over the metrics of the run that the workbench shows."""
        super().__init__()
        self._bridge, self._log, self._run = bridge, log, run
        self._prompt = Static("", id="prompt", markup=False)
        self._course = Static("", id="course", markup=False)
        self._history = AnswerHistory(id="answers")
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        yield self._prompt
        yield self._course
        yield self._history
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self._keys.show([("Esc", "Back", "screen.dismiss"), ("↑↓", "Answer", ""), ("v", "Against", "screen.against"),
                         ("y", "Copy", "screen.copy"), ("?", "Help", "app.help")])
        self._history.border_title = Content("The same prompt through time")
        self._alarm.say(ABOUT)
        self._show()

    def on_engine_events(self, message: EngineEvents) -> None:
        self.query_one(StatusLine).refresh()
        changed = False
        for event in message.events:
            # the workbench, which keeps the log, hears of it too, before or after: twice does no harm
            if isinstance(event, Probed):
                self._log.add(event.sample)
            elif isinstance(event, RolledBack):
                self._log.cut(event.step)
            changed = changed or isinstance(event, Probed | RolledBack | RunStarted)
        if changed:
            self.call_after_refresh(self._show)
        elif any(isinstance(event, StepFinished) for event in message.events):
            self.call_after_refresh(self._show_course)

    def _show(self) -> None:
        answers = self._log.answers
        self._prompt.update(Content(answers[-1].prompt if answers else "", strip_control_codes=False))
        self._history.load(answers)
        self._show_course()
        since = "the reference" if self._history.against_reference else "the answer before"
        count = f"{len(answers)} answer{'' if len(answers) == 1 else 's'} · " if answers else ""
        self._history.border_subtitle = Content(f"{count}new since {since} · v")

    def _show_course(self) -> None:
        """How the scores of this prompt's answers went, beside the mean of all responses, or what tells most of a run
        that gives no scores: one prompt can tell little."""
        history, answers = self._run(), self._log.answers
        scores = [answer.score for answer in answers if answer.score is not None and isfinite(answer.score)]
        bounds = history.bounds or (0, 0)
        view = self._bridge.view
        telling = describe(view.config.algorithm.charts[0] if view.config and view.config.algorithm.charts else _SCORE)
        means = [bucket.mean for bucket in history.buckets(telling.name, *bounds, 2000)]
        what_of_all = "all responses" if telling.name == _SCORE else clean_line(telling.title)
        courses: list[tuple[str, list[float]]] = [("this prompt", scores), (what_of_all, means)]
        lines = [Content.assemble((f"{what:<15}", "$text-muted"), (sparkline(values, _COURSE), "$primary"),
                                  f"  {figure(values[0], '+.2f')} → {figure(values[-1], '+.2f')}")
                 for what, values in courses if len(values) > 1]
        self._course.update(Content("\n").join(lines))

    def action_against(self) -> None:
        """The other comparison."""
        self._history.measure_against(not self._history.against_reference)
        self._show()

    def action_copy(self) -> None:
        """Copy the answer under the cursor."""
        if self._history.selected is not None:
            self._alarm.say(copy(self.app, self._history.selected.response))
