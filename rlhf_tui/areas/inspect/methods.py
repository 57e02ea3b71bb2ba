"""The methods side by side: what each would do with one and the same group of responses to a prompt."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.config.methods.base import Series
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.credit import LEAST, MOST, GroupCredit, group_size
from rlhf_engine.events import MethodsCompared, RunState
from rlhf_engine.requests import Cancel, CompareMethods
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.areas.inspect.credit_facts import agreement, all_columns, drawn_by, pushed, traced
from rlhf_tui.areas.inspect.group_table import GroupTable
from rlhf_tui.areas.inspect.heat_text import HeatText
from rlhf_tui.areas.inspect.token_facts import heats, shown_tokens
from rlhf_tui.areas.inspect.token_table import TokenTable
from rlhf_tui.areas.samples.sample import sample_facts
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.terminal.clipboard import copy
from rlhf_tui.widgets.figures import figure
from rlhf_tui.widgets.panes import has_room_for_all, is_tiny
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, StatusLine

_ALL_PANES = 36  # lines that text, group, tokens and what is told of every method take together


class MethodsScreen(BaseScreen[None]):
    """Asks for a group at once; `r` for another one, + and − for a larger or a smaller one.

    Text and tables mark the same response and the same token. Where there is little room, the group stands in the
    place of the tokens while it has the focus.
    """

    CSS_PATH = "methods.tcss"
    AUTO_FOCUS = "#tokens"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "Back", tooltip="Give up what is asked for; then back to the sample",
                id="methods.back"),
        Binding("n", "turn(1)", "Next response", tooltip="The next response of the group", id="methods.next"),
        Binding("p", "turn(-1)", "Previous response", tooltip="The response before it in the group",
                id="methods.previous"),
        Binding("r", "another", "Another group", tooltip="Sample other responses to this prompt",
                id="methods.another"),
        Binding("plus,equals_sign", "resize_group(2)", "Larger group", tooltip="Sample twice as many responses",
                id="methods.larger", key_display="+"),
        Binding("minus", "resize_group(0.5)", "Smaller group", tooltip="Sample half as many responses",
                id="methods.smaller", key_display="−"),
        Binding("y", "copy", "Copy", tooltip="Copy the response to the clipboard", id="methods.copy"),
        Binding("tab", "other_pane(1)", "Next pane", tooltip="From the tokens to the group, and to the text",
                id="methods.pane"),
        Binding("shift+tab", "other_pane(-1)", "Previous pane", show=False),
    ]

    def __init__(self, bridge: EngineBridge, questions: CodeQuestions, config: RunConfig, prompt: str) -> None:
        """prompt: as the screen shows it."""
        super().__init__()
        self._bridge, self._questions, self._config, self._shown = bridge, questions, config, prompt
        self._prompt = _as_written(config, prompt)
        self._seed, self._count = config.train.seed, group_size(config)
        self._request: int | None = None
        self._group: GroupCredit | None = None
        self._agreements: dict[str, str] = {}  # by method: counted once, over all tokens
        self._at = 0
        self._quantity: Series | None = None
        self._text = HeatText(id="text")
        self._responses = GroupTable(id="group")
        self._tokens = TokenTable(id="tokens")
        self._told = Static("", id="told", markup=False)
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        with Vertical(id="panes"):
            yield self._text
            yield self._responses
            yield self._tokens
        yield self._told
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self._text.border_title, self._tokens.border_title = Content("Response"), Content("Tokens")
        self._responses.border_title = Content("Group")
        self._text.load(self._shown, [], choose=False)
        self._lay_out()
        self._ask()

    def on_resize(self, _: events.Resize) -> None:
        self._lay_out()
        self._show_told()

    def _lay_out(self) -> None:
        self.set_class(not has_room_for_all(self.app.size, height=_ALL_PANES), "-single")
        self.set_class(is_tiny(self.app.size), "-tiny")

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if event.widget is not self._text:  # the pane below it stays the one that it was
            self.set_class(event.widget is self._responses, "-group")
        self._show_keys()

    def _show_keys(self) -> None:
        here = [("↑↓", "Token", ""), ("←→", "Method", ""), ("Tab", "Group", "")]
        if self._responses.has_focus:
            here = [("↑↓", "Response", ""), ("Tab", "Text", "")]
        elif self._text.has_focus:
            here = [("←→", "Token", ""), ("Tab", "Tokens", "")]
        back = "Back" if self._request is None else "Cancel"
        self._keys.show([("Esc", back, "screen.back"), *here, ("n", "Next", "screen.turn(1)"),
                         ("p", "Previous", "screen.turn(-1)"), ("r", "Another group", "screen.another"),
                         ("+−", "Size", ""), ("y", "Copy", "screen.copy"), ("?", "Help", "app.help")])

    # --- asking ---

    def _ask(self) -> None:
        """Ask the engine, once a person has agreed to run the code of the rewards."""
        if self._bridge.busy:  # the run's own rewards score
            self._send()
        else:
            run = self._bridge.watched
            self._questions.settle(self._config, lambda _: self._send(), of=RunDir(run) if run else None,
                                   refused=self._say_why_not)

    def _send(self) -> None:
        if not self.is_attached:
            return
        self._give_up()
        self._request = self._bridge.new_id()
        self._bridge.ask(CompareMethods(self._request, self._config, self._prompt, self._count, self._seed,
                                        self._bridge.watched))
        self._say_where_it_is()

    def _say_where_it_is(self) -> None:
        view = self._bridge.view
        if self._bridge.busy and view.state not in (RunState.PAUSED, RunState.LOADING):
            step = min(view.step + 1, view.total_steps)
            self._alarm.say(f"waiting for step {step} to end: responses are sampled between steps · Esc cancels")
        else:
            loaded = "the newest checkpoint is loaded, then " if self._bridge.viewing and self._group is None else ""
            self._alarm.say(f"{loaded}{self._count} responses are sampled; nothing is trained · Esc cancels")
        self._show_keys()

    def _give_up(self) -> None:
        if self._request is not None:
            self._bridge.ask(Cancel(self._request))
            self._request = None

    def on_unmount(self) -> None:
        self._give_up()

    def on_engine_events(self, message: EngineEvents) -> None:
        for event in message.events:
            if isinstance(event, MethodsCompared) and event.request_id == self._request:
                self._request = None
                self._take(event)
        if self._request is not None:
            self._say_where_it_is()
        self.query_one(StatusLine).refresh()

    def _take(self, event: MethodsCompared) -> None:
        self._show_keys()
        if not isinstance(event.result, GroupCredit):
            self._say_why_not(event.error or "cancelled")
            return
        self._group, self._at = event.result, 0
        self._agreements = {method.kind: agreement(event.result, method) for method in event.result.methods}
        self._responses.load(event.result)
        self._responses.border_title = Content(
            f"Group of {len(event.result.samples)} by the actor after step {event.result.step}, scored: the advantage "
            "of each response")
        averaged = any(method.by_token for method in event.result.methods)
        self._responses.border_subtitle = Content("* mean over its tokens" if averaged else "")
        self._show_response()
        said = (f"{len(event.result.samples)} responses as one batch, one optimizer step; nothing was trained · "
                "r samples others")
        self._alarm.say(event.result.left_out[0] if event.result.left_out else said,
                        "warning" if event.result.left_out else "info")

    def _say_why_not(self, why: str) -> None:
        self._alarm.say(why, "warning")
        if self._group is None:  # the line may be too short for it
            self._told.update(Content(clean_line(why), strip_control_codes=False))

    # --- showing ---

    def _show_response(self) -> None:
        if self._group is None:
            return
        (sample, trace), found = traced(self._group, self._at), all_columns(self._group)
        if self._quantity not in found:
            self._quantity = found[1] if found else None
        score = "" if sample.score is None else f"score {figure(sample.score, '+.2f')} · "
        self._text.border_title = Content(
            f"Response {self._at + 1} of {len(self._group.samples)} · {score}{sample_facts(sample)}")
        self._text.load(sample.prompt, shown_tokens(sample, trace))
        self._tokens.load(sample, trace, found, self._quantity)
        self._responses.mark(self._at)
        self._show_quantity()
        self._mark(0)

    def _show_quantity(self) -> None:
        quantity = self._quantity
        if self._group is None or quantity is None:
            return
        values = traced(self._group, self._at)[1].series[quantity.name]
        self._text.paint(heats(values, ansi=self.app.current_theme.ansi))
        self._text.border_subtitle = Content(f"colours: {quantity.title}")
        self._tokens.border_title = Content(f"{quantity.title[:1].upper()}{quantity.title[1:]}: {quantity.help}")
        self._show_told()

    def _mark(self, token: int) -> None:
        if self._group is None:
            return
        self._text.mark(token)
        self._tokens.mark(token)
        trace = self._group.samples[self._at].trace
        count = len(trace.texts) if trace else 0
        self._tokens.border_subtitle = Content(f"{min(token + 1, count)} of {count}")
        self._show_told()

    def _show_told(self) -> None:
        """Where the marked token is pushed by whom, and what makes the difference: of the method whose numbers are
        drawn, or of all where there is room."""
        if self._group is None:
            return
        lines = [Content(pushed(self._group, self._at, self._tokens.cursor), strip_control_codes=False)]
        drawn = drawn_by(self._group, self._quantity)
        for method in self._group.methods:
            if method == drawn or not self.has_class("-single"):
                mark, style = ("▸", "$primary bold") if method == drawn else (" ", "bold")
                lines.append(Content.styled(f"{mark} {method.title}  ", style)
                             + Content(method.told + self._agreements[method.kind], strip_control_codes=False))
        self._told.update(Content("\n").join(lines))

    # --- keys and mouse ---

    def on_token_table_chosen(self, event: TokenTable.Chosen) -> None:
        self._mark(event.token)

    def on_heat_text_chosen(self, event: HeatText.Chosen) -> None:
        self._mark(event.token)

    def on_token_table_measured(self, event: TokenTable.Measured) -> None:
        self._quantity = event.quantity
        self._tokens.measure(event.quantity)
        self._show_quantity()

    def on_group_table_chosen(self, event: GroupTable.Chosen) -> None:
        self._at = event.row
        self._show_response()

    def action_turn(self, by: int) -> None:
        """Another response; the ends hold."""
        if self._group is not None:
            at = max(0, min(len(self._group.samples) - 1, self._at + by))
            if at != self._at:
                self._at = at
                self._show_response()

    def action_another(self) -> None:
        """Other responses to the same prompt."""
        self._seed = (self._seed + 1) % 2**63
        self._ask()

    def action_resize_group(self, factor: float) -> None:
        """More or fewer responses."""
        size = max(LEAST, min(MOST, int(self._count * factor)))
        if size == self._count:
            self._alarm.say(f"a group has from {LEAST} to {MOST} responses")
        else:
            self._count = size
            self._ask()

    def action_other_pane(self, by: int) -> None:
        """From the tokens to the group, to the text, and round."""
        order = [self._tokens, self._responses, self._text]
        at = next((place for place, pane in enumerate(order) if pane.has_focus), 0)
        pane = order[(at + by) % len(order)]
        if pane is not self._text:
            self.set_class(pane is self._responses, "-group")  # before it can have the focus, it has to be seen
        pane.focus()

    def action_copy(self) -> None:
        """Copy the response."""
        if self._group is not None:
            self._alarm.say(copy(self.app, self._group.samples[self._at].response))

    def action_back(self) -> None:
        """Give up what is asked for where something is shown already; else leave."""
        if self._request is not None and self._group is not None:
            self._give_up()
            self._alarm.say("cancelled · r samples others · Esc leaves")
            self._show_keys()
        else:
            self.dismiss()


def _as_written(config: RunConfig, shown: str) -> str:
    """The prompt of the settings that is shown so: a screen shows no tab or control character as it is."""
    prompts = [*config.data.prompts, *config.data.held_out, *filter(None, [config.probe.prompt])]
    return shown if shown in prompts else next((prompt for prompt in prompts if clean_text(prompt) == shown), shown)
