"""One person at one label file: the pair in view, what was said of it, and the last ten that can be said anew."""

from __future__ import annotations

import threading
from bisect import insort
from collections import deque
from dataclasses import replace
from statistics import fmean
from time import monotonic
from typing import Literal

from rlhf_engine.labels.judgement import Judgement, Verdict, now
from rlhf_engine.labels.label_file import LabelFile
from rlhf_engine.labels.repeats import REPEAT_EVERY
from rlhf_tui.areas.label.pair_queue import PairQueue, Turn

Said = Literal["left", "right", "tie", "both_bad", "skip"]
"""A verdict as a person gives it: of what stands where."""
UNDONE = 10
"""Judgements that can be taken up again."""
_PACE = 20  # judgements that the pace is of


def verdict_of(said: Said, swapped: bool) -> Verdict:
    """The verdict on a pair whose second answer stands on the left where it is `swapped`."""
    if said in ("left", "right"):
        return "first" if (said == "left") != swapped else "second"
    return said  # type: ignore[return-value]


def said_of(judgement: Judgement) -> Said:
    """What a person said, as it stood on their screen."""
    if judgement.decided:
        return "left" if judgement.left_won else "right"
    return judgement.verdict  # type: ignore[return-value]


class Sitting:
    """Knows no widget. `keep` and `close` may be called in another thread, all else belongs to the screen's."""

    def __init__(self, file: LabelFile, rater: str, repeat_every: int = REPEAT_EVERY) -> None:
        self.file, self.rater = file, rater
        self.queue = PairQueue(rater, file.judgements, repeat_every)
        self.turn: Turn | None = None
        self.last: Judgement | None = None
        """What was judged last in this sitting."""
        mine = [judgement for judgement in file.judgements if judgement.rater == rater]
        self._judged = {judgement.pair.id for judgement in mine
                        if not judgement.repeat and judgement.verdict != "skip"}
        self._recent: deque[Judgement] = deque(mine[-UNDONE:], maxlen=UNDONE)
        self._steps_back = 0
        self._began = monotonic()
        self._latest_seconds: deque[float] = deque(maxlen=_PACE)
        self._sorted_seconds: list[float] = []
        self._writing = threading.Lock()

    # --- what is in view ---

    def advance(self) -> Turn | None:
        """Take the next pair into view, which comes there now; None where none waits."""
        self._steps_back = 0
        self._view(self.queue.next())
        return self.turn

    def undo(self) -> bool:
        """Take the last judgement into view, to be judged anew; again, the one before. False where there is no other.

        What was said stays said until something else is.
        """
        if self._steps_back >= len(self._recent):
            return False
        if self.turn is not None and self.turn.earlier is None:
            self.queue.put_back(self.turn)
        self._steps_back += 1
        earlier = self._recent[-self._steps_back]
        self._view(Turn(earlier.pair, earlier.repeat, earlier.swapped, earlier, earlier.flag, earlier.note))
        return True

    def mark(self, *, flag: bool | None = None, note: str | None = None) -> None:
        """Put a flag, or a note, on the pair in view; it is kept with the judgement."""
        assert self.turn is not None, "only a pair in view is marked"
        self.turn = replace(self.turn, flag=self.turn.flag if flag is None else flag,
                            note=self.turn.note if note is None else note)

    def _view(self, turn: Turn | None) -> None:
        self.turn, self._began = turn, monotonic()

    # --- judging ---

    def judgement(self, said: Said) -> Judgement:
        """What is said of the pair in view."""
        turn = self.turn
        assert turn is not None, "asked only of a pair in view"
        return Judgement(turn.pair, self.rater, verdict_of(said, turn.swapped), turn.swapped, turn.repeat, now(),
                         monotonic() - self._began, turn.flag, turn.note)

    def unjudged(self) -> Judgement | None:
        """What is to be kept of the pair in view when it is left: the marks on it; None where there are no new ones."""
        turn = self.turn
        if turn is None or not turn.marked:
            return None
        if turn.earlier is not None:
            return replace(turn.earlier, flag=turn.flag, note=turn.note)
        return self.judgement("skip")

    def keep(self, judgement: Judgement, *, anew: bool) -> None:
        """Write it; anew: in the place of an earlier one. When this returns, it is on the disk. Raises RlhfError, and
        nothing has changed then."""
        with self._writing:
            (self.file.amend if anew else self.file.add)(judgement)

    def kept(self, judgement: Judgement) -> None:
        """It was written."""
        self.last = judgement
        if self.turn is not None and self.turn.earlier is not None:
            self._recent[-self._steps_back] = judgement
        else:
            self._recent.append(judgement)
            self._latest_seconds.append(judgement.seconds)
            insort(self._sorted_seconds, judgement.seconds)
        self.queue.judged(judgement)
        if not judgement.repeat:
            (self._judged.discard if judgement.verdict == "skip" else self._judged.add)(judgement.pair.id)

    def close(self) -> None:
        """Let go of the file. Raises RlhfError; no judgement depends on it."""
        with self._writing:
            self.file.close()

    # --- numbers ---

    @property
    def judged(self) -> int:
        """Pairs of the file that this person has judged, skipped ones left out."""
        return len(self._judged)

    @property
    def per_minute(self) -> float | None:
        """Pairs a minute, over the last twenty of this sitting; None before the first."""
        mean = fmean(self._latest_seconds) if self._latest_seconds else 0.0
        return 60 / mean if mean > 0 else None

    @property
    def median_seconds(self) -> float | None:
        """From a pair to its judgement, in this sitting."""
        found = self._sorted_seconds
        return (found[len(found) // 2] + found[(len(found) - 1) // 2]) / 2 if found else None
