"""Pairs that come back, with their sides swapped, so that a person sees how steady their own judgement is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from rlhf_engine.files.json_text import to_json
from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.pair import Pair

REPEAT_EVERY = 10
"""One in so many pairs comes back."""
_FORGOTTEN = 5  # other judgements between a pair and its return, so that one judges again instead of remembering


def due_repeat(judgements: Iterable[Judgement], rater: str, every: int = REPEAT_EVERY) -> Pair | None:
    """The pair that `rater` is to judge once more now, as their `repeat` 1; None where it is time for a new one.

    One that they have judged a while ago and only once: which one, its digest says, so that nobody expects it, and a
    session that is resumed asks for the same. every: one in so many pairs comes back; 0: none does.
    """
    own = [judgement for judgement in judgements if judgement.rater == rater]
    again = {judgement.pair.id for judgement in own if judgement.repeat}
    first = [judgement for judgement in own if not judgement.repeat]
    if not every or len(first) < every * (len(again) + 1):
        return None
    possible = [judgement.pair for judgement in first[:-_FORGOTTEN]
                if judgement.pair.id not in again and judgement.verdict != "skip"]
    return min(possible, key=lambda pair: _lot(pair, rater), default=None)


def _lot(pair: Pair, rater: str) -> bytes:
    return hashlib.sha256(to_json(["repeat", rater, pair.id]).encode()).digest()
