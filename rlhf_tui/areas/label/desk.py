"""Which file is judged into, by whom, and how many pairs: opened in the background, chosen anew, let go of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from textual.dom import DOMNode

from rlhf_tui.areas.label.label_start import LabelStart
from rlhf_tui.areas.label.options import Choice, LabelOptionsScreen, Opening
from rlhf_tui.areas.label.sitting import Sitting
from rlhf_tui.areas.preferences.preferences import Preferences
from rlhf_tui.background import in_background, run_in_background, sentence


class Desk:
    """now: what was chosen. sitting: who sits at the file; None until it is open."""

    def __init__(self, node: DOMNode, preferences: Preferences, start: LabelStart, *,
                 taken: Callable[[Sitting, bool], object], refused: Callable[[str], object]) -> None:
        """taken: takes a sitting, and whether it is another one than before. refused: takes why there is none."""
        self.now = Choice(start.rater, start.path, start.wanted)
        self.sitting: Sitting | None = None
        self._node, self._preferences = node, preferences
        self._more, self._repeat_every = start.more, start.repeat_every
        self._taken, self._refused = taken, refused
        self._opening: Opening | None = None

    def open(self) -> None:
        """Open the file that the screen begins with."""
        self._opening = opening = Opening(self._repeat_every)
        run_in_background(self._node, partial(opening.open, self.now), lambda _: self._take(opening), self._refused,
                          "file")

    def choose(self) -> None:
        """Ask for another file, rater or number of pairs."""
        opening = Opening(self._repeat_every, self.sitting)

        def chosen(done: bool | None) -> None:
            if not done:
                return
            if self._opening is not None:  # the one that is still being opened is not wanted any more
                _in_thread(self._opening.abandon)
            self._opening = opening
            self._take(opening)
            self._preferences.note(rater=self.now.rater)
            self._preferences.keep()

        self._node.app.push_screen(LabelOptionsScreen(self.now, opening.open), chosen)

    def _take(self, opening: Opening) -> None:
        """Judge into what was opened, unless it is open already."""
        if opening is not self._opening or opening.opened is None:  # another one was chosen meanwhile
            _in_thread(opening.abandon)
            return
        self._opening = None
        before = self.sitting
        self.now, self.sitting = opening.opened
        if self._more is not None:
            self.now, self._more = replace(self.now, wanted=self.sitting.judged + self._more), None
        self._taken(self.sitting, self.sitting is not before)

    async def leave(self, patience: float) -> str:
        """Let go of the file, for which so many seconds are waited at most; a sentence where that failed, else ""."""
        sitting, self.sitting = self.sitting, None
        if sitting is not None:
            job = asyncio.ensure_future(in_background(sitting.close))
            await asyncio.wait({job}, timeout=patience)
            if job.done() and isinstance(error := job.exception(), Exception):
                return f"every judgement is kept, but {sentence(error)}"
        return ""

    def abandon(self) -> None:
        """The app leaves, and waits for no disk."""
        if self._opening is not None:
            _in_thread(self._opening.abandon)
        if self.sitting is not None:
            _in_thread(self.sitting.close)


def _in_thread(close: Callable[[], object]) -> None:
    """No judgement depends on it, and a disk may be slow."""
    threading.Thread(target=close, name="label file", daemon=True).start()
