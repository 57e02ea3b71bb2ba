"""What a reward is: anything that turns prompts and responses into one score each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from rlhf_engine.events import Span

__all__ = ["Columns", "LearnsOn", "Learnt", "NeedsColumns", "NotNowError", "Reward", "RunsModel", "Score", "Span",
           "TellsOdds", "UsesPolicy"]


Columns = Mapping[str, Sequence[Any]]
"""What the rows of the data hold besides their prompts, by name, one entry a response."""


@dataclass(frozen=True)
class Score:
    """What one response earned: the total, the named contributions it is made of, and what to highlight.

    parts are signed, in units of the total, and add up to it; a reward that has no parts leaves them empty. facts: what
    else is to be told of the response; their means over a step are the metrics `rewards/<reward>/<fact>`.
    """

    total: float
    parts: Mapping[str, float]
    spans: tuple[Span, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)


class Reward(Protocol):
    """Scores responses in batches. Equal inputs must give equal scores, so that a resumed run repeats itself.

    One that wants more of a row than its prompt has a `score` with a third parameter `columns`: the other columns of
    the data by name, one entry a response; None where prompts are no rows of the data, but typed by a person, say.
    """

    name: str

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Sequence[Score | None]:
        """One Score per response, or None where the reward does not apply; prompts[i] is the prompt of responses[i]."""
        ...


@runtime_checkable
class UsesPolicy(Protocol):
    """What a `Reward` may bring besides, that reads responses with a model: where a policy is in memory it is offered,
    so that both can share one base."""

    def use_policy(self, policy: Any) -> None:
        """Takes a `models.policy.Policy` to read on from now on, if it is of use. It must be left as it is found."""
        ...


@runtime_checkable
class RunsModel(Protocol):
    """What a `Reward` may bring besides, that reads responses with a model of its own."""

    @property
    def model_device(self) -> Any:
        """The `torch.device` that the model is on: a step whose policy is there too is scored before it is evaluated,
        so that one has the memory at a time."""
        ...


@dataclass(frozen=True)
class Learnt:
    """What a reward has become by learning on. settings: of its section, which make it so again, and are recorded as
    edits; they may be such as nobody else may change. text: what to tell of it; level: "warning" where a person should
    look."""

    settings: Mapping[str, Any]
    text: str
    level: Literal["info", "warning"] = "info"


class NotNowError(Exception):
    """What a reward learns is not wanted any more."""


@runtime_checkable
class LearnsOn(Protocol):
    """What a `Reward` may bring besides, that learns while a run is rewarded by it. It is asked before each step, and
    made anew from its changed settings when it has learnt: a resumed run then makes the same one."""

    def learn_on(self, folder: Path, step: int, progress: Callable[[float], None]) -> Learnt | None:
        """Learn, if there is something to learn from; None: it is as it was.

        folder: in the run's directory, for what is to be kept of it. step: the one that it is the first to reward.
        progress: takes how far, 0 to 1, and may raise NotNowError, which is let through with nothing kept. A policy
        that it has been offered must be left as it is found, and so must torch's own random numbers. Raises RlhfError,
        one sentence, where it should have learnt and could not: that is told, and the run goes on with what there is.
        """
        ...


@runtime_checkable
class TellsOdds(Protocol):
    """What a `Reward` may bring besides, whose scores are probabilities in disguise."""

    @property
    def log_odds_per_unit(self) -> float:
        """By how much, in nats, a response that scores one unit more is the likelier one to be preferred: P(first is
        preferred) = σ(log_odds_per_unit · (score of the first − score of the second))."""
        ...


@runtime_checkable
class NeedsColumns(Protocol):
    """What a `Reward` may bring besides, that cannot score without columns: whether the rows have them is asked before
    a run begins, rather than in its first step."""

    def require_rows(self, prompts: Sequence[str], columns: Columns) -> None:
        """Raises ConfigError, one sentence, for rows that it could not score responses to."""
        ...
