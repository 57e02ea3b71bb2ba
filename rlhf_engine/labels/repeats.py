"""Pairs that come back, with their sides swapped, so that a person sees how steady their own judgement is."""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterable

from rlhf_engine.files.json_text import to_json
from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.pair import Pair

REPEAT_EVERY = 10
"""One in so many pairs comes back."""
_FORGOTTEN = 5  # other judgements between a pair and its return, so that one judges again instead of remembering


class Repeats:
    """The pairs that come back to one person. Neither a judgement nor a question takes longer the more there are."""

    def __init__(self, rater: str, every: int = REPEAT_EVERY, judgements: Iterable[Judgement] = ()) -> None:
        """every: one in so many pairs comes back; 0: none does. judgements: those that there are, of anybody."""
        self._rater, self._every = rater, every
        self._first: dict[str, Judgement] = {}
        self._again: set[str] = set()
        self._fresh: deque[str] = deque()  # the last few, not forgotten yet
        self._lots: list[tuple[bytes, str]] = []  # a heap of those that can come back, and of some that no more can
        for judgement in judgements:
            self.judged(judgement)

    def judged(self, judgement: Judgement) -> None:
        """Take account of a judgement, also of one in the place of an earlier one."""
        pair = judgement.pair.id
        if judgement.rater != self._rater or not self._every:
            return
        if judgement.repeat:
            self._again.add(pair)
            return
        known = pair in self._first
        self._first[pair] = judgement
        if not known:
            self._fresh.append(pair)
            if len(self._fresh) > _FORGOTTEN:
                self._draw_lot(self._fresh.popleft())
        elif pair not in self._fresh:
            self._draw_lot(pair)  # it may have been skipped before

    def due(self) -> Pair | None:
        """The pair that is to be judged once more now, as `repeat` 1; None where it is time for a new one.

        One that was judged a while ago and only once: which one, its digest says, so that nobody expects it, and a
        session that is resumed asks for the same.
        """
        if not self._every or len(self._first) < self._every * (len(self._again) + 1):
            return None
        while self._lots:
            pair = self._lots[0][1]
            if pair not in self._again and self._first[pair].verdict != "skip":
                return self._first[pair].pair
            heapq.heappop(self._lots)
        return None

    def _draw_lot(self, pair: str) -> None:
        lot = hashlib.sha256(to_json(["repeat", self._rater, pair]).encode()).digest()
        heapq.heappush(self._lots, (lot, pair))
