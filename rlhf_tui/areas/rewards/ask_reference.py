"""How many responses to ask both models for, and how far they have come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.containers import HorizontalGroup
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.compare import Comparison
from rlhf_engine.events import ComparisonFinished, ComparisonProgress, Event, RunState
from rlhf_engine.requests import Cancel, Compare
from rlhf_tui.areas.rewards.lab_memory import LabMemory
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.widgets.figures import progress_bar
from rlhf_tui.widgets.inputs import NumberField


class AskReference(HorizontalGroup):
    """One line: a number and a bar. What arrives is kept in the lab's memory. Posts `Said`, `Wanted`, `Arrived`."""

    DEFAULT_CSS = """
    AskReference { height: 1; padding: 0 1; }
    AskReference .name { width: auto; color: $text-muted; margin-right: 1; }
    AskReference NumberField { width: 10; margin-right: 2; }
    AskReference NumberField.-wrong { color: $text-error; text-style: underline; }
    AskReference #bar { width: 1fr; }
    """

    @dataclass
    class Said(Message):
        """One sentence for the alarm line."""

        text: str
        level: str = "info"

    class Wanted(Message):
        """Enter in the field."""

    class Arrived(Message):
        """The memory holds new pairs."""

    def __init__(self, bridge: EngineBridge, memory: LabMemory, questions: CodeQuestions, **options: Any) -> None:
        super().__init__(**options)
        self.number = NumberField(memory.responses, whole=True, step=32, low=2, high=10_000, id="number")
        self._bridge, self._memory, self._questions = bridge, memory, questions
        self._bar = Static("", id="bar", markup=False)
        self._request: int | None = None
        self._asked_with: RunConfig | None = None
        self._begun = False

    def compose(self) -> ComposeResult:
        yield Static("reference responses", classes="name", markup=False)
        yield self.number
        yield self._bar

    @property
    def asking(self) -> bool:
        """True until the pairs arrive."""
        return self._request is not None

    def ask(self, config: RunConfig) -> None:
        """Ask for pairs with these settings, in the place of any asked for before."""
        if self.number.number is None:
            self._say_what_is_allowed()
            return
        if self._bridge.busy:  # the run's own rewards score
            self._ask(config)
        else:
            self._questions.settle(config, lambda _: self._ask(config), needed=False)

    def _ask(self, config: RunConfig) -> None:
        if not self.is_attached or self.number.number is None:
            return
        self.give_up()
        self._memory.responses = int(self.number.number)
        self._asked_with, self._begun = config, False
        self._request = self._bridge.new_id()
        self._bridge.ask(Compare(self._request, config, self._memory.responses, config.train.seed))
        self._draw(0, self._memory.responses)
        self._say_where_it_is()

    def give_up(self) -> None:
        """Want the pairs no more."""
        if self._request is not None:
            self._bridge.ask(Cancel(self._request))
            self._request = None
            self._bar.update("")

    def take(self, events: Iterable[Event]) -> None:
        """Hear whether the pairs come."""
        for event in events:
            match event:
                case ComparisonProgress(request_id=asked) if asked == self._request:
                    self._begun = True
                    self._draw(event.done, event.total)
                    self.post_message(self.Said("sampling · Esc cancels"))
                case ComparisonFinished(request_id=asked) if asked == self._request:
                    self._finish(event)
        if self.asking and not self._begun:
            self._say_where_it_is()

    def _finish(self, event: ComparisonFinished) -> None:
        self._request = None
        self._bar.update("")
        if isinstance(event.result, Comparison) and self._asked_with is not None:
            self._memory.keep(event.result.pairs, self._asked_with)
            self.post_message(self.Said(f"{len(event.result.pairs)} responses of the reference are counted"))
            self.post_message(self.Arrived())
        else:
            self.post_message(self.Said(event.error or "cancelled", "warning" if event.error else "info"))

    def _say_where_it_is(self) -> None:
        view, where = self._bridge.view, "the first responses"
        if self._bridge.busy and view.state not in (RunState.PAUSED, RunState.LOADING):
            step = min(view.step + 1, view.total_steps)
            where = f"step {step} to end: responses are sampled between steps"
        self.post_message(self.Said(f"waiting for {where} · Esc cancels"))

    def _draw(self, done: int, total: int) -> None:
        share = done / total if total else 0.0
        self._bar.update(Content.assemble(("▕", "$text-muted"), (progress_bar(share, 20), "$primary on $surface"),
                                          ("▏", "$text-muted"), f" {done}/{total}"))

    # --- the field ---

    def _say_what_is_allowed(self) -> None:
        self.post_message(self.Said(f"reference responses: {self.number.allowed}", "warning"))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once what cannot be asked for."""
        event.stop()
        wrong = self.number.number is None
        self.number.set_class(wrong, "-wrong")
        if wrong:
            self._say_what_is_allowed()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter asks."""
        event.stop()
        self.post_message(self.Wanted())
