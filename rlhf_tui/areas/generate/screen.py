"""The screen to try prompts on: before a run, while one goes on (between its steps), and after it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.areas.generate.generator import Generator
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, StatusLine


class GenerateScreen(BaseScreen[None]):
    """Asks and shows; leaving gives up what is still being written."""

    CSS_PATH = "screen.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (12, "-tall")]  # noqa: RUF012 (so the base class declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "ask", "Generate", tooltip="Let the chosen models respond", id="generate.ask"),
        Binding("escape", "back", "Back", tooltip="Cancel a response; then back to the workbench", id="generate.back"),
    ]

    def __init__(self, bridge: EngineBridge, questions: CodeQuestions, config: RunConfig, prompt: str = "") -> None:
        super().__init__()
        self._bridge = bridge
        self._generator = Generator(bridge, questions, config, prompt)
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        yield self._generator
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self._show_keys()
        if self._bridge.state is None:
            self._alarm.say("no run yet: tuned and reference are the same model")

    def on_engine_events(self, message: EngineEvents) -> None:
        self._generator.take(message.events)
        self.query_one(StatusLine).refresh()
        self._show_keys()

    def on_generator_said(self, event: Generator.Said) -> None:
        self._alarm.say(event.text, event.level)
        self._show_keys()

    def action_ask(self) -> None:
        """Let the chosen models answer."""
        self._generator.ask()

    def action_back(self) -> None:
        """Give up what is being written, else leave."""
        if self._generator.asking:
            self._generator.cancel()
        else:
            self.dismiss()

    def _show_keys(self) -> None:
        back = "Cancel" if self._generator.asking else "Back"
        self._keys.show([("Enter", "Generate", "screen.ask"), ("Esc", back, "screen.back"), ("Tab", "Next field", ""),
                         ("PgDn", "Scroll", ""), ("↑↓", "Preset's prompts, or a number's steps", ""),
                         ("←→", "Which model", "")])
