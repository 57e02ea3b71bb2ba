"""What keys do with the pair in view: judge it, mark it, take the one before back. Each judgement is on the disk before
another pair shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from textual.message_pump import MessagePump

from rlhf_engine.labels.judgement import Judgement
from rlhf_tui.areas.label.pair_queue import Turn
from rlhf_tui.areas.label.sitting import Said, Sitting
from rlhf_tui.background import in_background, sentence
from rlhf_tui.widgets.status import AlarmLine

PATIENCE_SECONDS = 1.0
"""So long the keyboard waits for the disk to take a judgement; then the screen goes on, but shows no other pair."""


class Judging:
    """A key means the pair that is drawn, and nothing else: while none is, it does nothing and says so.

    sitting: whose keys they are; None until their file is open. saving: whether the disk has not taken a judgement yet.
    """

    def __init__(self, pump: MessagePump, alarm: AlarmLine, *, why_nothing: Callable[[], str],
                 show_turn: Callable[[], object], kept: Callable[[Judgement], object]) -> None:
        """pump: waits where a disk is slow. why_nothing: why there is no pair to judge. show_turn: shows what is in the
        sitting's view by now. kept: takes a judgement once it is on the disk."""
        self.sitting: Sitting | None = None
        self.saving = False
        self._pump, self._alarm, self._why_nothing = pump, alarm, why_nothing
        self._show_turn, self._tell_kept = show_turn, kept
        self._drawn = ""

    def drawn(self, pair: str) -> None:
        """The pair of that digest is drawn: from now on keys mean it. "": none is."""
        self._drawn = pair

    def turn_in_view(self) -> Turn | None:
        """The pair that a key means; None, and why not is said, while there is none."""
        turn = self.sitting.turn if self.sitting is not None and not self.saving else None
        if turn is not None and turn.pair.id == self._drawn:
            return turn
        why = "the disk has not taken the last judgement yet" if self.saving else self._why_nothing()
        self._alarm.say(f"no pair to judge: {why}", "warning")
        return None

    async def judge(self, said: Said) -> None:
        """Say it of the pair in view."""
        if self.turn_in_view() is not None:
            assert self.sitting is not None
            await self._keep(self.sitting.judgement(said), self._tell_kept)

    def undo(self) -> None:
        """The last judgement again."""
        if self.saving or self.sitting is None:
            self.turn_in_view()
        elif not self.sitting.undo():
            self._alarm.say("there is nothing before it that can be judged anew", "warning")
        else:
            self._show_turn()
            self._alarm.say("judge it anew · Esc leaves it as it was · u goes to the one before")

    def mark(self, *, flag: bool | None = None, note: str | None = None) -> None:
        """Put it on the pair in view."""
        if self.sitting is not None and self.sitting.turn is not None:
            self.sitting.mark(flag=flag, note=note)

    async def leave_pair(self, show_next: Callable[[], object]) -> bool:
        """Leave the pair in view: one that is judged anew as it was, for the next; another as it is. A flag or a note
        is no judgement, and kept all the same. Whether the screen can be left now."""
        sitting = self.sitting
        turn = sitting.turn if sitting is not None and not self.saving else None
        if sitting is None or turn is None:
            return True
        marks = sitting.unjudged()
        if marks is not None and not await self._keep(marks, lambda _: show_next()):
            return False
        if turn.earlier is None:
            return True
        if marks is None:
            show_next()
        self._alarm.say("left as it was")
        return False

    async def _keep(self, judgement: Judgement, then: Callable[[Judgement], object]) -> bool:
        """Write what is said of the pair in view, then go on; where the disk refuses, all stays as it is. Whether it
        was written by now."""
        sitting = self.sitting
        assert sitting is not None
        assert sitting.turn is not None
        self.saving = True
        job = asyncio.ensure_future(in_background(partial(
            sitting.keep, judgement, anew=sitting.turn.earlier is not None)))
        # keys that came with this one wait meanwhile, and mean the pair that is shown then
        await asyncio.wait({job}, timeout=PATIENCE_SECONDS)
        if job.done():
            return self._kept(job, sitting, judgement, then)
        self._alarm.say("the disk has not taken the judgement yet: the next pair shows once it has", "warning")
        job.add_done_callback(lambda job: self._pump.call_later(self._kept, job, sitting, judgement, then))
        return False

    def _kept(self, job: asyncio.Future[None], sitting: Sitting, judgement: Judgement,
              then: Callable[[Judgement], object]) -> bool:
        self.saving = False
        if (error := job.exception()) is None:
            sitting.kept(judgement)
            then(judgement)
        elif isinstance(error, Exception):
            self._alarm.say(f"not kept: {sentence(error)} · the pair stays, its key tries again", "error")
        return error is None
