"""Which pair comes next: a new one, one that somebody else has judged, or now and then one that comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.pair import Pair, shown_swapped
from rlhf_engine.labels.repeats import REPEAT_EVERY, Repeats


@dataclass(frozen=True)
class Turn:
    """A pair on the screen. swapped: its second answer stands on the left. repeat: how often this person has judged it
    before. earlier: what they said, where it is judged anew. flag, note: what they put on it so far."""

    pair: Pair
    repeat: int
    swapped: bool
    earlier: Judgement | None = None
    flag: bool = False
    note: str = ""

    @property
    def marked(self) -> bool:
        """Whether something was put on it that is not kept yet."""
        before = (self.earlier.flag, self.earlier.note) if self.earlier else (False, "")
        return (self.flag, self.note) != before


class PairQueue:
    """The pairs that wait for one person."""

    def __init__(self, rater: str, judgements: Iterable[Judgement], repeat_every: int = REPEAT_EVERY) -> None:
        """judgements: those of the file, of everybody, in order. repeat_every: see `Repeats`."""
        self._rater = rater
        self._new: deque[Pair] = deque()
        self._put_back: list[Turn] = []
        self._of_others_last = False
        judged = list(judgements)
        self._repeats = Repeats(rater, repeat_every, judged)
        self._known = {judgement.pair.id for judgement in judged if judgement.rater == rater}
        """Pairs that this person has judged, and those that wait."""
        # how far two people agree can be told only of pairs that both have judged
        theirs = {judgement.pair.id: judgement.pair for judgement in judged
                  if judgement.pair.id not in self._known and judgement.verdict != "skip"}
        self._of_others = deque(theirs.values())
        self._known |= set(theirs)

    @property
    def waiting(self) -> int:
        """How many new pairs wait."""
        return len(self._new)

    def add(self, pairs: Iterable[Pair], most: int | None = None) -> int:
        """Let new pairs wait, `most` of them at most; how many they are. Those that this person knows, and those of two
        equal texts, are not new."""
        before = len(self._new)
        for pair in pairs:
            if most is not None and len(self._new) - before >= most:
                break
            if pair.id not in self._known and pair.first.text != pair.second.text:
                self._known.add(pair.id)
                self._new.append(pair)
        return len(self._new) - before

    def next(self) -> Turn | None:
        """Takes the pair that is to be shown next; None where none waits."""
        if self._put_back:
            return self._put_back.pop()
        if (old := self._repeats.due()) is not None:
            return self._turn(old, 1)
        if self._of_others and (not self._new or not self._of_others_last):
            self._of_others_last = True
            return self._turn(self._of_others.popleft(), 0)
        self._of_others_last = False
        return self._turn(self._new.popleft(), 0) if self._new else None

    def put_back(self, turn: Turn) -> None:
        """It was not judged: it comes next."""
        self._put_back.append(turn)

    def judged(self, judgement: Judgement) -> None:
        """A pair was judged, or judged anew."""
        self._repeats.judged(judgement)

    def clear(self) -> None:
        """The new pairs that wait are of no use any more."""
        self._known -= {pair.id for pair in self._new}
        self._new.clear()

    def _turn(self, pair: Pair, repeat: int) -> Turn:
        return Turn(pair, repeat, shown_swapped(pair, self._rater, repeat))
