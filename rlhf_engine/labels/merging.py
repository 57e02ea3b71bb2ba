"""The judgements of two files as those of one, of the same person or of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlhf_engine.errors import ConfigError
from rlhf_engine.labels.judgement import Judgement


@dataclass(frozen=True)
class Merged:
    """equal: how many are in both files. replaced: how many the other file has otherwise, by the same person, and made
    later."""

    judgements: list[Judgement]
    equal: int
    replaced: int


def merge(first: Sequence[Judgement], second: Sequence[Judgement], *, second_rater: str | None = None) -> Merged:
    """All judgements of both. What both files have of the same key is there once, as it was judged later.

    second_rater: who judged what the second file has of people whom the first names too: somebody else of that name.
    Raises ConfigError where that person has judgements in these files already.
    """
    if second_rater is not None:
        if second_rater in {judgement.rater for judgement in (*first, *second)}:
            raise ConfigError(f"--second-rater: {second_rater!r} has judged in these files already; choose another "
                              "name")
        known = {judgement.rater for judgement in first}
        second = [replace(judgement, rater=second_rater) if judgement.rater in known else judgement
                  for judgement in second]
    found = {judgement.key: judgement for judgement in first}
    equal = replaced = 0
    for judgement in second:
        other = found.get(judgement.key)
        if other is None:
            found[judgement.key] = judgement
        elif _same(judgement, other):
            equal += 1
        else:
            replaced += 1
            found[judgement.key] = max(other, judgement, key=lambda one: one.time)
    return Merged(list(found.values()), equal, replaced)


def _same(one: Judgement, other: Judgement) -> bool:
    return (one.time, one.verdict, one.chosen.text, one.flag, one.note) == (
        other.time, other.verdict, other.chosen.text, other.flag, other.note)
