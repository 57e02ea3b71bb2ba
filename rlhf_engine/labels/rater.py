"""A judge without a mind of its own: a reward that answers in a person's place, for tests, demonstrations, studies."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlhf_engine.files.json_text import to_json
from rlhf_engine.labels.guess import sigmoid
from rlhf_engine.labels.judgement import Judgement, Verdict, now
from rlhf_engine.labels.label_file import LabelFile
from rlhf_engine.labels.pair import Pair, shown_swapped
from rlhf_engine.labels.repeats import REPEAT_EVERY, Repeats


class Scores(Protocol):
    """What scores responses: a `rewards.composite.RewardSum`."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Any:
        """Something with `scores`, one for each response, each with a `total`."""
        ...


@dataclass(frozen=True)
class SimulatedRater:
    """Judges pairs by the scores of `rewards`.

    Equal scores are a tie. Else, at `temperature` 0, the higher one wins; above it, with probability
    sigmoid(gap / temperature), as Bradley and Terry (1952) have people choose. Then the answer is turned round with
    probability `error`. What it says is a function of seed and pair alone, however the pair was drawn or shown; a pair
    that comes back has its own luck.
    """

    rewards: Scores
    name: str
    error: float = 0.0
    temperature: float = 0.0
    seed: int = 0

    def judge(self, pair: Pair, repeat: int = 0) -> Judgement:
        """The judgement of a pair. Raises RewardError for a reward that fails."""
        began = time.monotonic()
        scored = self.rewards.score([pair.prompt] * 2, [pair.first.text, pair.second.text]).scores
        verdict = self._verdict(pair, repeat, *(float(score.total) for score in scored))
        return Judgement(pair, self.name, verdict, shown_swapped(pair, self.name, repeat), repeat, now(),
                         round(time.monotonic() - began, 3))

    def _verdict(self, pair: Pair, repeat: int, first: float, second: float) -> Verdict:
        if first == second:
            return "tie"
        # chance falls on the texts, not on who comes first
        sorted_too = pair.first.text < pair.second.text
        gap = first - second if sorted_too else second - first
        wins = gap > 0
        if self.temperature:
            wins = self._chance(pair, repeat, "choice") < sigmoid(gap / self.temperature)
        if self._chance(pair, repeat, "error") < self.error:
            wins = not wins
        return "first" if wins == sorted_too else "second"

    def _chance(self, pair: Pair, repeat: int, of: str) -> float:
        """A number from 0 to below 1."""
        digest = hashlib.sha256(to_json([of, self.seed, pair.id, repeat]).encode()).digest()
        return int.from_bytes(digest[:7]) / 2**56


def rate(
    rater: SimulatedRater, file: LabelFile, pairs: Iterable[Pair], *, count: int, repeat_every: int = REPEAT_EVERY,
    tell: Callable[[int], None] = lambda judged: None,
) -> int:
    """Lets `rater` judge until `file` has `count` more of its judgements, or there are no more pairs; how many it has.

    Of `pairs` those are judged that the rater has not judged yet, and one in `repeat_every` comes back in between. Each
    judgement is on the disk before the next. tell: takes how many there are so far.
    """
    repeats = Repeats(rater.name, repeat_every, file.judgements)
    new = (pair for pair in pairs if not file.has(pair.id, rater.name))  # asked as late as that
    for judged in range(count):
        again = repeats.due()
        pair = again or next(new, None)
        if pair is None:
            return judged
        judgement = rater.judge(pair, 1 if again else 0)
        file.add(judgement)
        repeats.judged(judgement)
        tell(judged + 1)
    return count
