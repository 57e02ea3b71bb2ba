"""What judgements say about those who judged: how fast, how steady, and by what a judge may be led astray."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from rlhf_engine.labels.judgement import VERDICTS, Judgement, Verdict
from rlhf_engine.maths.agreement import gwet_ac1, gwet_chance
from rlhf_engine.maths.statistics import wilson_interval
from rlhf_engine.words import words_of

FIRST, SECOND, NEITHER = "first", "second", "neither"
"""The categories in which people agree or not: which text is the better one, or neither. Which of the two texts is the
first is told by their order as texts, so that it is the same for everybody."""


@dataclass(frozen=True)
class Share:
    """A share of `n` independent cases, with its 95 % interval (Wilson), and what chance would give."""

    value: float
    low: float
    high: float
    n: int
    chance: float


@dataclass(frozen=True)
class LabelStatistics:
    """Of some judgements, of one person or of several.

    counts: by verdict. judged: all but skipped ones. seconds_per_pair: the median; None where nobody took the time.
    consistency: pairs judged again, with their sides swapped, and judged alike; by chance that of a coin that leaves as
    many pairs without a winner. left_won, longer_won: of the pairs with a winner, the share that the left answer won,
    and that which has more words (pairs of equal length left out). All are None where there is nothing to count.
    """

    counts: Mapping[Verdict, int]
    judged: int
    flagged: int
    raters: tuple[str, ...]
    seconds_per_pair: float | None
    per_minute: float | None
    consistency: Share | None
    left_won: Share | None
    longer_won: Share | None


@dataclass(frozen=True)
class Agreement:
    """Of two people on the pairs that both judged. ac1: Gwet's. share: the raw share with its interval."""

    ac1: float
    share: Share


def statistics_of(judgements: Sequence[Judgement]) -> LabelStatistics:
    """The statistics of judgements, the latest of each key."""
    counts: dict[Verdict, int] = dict.fromkeys(VERDICTS, 0)
    for judgement in judgements:
        counts[judgement.verdict] += 1
    decided = [judgement for judgement in judgements if judgement.decided]
    seconds = [judgement.seconds for judgement in judgements if judgement.seconds > 0]
    pace = median(seconds) if seconds else None
    return LabelStatistics(
        counts=counts,
        judged=len(judgements) - counts["skip"],
        flagged=sum(judgement.flag for judgement in judgements),
        raters=tuple(sorted({judgement.rater for judgement in judgements})),
        seconds_per_pair=pace,
        per_minute=60 / pace if pace else None,
        consistency=_consistency(judgements),
        left_won=_share([judgement.left_won for judgement in decided if _shown(judgement)], 0.5),
        longer_won=_share(list(_longer_won(decided)), 0.5),
    )


def agreement(judgements: Iterable[Judgement], others: Iterable[Judgement]) -> Agreement | None:
    """How far two people agree on the pairs that both judged, each by their first judgement; None if there are none."""
    one, other = ({judgement.pair.id: category(judgement) for judgement in found
                   if judgement.repeat == 0 and judgement.verdict != "skip"} for found in (judgements, others))
    both = [pair for pair in one if pair in other]
    if not both:
        return None
    of_one, of_other = [one[pair] for pair in both], [other[pair] for pair in both]
    alike = _share([mine == theirs for mine, theirs in zip(of_one, of_other, strict=True)],
                   gwet_chance(of_one, of_other, 3))
    assert alike is not None
    return Agreement(gwet_ac1(of_one, of_other, 3), alike)


def category(judgement: Judgement) -> str:
    """Which text is the better one, however the pair was drawn and shown: FIRST, SECOND or NEITHER."""
    if not judgement.decided:
        return NEITHER
    return FIRST if judgement.chosen.text < judgement.rejected.text else SECOND


# ---------------------------------------------------------------------------------------------------------------------


def _share(hits: Sequence[bool], chance: float) -> Share | None:
    if not hits:
        return None
    interval = wilson_interval(sum(hits), len(hits))
    return Share(interval.value, interval.low, interval.high, len(hits), chance)


def _shown(judgement: Judgement) -> bool:
    """True where it is known which of the two stood on the left; of answers that come from a file of others, it is not.
    """
    return "file" not in (judgement.pair.first.origin.kind, judgement.pair.second.origin.kind)


def _longer_won(decided: Iterable[Judgement]) -> Iterable[bool]:
    for judgement in decided:
        chosen, rejected = (len(words_of(answer.text)) for answer in (judgement.chosen, judgement.rejected))
        if chosen != rejected:
            yield chosen > rejected


def _consistency(judgements: Iterable[Judgement]) -> Share | None:
    """Each repeat against the judgement before it, by the same person."""
    by_pair: dict[tuple[str, str], dict[int, Judgement]] = defaultdict(dict)
    for judgement in judgements:
        if judgement.verdict != "skip" and _shown(judgement):  # equal rows of a public set are no second look
            by_pair[judgement.rater, judgement.pair.id][judgement.repeat] = judgement
    alike: list[bool] = []
    given: list[str] = []
    for found in by_pair.values():
        categories = [category(found[repeat]) for repeat in sorted(found)]
        alike += [one == other for one, other in pairwise(categories)]
        given += categories if len(categories) > 1 else []
    return _share(alike, _chance(given)) if alike else None


def _chance(given: Sequence[str]) -> float:
    """How often two coins agree that leave as many pairs without a winner as these do, and else favour neither side."""
    neither = given.count(NEITHER) / len(given)
    return neither**2 + (1 - neither) ** 2 / 2
