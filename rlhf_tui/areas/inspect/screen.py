"""One response token by token: what the update knew, as colours over the text, as a table, and in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from rlhf_engine.config.methods.base import AlgorithmConfig, Series
from rlhf_engine.events import Sample
from rlhf_engine.token_trace import TokenTrace
from rlhf_tui.areas.inspect.heat_text import HeatText
from rlhf_tui.areas.inspect.token_facts import drawn_series, heats, shown_tokens, token_label
from rlhf_tui.areas.inspect.token_table import TokenTable
from rlhf_tui.areas.samples.sample import sample_facts
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.terminal.clipboard import copy
from rlhf_tui.widgets.figures import figure
from rlhf_tui.widgets.highlight import by_span
from rlhf_tui.widgets.panes import is_tiny
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import KeyBar, StatusLine

NO_TRACE = ("No tokens were kept for this response. Those of the newest samples are in memory; on disk each step "
            "keeps them for its first train.traced_samples responses, which have an i behind their step in the list.")


class InspectScreen(BaseScreen[None]):
    """Shows `samples[at]` with the numbers that `method` has for tokens; n and p go to the one after or before.

    Table and text mark the same token.
    """

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = "#tokens"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Back", tooltip="Back to where you came from", id="inspect.back"),
        Binding("n", "turn(1)", "Next sample", tooltip="The sample below this one in the list", id="inspect.next"),
        Binding("p", "turn(-1)", "Previous sample", tooltip="The sample above this one in the list",
                id="inspect.previous"),
        Binding("m", "methods", "Methods", tooltip="What each method would do with a group of responses to this prompt",
                id="inspect.methods"),
        Binding("y", "copy", "Copy", tooltip="Copy the response to the clipboard", id="inspect.copy"),
        Binding("tab,shift+tab", "other_pane", "Text or table", tooltip="Between the text and its table",
                id="inspect.pane"),
    ]

    @dataclass
    class MethodsAsked(Message):
        """What each method would do with responses to this prompt is to be shown."""

        prompt: str

    def __init__(
        self, bridge: EngineBridge, method: AlgorithmConfig, samples: Sequence[Sample], at: int = 0
    ) -> None:
        super().__init__()
        self._bridge, self._method = bridge, method
        self._samples, self._at = list(samples), at
        self._quantity: Series | None = None
        self._text = HeatText(id="text")
        self._table = TokenTable(id="tokens")
        self._facts = Static("", id="facts", markup=False)
        self._keys = KeyBar(id="keys")

    @property
    def sample(self) -> Sample:
        """The response shown."""
        return self._samples[self._at]

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        with Vertical(id="panes"):
            yield self._text
            yield self._table
        yield self._facts
        yield self._keys

    def on_mount(self) -> None:
        self._lay_out()
        self._show_sample()

    def on_resize(self, _: events.Resize) -> None:
        self._lay_out()

    def on_descendant_focus(self, _: events.DescendantFocus) -> None:
        here = [("←→", "Token", ""), ("↑↓", "Line", ""), ("Tab", "Table", "")] if self._text.has_focus else [
            ("↑↓", "Token", ""), ("←→", "Quantity", ""), ("Tab", "Text", "")]
        self._keys.show([("Esc", "Back", "screen.dismiss"), *here, ("n", "Next", "screen.turn(1)"),
                         ("p", "Previous", "screen.turn(-1)"), ("m", "Methods", "screen.methods"),
                         ("y", "Copy", "screen.copy"), ("?", "Help", "app.help")])

    def _lay_out(self) -> None:
        self.set_class(is_tiny(self.app.size), "-tiny")

    def on_engine_events(self, _: EngineEvents) -> None:
        self.query_one(StatusLine).refresh()

    # --- showing ---

    def _show_sample(self) -> None:
        sample, trace = self.sample, self.sample.trace
        score = "" if sample.score is None else f"score {figure(sample.score, '+.2f')} · "
        whole = f"{score}{sample_facts(sample)}"
        self._text.border_title = Content(f"Sample of step {sample.step} · {whole}")
        self._table.display = trace is not None
        self.set_class(trace is None, "-bare")
        if trace is None:
            texts, styles = by_span(sample.response, sample.spans)
            self._text.load(sample.prompt, texts, choose=False)
            self._text.paint(styles)
            self._text.border_subtitle = Content("")
            self._facts.update(NO_TRACE)
            self._text.focus()
            return
        found = drawn_series(self._method, trace)
        if self._quantity not in found:
            self._quantity = found[0] if found else None
        self._text.load(sample.prompt, shown_tokens(sample, trace))
        self._table.load(sample, trace, found, self._quantity)
        self._show_quantity()
        self._mark(0)

    def _show_quantity(self) -> None:
        quantity, trace = self._quantity, self.sample.trace
        if trace is None or quantity is None:
            self._text.border_subtitle = Content("")
            self._table.border_title = Content("Tokens")
            return
        values = trace.series[quantity.name]
        self._text.paint(heats(values, ansi=self.app.current_theme.ansi))
        self._text.border_subtitle = Content(f"colours: {quantity.title}")
        title = self._method.title_of(quantity, trace)
        self._table.border_title = Content(f"{title[:1].upper()}{title[1:]}: {quantity.help}")

    def _mark(self, token: int) -> None:
        trace = self.sample.trace
        if trace is None:
            return
        self._text.mark(token)
        self._table.mark(token)
        self._table.border_subtitle = Content(f"{min(token + 1, len(trace.texts))} of {len(trace.texts)}")
        self._facts.update(Content(self._about(trace, token), strip_control_codes=False))

    def _about(self, trace: TokenTrace, token: int) -> str:
        if not trace.texts:
            return "The response has no token."
        label = token_label(self.sample, trace, token)
        return self._method.about_token(trace, token, label)

    # --- keys and mouse ---

    def on_token_table_chosen(self, event: TokenTable.Chosen) -> None:
        self._mark(event.token)

    def on_heat_text_chosen(self, event: HeatText.Chosen) -> None:
        self._mark(event.token)

    def on_token_table_measured(self, event: TokenTable.Measured) -> None:
        self._quantity = event.quantity
        self._table.measure(event.quantity)
        self._show_quantity()

    def action_turn(self, by: int) -> None:
        """Another sample; the ends hold."""
        at = max(0, min(len(self._samples) - 1, self._at + by))
        if at != self._at:
            self._at = at
            self._show_sample()
            if self._table.display:
                self._table.focus()

    def action_other_pane(self) -> None:
        """From the table to the text, or back."""
        (self._text if self._table.has_focus or not self._table.display else self._table).focus()

    def action_methods(self) -> None:
        """The methods side by side, on a group of responses to the same prompt."""
        self.post_message(self.MethodsAsked(self.sample.prompt))

    def action_copy(self) -> None:
        """Copy the response."""
        self._facts.update(Content(copy(self.app, self.sample.response)))
