"""Reference against tuned, or any two, on the same prompts and seeds: what differs, how surely, how it reads."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, HorizontalGroup, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.compare import Comparison
from rlhf_engine.evaluation.frontier import POOL
from rlhf_engine.events import ComparisonFinished, ComparisonPaired, ComparisonProgress, Event, RunState
from rlhf_engine.requests import REFERENCE, TUNED, Cancel, Compare, Side
from rlhf_tui.areas.compare.comparison_table import comparison_table, table_text
from rlhf_tui.areas.compare.pairs import Pairs
from rlhf_tui.areas.compare.score_pane import ScorePane
from rlhf_tui.areas.compare.side import SideScreen, scored_by, side_label
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.terminal.clipboard import copy
from rlhf_tui.widgets.figures import progress_bar
from rlhf_tui.widgets.inputs import NumberField
from rlhf_tui.widgets.panes import has_room_for_all, is_tiny, tab_line
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, StatusLine

PANES = {"table": "Table", "pairs": "Pairs", "scores": "Scores"}
RESPONSES = 100


class CompareScreen(BaseScreen[None]):
    """Starts at once with the usual numbers; Enter in a field, or `r`, runs again."""

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "again", "Run again", tooltip="Compare once more", id="compare.again"),
        Binding("n", "numbers", "Numbers", tooltip="How many responses, from which seed", id="compare.numbers"),
        Binding("a", "side(0)", "First", tooltip="Choose the first of the two", id="compare.first"),
        Binding("y", "copy", "Copy table", tooltip="Copy the table to the clipboard", id="compare.copy"),
        Binding("b", "side(1)", "Second", tooltip="Choose the second of the two", id="compare.second"),
        Binding("f", "frontier", "Best-of-n", tooltip="Scores, or score against KL beside best-of-n of the reference",
                id="compare.frontier"),
        *(Binding(str(number), f"pane('{pane}')", title, tooltip=f"Go to {title.lower()}", id=f"compare.{pane}")
          for number, (pane, title) in enumerate(PANES.items(), 1)),
        Binding("escape", "back", "Back", tooltip="Leave the field, cancel, or back", id="compare.back"),
    ]

    def __init__(
        self, bridge: EngineBridge, questions: CodeQuestions, config: RunConfig,
        sides: tuple[Side, Side] = (REFERENCE, TUNED)
    ) -> None:
        super().__init__()
        self._bridge, self._questions, self._config, self._sides = bridge, questions, config, sides
        self._request: int | None = None
        self._result: Comparison | None = None
        self._begun = self._paired = False
        self._pane = "table"
        self._responses = NumberField(RESPONSES, whole=True, step=50, low=2, high=10_000, id="responses")
        self._seed = NumberField(config.train.seed, whole=True, step=1, low=0, high=2**63 - 1, id="seed")
        self._bar = Static("", id="bar", markup=False)
        self._tabs = Static("", id="tabs", markup=False)
        self._table = Static("", id="rows", markup=False)
        self._below = Horizontal(id="below")
        self._pairs = Pairs(id="pairs", classes="pane")
        self._scores = ScorePane(id="scores", classes="pane")
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        with HorizontalGroup(id="form"):
            for name, field in (("responses", self._responses), ("seed", self._seed)):
                yield Static(name, classes="name", markup=False)
                yield field
            yield self._bar
        yield self._tabs
        with Widget(id="panes"):
            with VerticalScroll(id="table", classes="pane"):
                yield self._table
            with self._below:
                yield self._pairs
                yield self._scores
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self._pairs.border_title = Content("2 Pairs: same prompt, same seed")
        self._pane = "pairs" if has_room_for_all(self.app.size) else "table"
        self._lay_out()
        self.call_after_refresh(self.query_one(f"#{self._pane}").focus)
        self.action_again()

    # --- layout ---

    def on_resize(self, _: events.Resize) -> None:
        self._lay_out()
        self.call_after_refresh(self._show_table)

    def _lay_out(self) -> None:
        self.set_class(not has_room_for_all(self.app.size), "-single")
        self.set_class(is_tiny(self.app.size, height=12), "-tiny")
        # told its size, the screen may still be mounting what lies deeper
        for pane in self.query(".pane"):
            pane.set_class(pane.id == self._pane, "-current")
        self._below.set_class(self._pane != "table", "-current")
        self._tabs.update(tab_line(PANES, self._pane))

    def action_pane(self, pane: str) -> None:
        """Go to a pane."""
        self._pane = pane
        self._lay_out()
        self.query_one(f"#{pane}").focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if event.widget.id in PANES and event.widget.id != self._pane:
            self._pane = event.widget.id
            self._lay_out()

    # --- asking ---

    def action_again(self) -> None:
        """Compare with the numbers in the form."""
        for field in (self._responses, self._seed):
            if field.number is None:
                self._alarm.say(f"{field.id} is {field.allowed}", "warning")
                return
        config, run_dir = scored_by(*self._sides, self._config, busy=self._bridge.busy)
        if config is None:
            self._compare()
        else:
            self._questions.settle(config, lambda _: self._compare(), of=run_dir, needed=False)

    def _compare(self) -> None:
        if not self.is_attached:
            return
        self._give_up()
        responses, seed = int(self._responses.number or 0), int(self._seed.number or 0)
        self._request, self._begun, self._paired = self._bridge.new_id(), False, False
        # a run would wait for a whole pool: while one trains it is drawn only for who looks at it
        pool = POOL if self._scores.shows_frontier or not self._bridge.is_training else 0
        self._bridge.ask(Compare(self._request, self._config, responses, seed, *self._sides, pool=pool))
        if self._result is None:  # the numbers on the screen stay under the names that they belong to
            self._show_names(*map(side_label, self._sides))
        self._draw_bar(0, responses)
        self._say_where_it_is()

    def action_numbers(self) -> None:
        """To the fields."""
        self._responses.focus()

    def action_frontier(self) -> None:
        """Scores, or score against KL, in the pane of the scores."""
        self._scores.switch()
        self.action_pane("scores")

    def action_side(self, number: int) -> None:
        """Choose one of the two, then compare."""
        here = self._bridge.watched or self._bridge.run_path

        def chosen(side: Side | None) -> None:
            if side is not None:
                self._sides = (side, self._sides[1]) if number == 0 else (self._sides[0], side)
                self.action_again()

        which = ("first", "second")[number]
        self.app.push_screen(
            SideScreen(which, self._bridge.runs_root, here, with_live=not self._bridge.viewing), chosen)

    def action_back(self) -> None:
        """Out of a field; give up what runs; else leave."""
        if isinstance(self.focused, Input):
            self._pairs.focus()
        elif self._request is not None and not self._paired:  # what is still drawn after the pairs keeps nobody here
            self._give_up()
            self._bar.update("")
            self._alarm.say("cancelled · r runs again · Esc leaves")
            self._show_keys()
        else:
            self.dismiss()

    def _give_up(self) -> None:
        if self._request is not None:
            self._bridge.ask(Cancel(self._request))
            self._request = None

    def on_unmount(self) -> None:
        self._give_up()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once what cannot be asked for."""
        if isinstance(event.input, NumberField):
            wrong = event.input.number is None
            event.input.set_class(wrong, "-wrong")
            if wrong:
                self._alarm.say(f"{event.input.id} is {event.input.allowed}", "warning")

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """Enter in a field runs again."""
        self.action_again()

    # --- hearing ---

    def on_engine_events(self, message: EngineEvents) -> None:
        for event in message.events:
            self._take(event)
        if self._request is not None and not self._begun:
            self._say_where_it_is()
        self.query_one(StatusLine).refresh()

    def _take(self, event: Event) -> None:
        if getattr(event, "request_id", None) != self._request or self._request is None:
            return
        if isinstance(event, ComparisonProgress):
            self._begun = True
            self._draw_bar(event.done, event.total)
            if not self._paired:
                self._alarm.say(f"comparing {' with '.join(map(side_label, self._sides))} · Esc cancels")
        elif isinstance(event, ComparisonPaired) and isinstance(event.result, Comparison):
            self._begun = self._paired = True
            self._show_result(event.result)
            self._scores.load_frontier(None, "best-of-n: drawing responses of the reference…")
            self._show_keys()
        elif isinstance(event, ComparisonFinished):
            self._finish(event)

    def _finish(self, event: ComparisonFinished) -> None:
        self._request = None
        self._bar.update("")
        if isinstance(event.result, Comparison):
            if not self._paired:  # else whoever reads the pairs is left where they are
                self._show_result(event.result)
            self._result = event.result
            self._scores.load_frontier(event.result.frontier, "best-of-n: its responses are not drawn while a run "
                                                              "trains, which would wait for them; r draws them")
        else:
            if self._paired:
                self._scores.load_frontier(None, f"best-of-n: {event.error or 'cancelled'}")
            self._alarm.say(event.error or "the comparison was cancelled", "warning" if event.error else "info")
        self._show_keys()

    def _say_where_it_is(self) -> None:
        view = self._bridge.view
        if self._bridge.busy and view.state not in (RunState.PAUSED, RunState.LOADING):
            step = min(view.step + 1, view.total_steps)
            self._alarm.say(f"waiting for step {step} to end: comparisons are made between steps · Esc cancels")
        elif view.state is None and self._sides == (REFERENCE, TUNED):
            self._alarm.say("no run yet: tuned and reference are the same model · Esc cancels")
        else:
            self._alarm.say("waiting for the first responses · Esc cancels")
        self._show_keys()

    # --- showing ---

    def _draw_bar(self, done: int, total: int) -> None:
        share = done / total if total else 0.0
        self._bar.update(Content.assemble(("▕", "$text-muted"), (progress_bar(share, 20), "$primary on $surface"),
                                          ("▏", "$text-muted"), f" {done}/{total}"))

    def _show_names(self, first: str, second: str) -> None:
        first = "Reference" if first == "reference" else "Tuned" if first == "tuned" else first
        self.query_one("#table").border_title = Content(f"1 {first} against {second}, 95 % CI")

    def _show_result(self, result: Comparison) -> None:
        self._result = result
        self._show_names(*result.labels)
        self._show_table()
        self._pairs.load(result.pairs, result.labels, result.no_scores)
        both = [] if result.no_scores else [(pair.reference.score, pair.tuned.score) for pair in result.pairs]
        scored = [(first, second) for first, second in both if first is not None and second is not None]
        self._scores.load([first for first, _ in scored], [second for _, second in scored], result.labels)
        if result.no_scores:
            self._alarm.say(result.no_scores, "warning")
            return
        whose = f"prompts and rewards of {result.settings_of} · " if result.settings_of else ""
        self._alarm.say(f"{len(result.pairs)} pairs · {whose}▲ ▼ significant (95 % CI excludes 0) · ≈ not")

    def _show_table(self) -> None:
        if self._result is not None:
            width = self._table.size.width or self.app.size.width - 4
            self._table.update(comparison_table(self._result.rows, width, self._result.labels))

    def action_copy(self) -> None:
        """The table as plain text."""
        if self._result is None:
            self._alarm.say("nothing to copy yet: the comparison is under way")
        else:
            told = self._result.frontier.sentences() if self._result.frontier else []
            text = table_text(self._result.rows, self._result.labels) + "".join(f"{line}\n" for line in told)
            self._alarm.say(copy(self.app, text))

    def _show_keys(self) -> None:
        back = "Back" if self._request is None or self._paired else "Cancel"
        self._keys.show([("Esc", back, "screen.back"), ("r", "Run again", "screen.again"),
                         ("a", "First", "screen.side(0)"), ("b", "Second", "screen.side(1)"),
                         ("y", "Copy table", "screen.copy"), ("1-3", "Pane", ""), ("←→", "Pair", ""),
                         ("o", "Order", ""), ("f", "Best-of-n", "screen.frontier"),
                         ("n", "Numbers", "screen.numbers"), ("↑↓", "Scroll", ""),
                         ("?", "Help", "app.help")])
