"""Pairs of answers that runs have recorded: of a run that another process drives, and of two runs side by side."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlhf_engine.events import Sample
from rlhf_engine.labels.guess import guess_of
from rlhf_engine.labels.pair import Answer, Origin, Pair


@dataclass(frozen=True)
class Recorded:
    """The samples of one run, in any order. model, run: for the record. log_odds_per_unit: of their scores, see
    `guess_of`."""

    samples: Sequence[Sample]
    model: str = ""
    run: str = ""
    log_odds_per_unit: float | None = 1.0


def pairs_of_samples(first: Recorded, second: Recorded | None = None) -> list[Pair]:
    """Pairs of different answers to equal prompts, one of each run, or both of the only one; the newest pairs first.

    Each answer stands in one pair at most. Where a run has answered a prompt several times, the newest answers are
    paired first.
    """
    of_first = _by_prompt(first)
    if second is None:
        found = [pair for prompt, answers in of_first.items() for pair in _among(prompt, answers, first)]
    else:
        of_second = _by_prompt(second)
        # scores of two scales are not held against each other
        odds = first.log_odds_per_unit if first.log_odds_per_unit == second.log_odds_per_unit else None
        found = [pair for prompt, answers in of_first.items() if prompt in of_second
                 for pair in _between(prompt, answers, of_second[prompt], odds)]
    return sorted(found, key=_newest, reverse=True)


def _by_prompt(recorded: Recorded) -> dict[str, list[Answer]]:
    """The answers to each prompt, newest first."""
    found: dict[str, list[Answer]] = defaultdict(list)
    for sample in sorted(recorded.samples, key=lambda sample: sample.step, reverse=True):
        origin = Origin("recorded", recorded.model, recorded.run, sample.step)
        found[sample.prompt].append(
            Answer(sample.response, sample.finished, origin, sample.score, sample.parts, sample.spans))
    return found


def _among(prompt: str, answers: list[Answer], of: Recorded) -> Iterator[Pair]:
    waiting: deque[Answer] = deque()  # all of one text
    for answer in answers:
        if waiting and waiting[0].text != answer.text:
            first = waiting.popleft()
            yield Pair(prompt, first, answer, guess=guess_of(first, answer, of.log_odds_per_unit))
        else:
            waiting.append(answer)


def _between(prompt: str, answers: list[Answer], others: list[Answer], odds: float | None) -> Iterator[Pair]:
    left = deque(others)
    for first in answers:
        at = next((at for at, answer in enumerate(left) if answer.text != first.text), None)
        if at is not None:
            second = left[at]
            del left[at]
            yield Pair(prompt, first, second, guess=guess_of(first, second, odds))


def _newest(pair: Pair) -> tuple[int, int]:
    steps = [answer.origin.step or 0 for answer in (pair.first, pair.second)]
    return max(steps), min(steps)
