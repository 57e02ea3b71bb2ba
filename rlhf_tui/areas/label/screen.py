"""A prompt and two responses: which is better? One key judges, and the next pair is there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Input, Static

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import StepFinished
from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.pair import AskedFor, Pair
from rlhf_engine.requests import Side
from rlhf_tui.areas.compare.side import SideScreen, side_label
from rlhf_tui.areas.label.label_keys import KEY_BAR, KEYS
from rlhf_tui.areas.label.label_start import LabelStart
from rlhf_tui.areas.label.next_step import next_step
from rlhf_tui.areas.label.options import Choice, LabelOptionsScreen, Opening
from rlhf_tui.areas.label.pair_queue import Turn
from rlhf_tui.areas.label.pair_source import ASK_HELP, ASK_TITLES, ASKS, BATCH, PairSource, few
from rlhf_tui.areas.label.pair_view import PairView
from rlhf_tui.areas.label.progress import Progress, ProgressLine
from rlhf_tui.areas.label.sitting import Said, Sitting, said_of
from rlhf_tui.areas.label.told import WORDS, last_line
from rlhf_tui.areas.preferences.preferences import Preferences
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.background import in_background, run_in_background, sentence
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.widgets.inputs import TextField
from rlhf_tui.widgets.panes import is_tiny
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, StatusLine

_PATIENCE_SECONDS = 1.0
"""So long the keyboard waits for the disk to take a judgement; then the screen goes on, but shows no other pair."""
_DRY_BATCHES = 3  # batches without a new pair until nobody is asked any more


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
        self._bridge, self._preferences = bridge, preferences
        self._now = Choice(start.rater, start.path, start.wanted)
        self._source = PairSource(self, bridge, questions, config, start, came=self._came, failed=self._none_came)
        self._more, self._repeat_every = start.more, start.repeat_every
        self._sitting: Sitting | None = None
        self._opening: Opening | None = None
        self._in_view = self._saving = False
        self._trouble = ""  # why no more pairs are asked for, or none can be judged
        self._batches_without = 0
        self._told_next = False
        self._progress = ProgressLine(id="progress")
        self._pair = PairView(id="pair")
        self._last = Static("", id="last", markup=False)
        self._note = TextField(placeholder="a line about this pair · Enter keeps it with the judgement", id="note",
                               max_length=1000)
        self._show_note(False)
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        yield self._progress
        yield self._pair
        yield self._last
        yield self._note
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self.query_one("#prompt").border_title = Content("Which is better?")
        self._lay_out()
        self._keys.show(KEY_BAR)
        self._show_turn()
        self._opening = opening = Opening()
        run_in_background(self, partial(opening.open, self._now), lambda _: self._take_file(opening), self._not_opened,
                          "file")

    def on_resize(self, _: events.Resize) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        self.set_class(self.app.size.width < 100, "-stacked")
        self.set_class(is_tiny(self.app.size), "-tiny")

    # --- the file ---

    def _take_file(self, opening: Opening) -> None:
        """Judge into what was opened, unless it is open already."""
        if opening is not self._opening or opening.opened is None:  # another one was chosen meanwhile
            _in_thread(opening.abandon)
            return
        self._opening = None
        before, (self._now, file) = self._now, opening.opened
        if self._sitting is not None and file is self._sitting.file and before.rater == self._now.rater:
            self._show_progress()
            return
        self._source.give_up()
        self._sitting = Sitting(file, self._now.rater, self._repeat_every)
        if self._more is not None:
            self._now, self._more = replace(self._now, wanted=self._sitting.judged + self._more), None
        self._trouble, self._batches_without = "", 0
        self._source.begin_at(f"{file.path.name} {len(file.judgements)}")
        if file.notices:
            self._alarm.say(file.notices[0], "warning")
        else:
            self._alarm.say("which is better? a or ← left · b or → right · u takes back")
        self._show_next()

    def _not_opened(self, why: str) -> None:
        self._trouble = f"{why} · o names another file"
        self._alarm.say(self._trouble, "warning")
        self._show_turn()

    def action_options(self) -> None:
        """Who judges, where, how many."""
        opening = Opening(self._sitting)

        def chosen(done: bool | None) -> None:
            if not done:
                return
            if self._opening is not None:  # the one that is still being opened is not wanted any more
                _in_thread(self._opening.abandon)
            self._opening = opening
            self._take_file(opening)
            self._preferences.note(rater=self._now.rater)
            self._preferences.keep()

        if not self._saving:
            self.app.push_screen(LabelOptionsScreen(self._now, opening.open), chosen)

    # --- pairs ---

    def _fill(self) -> None:
        """Ask for more pairs where few wait."""
        sitting = self._sitting
        if sitting is None or self._trouble:
            return
        if few(sitting.queue.waiting, sitting.per_minute):
            self._source.fetch()

    def _came(self, pairs: list[Pair]) -> None:
        if self._sitting is None:
            return
        new = self._sitting.queue.add(pairs, BATCH)
        self._batches_without = 0 if new else self._batches_without + 1
        if not new and (self._source.recorded or self._batches_without >= _DRY_BATCHES):
            self._none_came("all recorded pairs are judged" if self._source.recorded
                            else "these models gave no pair that you have not judged")
        elif self._sitting.turn is None:
            self._show_next()
        else:
            self._fill()
            self._show_progress()

    def _none_came(self, why: str) -> None:
        self._trouble = f"{why} · r asks again"
        if self._sitting is not None and self._sitting.turn is None:
            self._show_next()
        if self._sitting is None or self._sitting.turn is None or not self._source.recorded:
            self._alarm.say(self._trouble, "warning")

    def _ask_anew(self) -> None:
        """What waits was asked for in another way."""
        self._source.give_up()
        self._trouble, self._batches_without = "", 0
        if self._sitting is not None:
            self._sitting.queue.clear()
            self._fill()
        self._show_progress()
        if self._sitting is not None and self._sitting.turn is None:
            self._show_turn()

    def action_ask(self) -> None:
        """Another way to choose what is asked."""
        ask: AskedFor = ASKS[(ASKS.index(self._source.ask) + 1) % len(ASKS)]
        self._source.ask = ask
        self._alarm.say(ASK_HELP[ask])
        self._ask_anew()

    def action_again(self) -> None:
        """Ask once more."""
        self._ask_anew()
        self._say_what_is_waited_for()

    def action_side(self, number: int) -> None:
        """Choose one of the two that answer."""
        here = self._bridge.watched or self._bridge.run_path

        def chosen(side: Side | None) -> None:
            if side is not None:
                first, second = self._source.who
                self._source.sides = (side, second) if number == 0 else (first, side)
                self._ask_anew()
                self._say_what_is_waited_for()

        self.app.push_screen(SideScreen(("first", "second")[number], self._bridge.runs_root, here,
                                        with_live=not self._bridge.viewing), chosen)

    def on_engine_events(self, message: EngineEvents) -> None:
        for event in message.events:
            self._source.take(event)
            if isinstance(event, StepFinished) and self._source.recorded and self._trouble and self._sitting:
                self._trouble = ""  # it has recorded others by now
                self._fill()
        self.query_one(StatusLine).refresh()

    # --- showing ---

    def _show_next(self) -> None:
        """Another pair into view, if one waits."""
        if self._sitting is not None:
            self._sitting.advance()
            self._show_turn()
            self._fill()
            self._show_progress()

    def _show_turn(self) -> None:
        self._in_view = False
        turn = self._sitting.turn if self._sitting else None
        if turn is None:
            self._pair.clear(self._why_nothing())
        else:
            self._pair.show(turn)
            self.call_after_refresh(self._seen, turn.pair.id)
        self._show_progress()

    def _seen(self, pair: str) -> None:
        """It is drawn: from now on keys mean it."""
        turn = self._sitting.turn if self._sitting else None
        self._in_view = turn is not None and turn.pair.id == pair

    def _why_nothing(self) -> str:
        return self._trouble or ("the label file is read" if self._sitting is None else self._source.where())

    def _say_what_is_waited_for(self) -> None:
        if self._sitting is None or self._sitting.turn is None:
            self._alarm.say(self._why_nothing())
        else:
            self._alarm.say(f"other pairs come after this one: {' and '.join(map(side_label, self._source.who))}")

    def _show_progress(self) -> None:
        sitting = self._sitting
        if sitting is None:
            return
        turn = sitting.turn
        who = "recorded samples" if self._source.recorded else " × ".join(map(side_label, self._source.who))
        self._progress.show(Progress(
            sitting.judged, self._now.wanted, sitting.per_minute, sitting.median_seconds, ASK_TITLES[self._source.ask],
            who, sitting.queue.waiting, sitting.rater, str(self._now.path),
            WORDS[said_of(turn.earlier)] if turn and turn.earlier else "", bool(turn and turn.flag),
            turn.note if turn else ""))

    # --- judging ---

    def _turn_in_view(self) -> Turn | None:
        """The pair that a key means; None, and why not is said, while there is none."""
        if self._sitting is not None and self._in_view and not self._saving:
            return self._sitting.turn
        why = "the disk has not taken the last judgement yet" if self._saving else self._why_nothing()
        self._alarm.say(f"no pair to judge: {why}", "warning")
        return None

    async def action_judge(self, said: Said) -> None:
        """Say it of the pair in view; once that is on the disk, the next one shows."""
        if self._turn_in_view() is not None:
            assert self._sitting is not None
            await self._keep(self._sitting.judgement(said), self._judged)

    async def _keep(self, judgement: Judgement, then: Callable[[Judgement], object]) -> bool:
        """Write what is said of the pair in view, then go on; where the disk refuses, all stays as it is. Whether it
        was written by now."""
        sitting = self._sitting
        assert sitting is not None
        assert sitting.turn is not None
        self._saving = True
        job = asyncio.ensure_future(in_background(partial(
            sitting.keep, judgement, anew=sitting.turn.earlier is not None)))
        # keys that came with this one wait meanwhile, and mean the pair that is shown then
        await asyncio.wait({job}, timeout=_PATIENCE_SECONDS)
        if job.done():
            return self._kept(job, sitting, judgement, then)
        self._alarm.say("the disk has not taken the judgement yet: the next pair shows once it has", "warning")
        job.add_done_callback(lambda job: self.call_later(self._kept, job, sitting, judgement, then))
        return False

    def _kept(self, job: asyncio.Future[None], sitting: Sitting, judgement: Judgement,
              then: Callable[[Judgement], object]) -> bool:
        self._saving = False
        if (error := job.exception()) is None:
            sitting.kept(judgement)
            then(judgement)
        elif isinstance(error, Exception):
            self._alarm.say(f"not kept: {sentence(error)} · the pair stays, its key tries again", "error")
        return error is None

    def _judged(self, judgement: Judgement) -> None:
        assert self._sitting is not None
        self._last.update(last_line(judgement))
        self._alarm.say("")
        self._show_next()
        if self._sitting.judged >= self._now.wanted and not self._told_next:
            self._told_next = True
            self._alarm.say(f"{self._sitting.judged} pairs judged · {self._next_step()}")

    def action_undo(self) -> None:
        """The last judgement again."""
        if self._saving or self._sitting is None:
            self._turn_in_view()
        elif not self._sitting.undo():
            self._alarm.say("there is nothing before it that can be judged anew", "warning")
        else:
            self._show_turn()
            self._alarm.say("judge it anew · Esc leaves it as it was · u goes to the one before")

    def action_flag(self) -> None:
        """Flag the pair in view, or no more."""
        if turn := self._turn_in_view():
            assert self._sitting is not None
            self._sitting.mark(flag=not turn.flag)
            self._show_progress()

    def action_note(self) -> None:
        """To the line about the pair in view."""
        if turn := self._turn_in_view():
            self._note.value = turn.note
            self._show_note(True)
            self._note.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the line with the pair."""
        event.stop()
        if self._sitting is not None and self._sitting.turn is not None:
            self._sitting.mark(note=event.value.strip())
        self._leave_note()
        self._show_progress()

    def _leave_note(self) -> None:
        self.set_focus(None)
        self._show_note(False)

    def _show_note(self, shown: bool) -> None:
        # a field that can have the focus gets it from Textual now and then, and would take the keys that judge
        self._note.display = self._note.can_focus = shown
        self._last.display = not shown

    # --- looking, and leaving ---

    def action_why(self) -> None:
        """The pair before, nothing hidden."""
        from rlhf_tui.areas.label.last_pair import LastPairScreen

        if self._sitting is None or self._sitting.last is None:
            self._alarm.say("no pair was judged yet: what the model guessed stays hidden until one is")
        else:
            self.app.push_screen(LastPairScreen(self._sitting.last), lambda anew: self.action_undo() if anew else None)

    def action_statistics(self) -> None:
        """How much the judgements can be trusted."""
        from rlhf_tui.areas.label.statistics_screen import LabelStatisticsScreen

        if self._sitting is not None:
            self.app.push_screen(LabelStatisticsScreen(
                self._sitting.file.judgements, self._sitting.rater, self._next_step()))

    def _next_step(self) -> str:
        view = self._bridge.view
        return next_step(self._now.path, view.config, view.name)

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
        sitting = self._sitting
        if isinstance(self.focused, Input):
            self._leave_note()
            return
        turn = sitting.turn if sitting is not None and not self._saving else None
        if sitting is not None and turn is not None:
            # a flag or a note is no judgement, and kept all the same
            marks = sitting.unjudged()
            if marks is not None and not await self._keep(marks, lambda _: self._show_next()):
                return
            if turn.earlier is not None:
                if marks is None:
                    self._show_next()
                self._alarm.say("left as it was")
                return
        await self._leave()

    async def _leave(self) -> None:
        sitting, self._sitting = self._sitting, None
        if sitting is not None:
            job = asyncio.ensure_future(in_background(sitting.close))
            await asyncio.wait({job}, timeout=_PATIENCE_SECONDS)
            if job.done() and isinstance(error := job.exception(), Exception):
                self.app.notify(f"every judgement is kept, but {sentence(error)}", severity="warning")
        self.dismiss()

    def on_unmount(self) -> None:
        self._source.give_up()
        if self._opening is not None:
            _in_thread(self._opening.abandon)
        if self._sitting is not None:  # the app leaves
            _in_thread(self._sitting.close)
        super().on_unmount()


def _in_thread(close: Callable[[], object]) -> None:
    """Let go of a file: no judgement depends on it, and a disk may be slow."""
    threading.Thread(target=close, name="label file", daemon=True).start()
