"""What other threads ask of an engine thread: plain values, and the queue in which they wait for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import ComparisonFinished, EditRefused, GenerationFinished, MethodsCompared, PairsSampled
from rlhf_engine.labels.pair import AskedFor

# --- runs; one at a time ---


@dataclass(frozen=True)
class Start:
    """Begin a new run in a directory under `runs_root`, named `name`, or as it comes if None."""

    config: RunConfig
    runs_root: Path
    name: str | None = None
    preset: str = ""


@dataclass(frozen=True)
class Resume:
    """Resume the run in `run_path` from its newest checkpoint.

    accept_code: with files of reward functions that have changed since, too, if this user trusts what they are by
    then. accept_base: with another base model than before, too. accept_data: with other data than before, too.
    """

    run_path: Path
    accept_code: bool = False
    accept_base: bool = False
    accept_data: bool = False


@dataclass(frozen=True)
class Fork:
    """Begin a new run from the checkpoint of `step` (None: the newest) of the run in `run_path`, with `changes`
    (path -> value). accept_base: as for `Resume`."""

    run_path: Path
    runs_root: Path
    changes: Mapping[str, Any]
    step: int | None = None
    name: str | None = None
    accept_base: bool = False


# --- of the run under way, or about to begin; done between two of its steps ---


@dataclass(frozen=True)
class Pause:
    """Hold the run."""


@dataclass(frozen=True)
class Unpause:
    """Let a paused run continue."""


@dataclass(frozen=True)
class Stop:
    """End the run, with a checkpoint."""


@dataclass(frozen=True)
class SaveCheckpoint:
    """Save a checkpoint; answered by CheckpointSaved."""


@dataclass(frozen=True)
class Edit:
    """Change the live setting at `path` to `value`; answered by EditApplied or EditRefused."""

    path: str
    value: Any

    def refused(self, why: str) -> EditRefused:
        """The answer that the change was not made."""
        return EditRefused(self.path, why)


# --- questions; answered between two steps of a run, or at once ---


@dataclass(frozen=True)
class Generate:
    """Continue `prompt`, by the tuned actor or by the reference, and score the response.

    Answered by GenerationToken and GenerationFinished with its `id`. A run under way answers with its own settings;
    without one, those of `config` hold, with the last run's policy if it is of that model.
    """

    id: int
    config: RunConfig
    prompt: str
    tuned: bool
    temperature: float
    max_new_tokens: int
    seed: int

    def refused(self, why: str) -> GenerationFinished:
        """The answer that there is none."""
        return GenerationFinished(self.id, "", error=why)


@dataclass(frozen=True)
class Side:
    """Who answers in a comparison: the reference, the tuned model as it stands, or a checkpoint of the run in `run`
    (of `step`, or the newest if None)."""

    kind: Literal["reference", "tuned", "checkpoint"]
    run: Path | None = None
    step: int | None = None


REFERENCE, TUNED = Side("reference"), Side("tuned")


@dataclass(frozen=True)
class Compare:
    """Sample `responses` pairs of two sides from the same seeds and compare them.

    Answered by ComparisonProgress and ComparisonFinished with its `id`. Prompts, sampling and rewards are as for
    `Generate`, or those of the first side's run, if both are checkpoints. pool: how many responses of the reference may
    be drawn to hold both against best-of-n, after a ComparisonPaired; 0 for none.
    """

    id: int
    config: RunConfig
    responses: int
    seed: int
    first: Side = REFERENCE
    second: Side = TUNED
    pool: int = 0

    @property
    def of_checkpoints(self) -> bool:
        """True when it takes no model but what is on the disk."""
        return self.first.kind == self.second.kind == "checkpoint"

    def refused(self, why: str) -> ComparisonFinished:
        """The answer that there is none."""
        return ComparisonFinished(self.id, None, why)


@dataclass(frozen=True)
class CompareMethods:
    """Sample `responses` to `prompt` by the actor, and tell what each method would learn from them; nothing is trained.

    Answered by MethodsCompared with its `id`. Settings and policy are as for `Generate`; run: a run that is viewed,
    whose newest checkpoint answers under the settings that it had by then.
    """

    id: int
    config: RunConfig
    prompt: str
    responses: int
    seed: int
    run: Path | None = None

    def refused(self, why: str) -> MethodsCompared:
        """The answer that there is none."""
        return MethodsCompared(self.id, None, why)


@dataclass(frozen=True)
class SamplePairs:
    """Sample `count` pairs of answers, the first of each by one side, the second by the other, for a person to judge.

    Answered by PairsSampled with its `id`. Prompts, sampling and rewards are as for `Compare`; equal sides answer from
    two seeds. ask: which pairs are asked for: any, or of `responses` answers by each side to each prompt those two
    whose scores differ least ("unsure") or most ("gap"). run: the name of the run that the tuned model is of, for the
    record. accept_base: as for `Resume`, of the checkpoints that answer. moves: where their base model is now, as
    changes of settings (path -> value), where it is not where it was.
    """

    id: int
    config: RunConfig
    count: int
    seed: int
    first: Side = TUNED
    second: Side = TUNED
    ask: AskedFor = "random"
    responses: int = 4
    run: str = ""
    accept_base: bool = False
    moves: Mapping[str, Any] = field(default_factory=dict)

    @property
    def of_checkpoints(self) -> bool:
        """True when it takes no model but what is on the disk."""
        return self.first.kind == self.second.kind == "checkpoint"

    def refused(self, why: str) -> PairsSampled:
        """The answer that there is none."""
        return PairsSampled(self.id, (), why)


Question = Generate | Compare | CompareMethods | SamplePairs
"""What is answered with an event of its own that bears its `id`."""


# --- at once ---


@dataclass(frozen=True)
class Cancel:
    """Give up the question of that id, waiting or under way; nothing if it is neither."""

    id: int


@dataclass(frozen=True)
class Close:
    """End the run, with a checkpoint, and do nothing that is asked for after it."""


Request = Start | Resume | Fork | Pause | Unpause | Stop | SaveCheckpoint | Edit | Question | Cancel | Close


class RequestQueue:
    """Requests in the order in which they were asked. Any thread may `ask`; one engine thread does all else."""

    def __init__(self) -> None:
        self.closed = False
        """True once everything is to end."""
        self._changed = threading.Condition()
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._cancelled: set[int | None] = set()

    def ask(self, request: Request) -> None:
        """Add a request. Cancel and Close wait for no other."""
        with self._changed:
            if isinstance(request, Close):
                self.closed = True
            elif not isinstance(request, Cancel):
                self._waiting.append(request)
            elif request.id in map(_id_of, (*self._waiting, self._current)):
                self._cancelled.add(request.id)
            self._changed.notify_all()

    def take(self) -> Request | None:
        """The oldest request, or None. The one taken before is done with."""
        with self._changed:
            self._cancelled.discard(_id_of(self._current))
            self._current = self._waiting.popleft() if self._waiting else None
            return self._current

    @property
    def ending(self) -> bool:
        """True once everything is to end, or a run's end was asked for and not yet taken."""
        with self._changed:
            return self.closed or any(isinstance(request, Stop) for request in self._waiting)

    def wait(self, timeout: float | None = None) -> None:
        """Sleep until there is a request or all is to end, at most `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.closed, timeout)

    def cancelled(self, question: Question) -> bool:
        """True once the question was given up, or everything is to end."""
        return self.closed or question.id in self._cancelled


def _id_of(request: Request | None) -> int | None:
    return request.id if isinstance(request, Question) else None
