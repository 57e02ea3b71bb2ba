"""A prompt and two responses: which is better? One key judges, and the next pair is there."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Input

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.pair import AskedFor
from rlhf_engine.requests import Side
from rlhf_tui.areas.compare.side import SideScreen, side_label
from rlhf_tui.areas.label.desk import Desk
from rlhf_tui.areas.label.judging import PATIENCE_SECONDS, Judging
from rlhf_tui.areas.label.label_keys import KEY_BAR, KEYS
from rlhf_tui.areas.label.label_start import LabelStart
from rlhf_tui.areas.label.next_step import next_step
from rlhf_tui.areas.label.note_line import NoteLine
from rlhf_tui.areas.label.pair_source import ASK_HELP, ASK_TITLES, ASKS
from rlhf_tui.areas.label.pair_view import PairView
from rlhf_tui.areas.label.progress import Progress, ProgressLine
from rlhf_tui.areas.label.sitting import Said, Sitting, said_of
from rlhf_tui.areas.label.supply import Supply
from rlhf_tui.areas.label.told import WORDS, last_line
from rlhf_tui.areas.preferences.preferences import Preferences
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.widgets.panes import is_tiny
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, StatusLine


class LabelScreen(BaseScreen[None]):
    """A key judges what is in view, and nothing else: while no pair is, it does nothing and says so."""

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    def __init__(
        self, bridge: EngineBridge, questions: CodeQuestions, preferences: Preferences, config: RunConfig,
        start: LabelStart,
    ) -> None:
        """config: the settings that hold where no run goes on."""
        super().__init__()
        self._bridge = bridge
        self._told_next = False
        self._progress = ProgressLine(id="progress")
        self._pair = PairView(id="pair")
        self._line = NoteLine()
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")
        self._desk = Desk(self, preferences, start, taken=self._take, refused=self._refused)
        self._supply = Supply(self, bridge, questions, config, start, came=self._came, dry=self._dry)
        self._judging = Judging(self, self._alarm, why_nothing=self._why_nothing, show_turn=self._show_turn,
                                kept=self._judged)

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        yield self._progress
        yield self._pair
        yield self._line
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self.query_one("#prompt").border_title = Content("Which is better?")
        self._lay_out()
        self._keys.show(KEY_BAR)
        self._show_turn()
        self._desk.open()

    def on_paste(self, event: events.Paste) -> None:
        """What is pasted is no keys: nothing is judged by it. A note takes it where one is written."""
        if not self._line.writing:
            event.stop()
            self._alarm.say("pasted text judges nothing; n opens a note, which takes it", "warning")

    def on_resize(self, _: events.Resize) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        self.set_class(self.app.size.width < 100, "-stacked")
        self.set_class(is_tiny(self.app.size), "-tiny")

    # --- the file ---

    def _take(self, sitting: Sitting, another: bool) -> None:
        if another:
            self._judging.sitting = sitting
            self._supply.serve(sitting)
            if sitting.file.notices:
                self._alarm.say(sitting.file.notices[0], "warning")
            else:
                self._alarm.say("which is better? a or ← left · b or → right · u takes back")
            self._show_next()
        self._show_progress()

    def _refused(self, why: str) -> None:
        self._supply.trouble = f"{why} · o names another file"
        self._alarm.say(self._supply.trouble, "warning")
        self._show_turn()

    def action_options(self) -> None:
        """Who judges, where, how many."""
        if not self._judging.saving:
            self._desk.choose()

    # --- pairs ---

    def _came(self) -> None:
        if self._in_view():
            self._supply.fill()
            self._show_progress()
        else:
            self._show_next()

    def _dry(self) -> None:
        if not self._in_view():
            self._show_next()
        if not self._in_view() or not self._supply.source.recorded:
            self._alarm.say(self._supply.trouble, "warning")

    def _in_view(self) -> bool:
        sitting = self._judging.sitting
        return sitting is not None and sitting.turn is not None

    def _asked_anew(self) -> None:
        self._show_progress()
        if not self._in_view():
            self._show_turn()

    def action_ask(self) -> None:
        """Another way to choose what is asked."""
        ask: AskedFor = ASKS[(ASKS.index(self._supply.source.ask) + 1) % len(ASKS)]
        self._alarm.say(ASK_HELP[ask])
        self._supply.ask_anew(ask=ask)
        self._asked_anew()

    def action_again(self) -> None:
        """Ask once more."""
        self._supply.ask_anew()
        self._asked_anew()
        self._say_what_is_waited_for()

    def action_side(self, number: int) -> None:
        """Choose one of the two that answer."""
        here = self._bridge.watched or self._bridge.run_path

        def chosen(side: Side | None) -> None:
            if side is not None:
                first, second = self._supply.source.who
                self._supply.ask_anew(sides=(side, second) if number == 0 else (first, side))
                self._asked_anew()
                self._say_what_is_waited_for()

        self.app.push_screen(SideScreen(("first", "second")[number], self._bridge.runs_root, here,
                                        with_live=not self._bridge.viewing), chosen)

    def on_engine_events(self, message: EngineEvents) -> None:
        for event in message.events:
            self._supply.take(event)
        self.query_one(StatusLine).refresh()

    # --- showing ---

    def _show_next(self) -> None:
        """Another pair into view, if one waits."""
        if self._judging.sitting is not None:
            self._judging.sitting.advance()
            self._show_turn()
            self._supply.fill()
            self._show_progress()

    def _show_turn(self) -> None:
        self._judging.drawn("")
        turn = self._judging.sitting.turn if self._judging.sitting else None
        if turn is None:
            self._pair.clear(self._why_nothing())
        else:
            self._pair.show(turn)
        self._show_progress()
        if turn is not None:
            # last: what is to be drawn after this waits for the frame after the next, a sixtieth of a second later
            self.call_after_refresh(self._judging.drawn, turn.pair.id)

    def _why_nothing(self) -> str:
        if self._supply.trouble or self._judging.sitting is not None:
            return self._supply.trouble or self._supply.source.where()
        return "the label file is read"

    def _say_what_is_waited_for(self) -> None:
        if self._in_view():
            who = " and ".join(map(side_label, self._supply.source.who))
            self._alarm.say(f"other pairs come after this one: {who}")
        else:
            self._alarm.say(self._why_nothing())

    def _show_progress(self) -> None:
        sitting, source = self._judging.sitting, self._supply.source
        if sitting is None:
            return
        turn = sitting.turn
        who = "recorded samples" if source.recorded else " × ".join(map(side_label, source.who))
        self._progress.show(Progress(
            sitting.judged, self._desk.now.wanted, sitting.per_minute, sitting.median_seconds, ASK_TITLES[source.ask],
            who, sitting.queue.waiting, sitting.rater, str(self._desk.now.path),
            WORDS[said_of(turn.earlier)] if turn and turn.earlier else "", bool(turn and turn.flag),
            turn.note if turn else ""))

    # --- judging ---

    async def action_judge(self, said: Said) -> None:
        """Say it of the pair in view; once that is on the disk, the next one shows."""
        await self._judging.judge(said)

    def _judged(self, judgement: Judgement) -> None:
        self._line.tell(last_line(judgement))
        self._alarm.say("")
        self._show_next()
        sitting = self._judging.sitting
        if sitting is not None and sitting.judged >= self._desk.now.wanted and not self._told_next:
            self._told_next = True
            self._alarm.say(f"{sitting.judged} pairs judged · {self._next_step()}")

    def action_undo(self) -> None:
        """The last judgement again."""
        self._judging.undo()

    def action_flag(self) -> None:
        """Flag the pair in view, or no more."""
        if turn := self._judging.turn_in_view():
            self._judging.mark(flag=not turn.flag)
            self._show_progress()

    def action_note(self) -> None:
        """To the line about the pair in view."""
        if turn := self._judging.turn_in_view():
            self._alarm.say("")
            self._line.write(turn.note)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the line with the pair."""
        event.stop()
        self._judging.mark(note=event.value.strip())
        self._line.leave()
        self._show_progress()

    # --- looking, and leaving ---

    def action_why(self) -> None:
        """The pair before, nothing hidden."""
        from rlhf_tui.areas.label.last_pair import LastPairScreen

        last = self._judging.sitting.last if self._judging.sitting else None
        if last is None:
            self._alarm.say("no pair was judged yet: what the model guessed stays hidden until one is")
        else:
            self.app.push_screen(LastPairScreen(last), lambda anew: self._judging.undo() if anew else None)

    def action_statistics(self) -> None:
        """How much the judgements can be trusted."""
        from rlhf_tui.areas.label.statistics_screen import LabelStatisticsScreen

        if (sitting := self._judging.sitting) is not None:
            self.app.push_screen(LabelStatisticsScreen(sitting.file.judgements, sitting.rater, self._next_step()))

    def _next_step(self) -> str:
        view = self._bridge.view
        return next_step(self._desk.now.path, view.config, view.name)

    def action_scroll(self, lines: int) -> None:
        """Scroll both responses."""
        self._pair.scroll_texts(lines)

    def action_page(self, pages: int) -> None:
        """Scroll both by what is seen of one."""
        self._pair.scroll_pages(pages)

    def action_stay(self) -> None:
        """The key that leads here."""
        self._alarm.say("this is the label screen; Esc leaves it")

    async def action_back(self) -> None:
        """Out of the note; leave what is judged anew as it was; else leave."""
        if self._line.writing:
            self._line.leave()
        elif await self._judging.leave_pair(self._show_next):
            await self._leave()

    async def _leave(self) -> None:
        self._judging.sitting = None
        if trouble := await self._desk.leave(PATIENCE_SECONDS):
            self.app.notify(trouble, severity="warning")
        self.dismiss()

    def on_unmount(self) -> None:
        self._supply.source.give_up()
        self._desk.abandon()
        super().on_unmount()
