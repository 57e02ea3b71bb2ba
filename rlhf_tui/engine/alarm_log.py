"""What went wrong, and what else was worth saying, since the workbench was opened: the newest few hundred entries."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from rlhf_engine.events import (
    Alarm,
    EditRefused,
    Event,
    Notice,
    RolledBack,
    RunStarted,
    StateChanged,
    StepFinished,
)

KEPT = 500
LEVELS = ("info", "warning", "error")


@dataclass(frozen=True)
class Entry:
    """One thing that was said. `at` is None for what happened before this workbench looked; level as in AlarmLine."""

    at: datetime | None
    step: int
    level: str
    text: str


class AlarmLog:
    """Takes in events whose texts are clean; forgets the oldest. `unread`: warnings since somebody looked."""

    def __init__(self, clock: Callable[[], datetime] = datetime.now) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.unread = 0
        self._clock = clock
        self._step = 0

    def take(self, events: Iterable[Event], *, earlier: bool = False) -> None:
        """Keep what these events say. earlier: they are told now and happened before, nobody knows when."""
        for event in events:
            match event:
                case RunStarted(first_step=step):
                    self._step = step
                case StepFinished(step=step):
                    self._step = step
                case Alarm(step=step, text=text):
                    self._add("warning", text, earlier, step)
                case RolledBack(step=step, text=text):
                    self._add("warning", text, earlier, step)
                    self._step = step
                case Notice(text=text, level=level):
                    self._add(level, text, earlier)
                case EditRefused():
                    self._add("warning", event.text, earlier)
                case StateChanged(state=state, step=step, message=text):
                    self._step = step
                    if text:
                        self._add("error" if state.went_wrong else "info", text, earlier)

    def note(self, text: str, level: str) -> None:
        """Keep a sentence of the workbench itself."""
        self._add(level, text, earlier=False)

    def note_if_new(self, text: str, level: str) -> None:
        """Keep a sentence unless an event brought it; a screen makes one line of that and may add a few words."""
        said, kept = " ".join(text.split()), (" ".join(entry.text.split()) for entry in self.entries)
        if not any(known in said and len(known) * 2 > len(text) for known in kept):
            self.note(text, level)

    def _add(self, level: str, text: str, earlier: bool, step: int | None = None) -> None:
        level = level if level in LEVELS else "info"
        at = None if earlier else self._clock()
        self.entries.append(Entry(at, self._step if step is None else step, level, text))
        self.unread = min(KEPT, self.unread + (level != "info"))
