"""Several rewards as one: a weighted sum, with every reward's output checked before it is trusted."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from operator import attrgetter
from typing import Any

from rlhf_engine.errors import ConfigError, RewardError
from rlhf_engine.events import Span
from rlhf_engine.rewards.base import Columns, LearnsOn, NeedsColumns, Reward, RunsModel, Score, TellsOdds, UsesPolicy
from rlhf_engine.rewards.failures import quoted, raised

ColumnsOf = Callable[[Sequence[str]], Columns | None]


@dataclass(frozen=True)
class ScoredBatch:
    """Scores of a batch, and for each reward by name its own totals before weighting (one per response; None where it
    does not apply), and what else it tells: means over the responses that it is told of, by `<reward>/<fact>`."""

    scores: list[Score]
    by_reward: dict[str, list[float | None]]
    facts: dict[str, float] = field(default_factory=dict)


class RewardSum:
    """The sum of weight * reward over (reward, weight) pairs.

    Parts of the sum are weighted and named "<reward>/<part>"; a reward without parts appears as "<reward>". Spans of
    all rewards are joined in order of position; where two overlap, the reward that comes first keeps its span. A reward
    that does not apply to a response adds nothing to its score and has no part in it.
    Raises ConfigError for no rewards, or for two of one name.
    """

    def __init__(self, rewards: Sequence[tuple[Reward, float]]) -> None:
        names = [reward.name for reward, _ in rewards]
        if not names:
            raise ConfigError("There is no reward to score with; at least one is needed.")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"Two rewards are named {twice[0]!r}; every reward needs a name of its own.")
        self._rewards = list(rewards)
        self.columns_of: ColumnsOf = lambda prompts: None
        """Finds the columns of the rows that prompts are from, for prompts that come without; None where they are from
        none."""
        self._sees_columns = {reward.name for reward, _ in rewards if "columns" in signature(reward.score).parameters}

    @property
    def sees_columns(self) -> bool:
        """Whether any reward asks for more of a row than its prompt."""
        return bool(self._sees_columns)

    def use_policy(self, policy: Any) -> None:
        """Offer the model in memory to those rewards that read with one; see `UsesPolicy`."""
        for reward, _ in self._rewards:
            if isinstance(reward, UsesPolicy):
                reward.use_policy(policy)

    def reads_with_model_on(self, device: str) -> bool:
        """Whether any of them reads with the policy, where it is offered one, or with a model of its own on a device of
        that type ("cuda")."""
        return any(isinstance(reward, UsesPolicy)
                   or (isinstance(reward, RunsModel) and reward.model_device.type == device)
                   for reward, _ in self._rewards)

    @property
    def log_odds_per_unit(self) -> float:
        """Of the sum, as `TellsOdds` has it, where a single reward counts and tells it; else 1: what other scores say
        is no probability, and their sum is taken as it is."""
        counting = [(reward, weight) for reward, weight in self._rewards if weight]
        if len(counting) == 1 and isinstance(counting[0][0], TellsOdds):
            return counting[0][0].log_odds_per_unit / counting[0][1]
        return 1.0

    @property
    def learners(self) -> list[tuple[int, LearnsOn]]:
        """Those that learn while they reward, with the place at which each stands among all; see `LearnsOn`."""
        return [(at, reward) for at, (reward, _) in enumerate(self._rewards) if isinstance(reward, LearnsOn)]

    def require_rows(self, prompts: Sequence[str], columns: Columns) -> None:
        """Raises ConfigError, one sentence, for rows that a reward could not score responses to."""
        for reward, _ in self._rewards:
            if isinstance(reward, NeedsColumns):
                reward.require_rows(prompts, columns)

    def score(
        self, prompts: Sequence[str], responses: Sequence[str], columns: Columns | None = None
    ) -> ScoredBatch:
        """Score each response with every reward; prompts[i] is the prompt of responses[i].

        columns: what else the rows of the data hold that the prompts are from; by default what `columns_of` finds.

        Raises RewardError, naming the reward and quoting the response, when a reward raises, returns another number
        of scores than there are responses, or something other than finite numbers.
        """
        if len(prompts) != len(responses):
            raise ValueError(f"{len(prompts)} prompts for {len(responses)} responses; there must be one for each")
        if columns is None and self._sees_columns:
            columns = self.columns_of(prompts)
        seen: dict[str, Any] = {"columns": columns}
        given = [_checked_scores(reward, prompts, responses, seen if reward.name in self._sees_columns else {})
                 for reward, _ in self._rewards]
        by_reward = {
            reward.name: [None if score is None else float(score.total) for score in column]
            for (reward, _), column in zip(self._rewards, given, strict=True)
        }
        facts = {f"{reward.name}/{fact}": mean for (reward, _), column in zip(self._rewards, given, strict=True)
                 for fact, mean in _mean_facts(column).items()}
        return ScoredBatch([self._sum(row) for row in zip(*given, strict=True)], by_reward, facts)

    def _sum(self, row: tuple[Score | None, ...]) -> Score:
        """The weighted sum of one response's scores, one from each reward that applies."""
        parts: dict[str, float] = {}
        given = [(reward, weight, score) for (reward, weight), score in zip(self._rewards, row, strict=True)
                 if score is not None]
        for reward, weight, score in given:
            named = {f"{reward.name}/{part}": value for part, value in score.parts.items()}
            for part, value in (named or {reward.name: score.total}).items():
                parts[part] = weight * float(value)
        total = math.fsum(weight * float(score.total) for _, weight, score in given)
        return Score(total, parts, _joined_spans([score for _, _, score in given]))


def _checked_scores(
    reward: Reward, prompts: Sequence[str], responses: Sequence[str], seen: Mapping[str, Any]
) -> list[Score | None]:
    try:
        scores = reward.score(prompts, responses, **seen)
    except RewardError:
        raise
    except Exception as error:
        raise raised(reward.name, error, responses) from error
    if not isinstance(scores, Sequence) or len(scores) != len(responses):
        found = f"{len(scores)} scores" if isinstance(scores, Sequence) else f"a {type(scores).__name__}"
        first = f", the first being {quoted(responses[0])}" if responses else ""
        raise RewardError(
            f"Reward {reward.name!r} returned {found} for {len(responses)} responses{first}; it must return a list of "
            "one Score each."
        )
    for score, response in zip(scores, responses, strict=True):
        if problem := _problem(score):
            raise RewardError(
                f"Reward {reward.name!r} gave {problem} for the response {quoted(response)}; allowed are a finite "
                "number, a Score of such, and None where the reward does not apply."
            )
    return list(scores)


def _mean_facts(scores: Sequence[Score | None]) -> dict[str, float]:
    """The mean of each fact over the responses that it is told of."""
    told: dict[str, list[float]] = {}
    for score in scores:
        for fact, value in score.facts.items() if score is not None else ():
            told.setdefault(fact, []).append(float(value))
    return {fact: math.fsum(values) / len(values) for fact, values in told.items()}


def _problem(score: object) -> str | None:
    """What is wrong with something that should be a Score of finite numbers; None if nothing is."""
    if score is None:
        return None
    if not isinstance(score, Score):
        return f"a {type(score).__name__} in place of a Score"
    numbers = {"total": score.total, **{f"part {part!r}": value for part, value in score.parts.items()},
               **{f"fact {fact!r}": value for fact, value in score.facts.items()}}
    for name, value in numbers.items():
        try:
            finite = math.isfinite(value)
        except (TypeError, ValueError, OverflowError):
            finite = False
        if not finite:
            return f"the {name} {value!r}"
    return None


def _joined_spans(row: Sequence[Score]) -> tuple[Span, ...]:
    """Spans of one response from all rewards: sorted, none overlapping, first come first served."""
    kept: list[Span] = []
    for span in (span for score in row for span in score.spans):
        place = bisect_right(kept, span.start, key=attrgetter("start"))
        after_previous = place == 0 or kept[place - 1].end <= span.start
        before_next = place == len(kept) or span.end <= kept[place].start
        if span.start < span.end and after_previous and before_next:
            kept.insert(place, span)
    return tuple(kept)
