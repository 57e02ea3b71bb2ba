"""What leaves the engine: frozen dataclasses of plain Python values, and nothing else.

The trainer hands each event to one `emit` function; the run directory and the screen both read these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.token_trace import TokenTrace


@dataclass(frozen=True)
class Span:
    """A stretch response[start:end] worth showing (character offsets).

    kind: "liked" or "disliked", of word lists; "rewarded" or "penalized", of what else earns or costs points; "right"
    or "wrong", of answers. Others are shown plain.
    """

    start: int
    end: int
    kind: str


class RunState(StrEnum):
    """Where a run stands. The last four are ends; a `stopped` run can be resumed."""

    LOADING = "loading"
    TRAINING = "training"
    PAUSED = "paused"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    DIVERGED = "diverged"

    @property
    def ended(self) -> bool:
        """True when no further step will come without a new start."""
        return self in (RunState.FINISHED, RunState.STOPPED) or self.went_wrong

    @property
    def went_wrong(self) -> bool:
        """True for an end that nobody asked for."""
        return self in (RunState.FAILED, RunState.DIVERGED)


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class RunStarted(Event):
    """A run directory is held and its run begins, from step `first_step` (0 for a new run) on."""

    name: str
    path: str
    config: RunConfig
    first_step: int


@dataclass(frozen=True)
class StateChanged(Event):
    """The run entered `state`; `message` is one sentence for the status line (why it failed, where it saved)."""

    state: RunState
    step: int
    total_steps: int
    message: str = ""


@dataclass(frozen=True)
class ModelLoaded(Event):
    """What was loaded, for the status line and the log."""

    name: str
    parameters: int
    trainable: int
    device: str
    dtype: str
    threads: int
    matmul_peak: float
    """Operations per second of large matrix products with these threads, in this dtype."""
    seconds: float


@dataclass(frozen=True)
class Sample:
    """One response of a step; spans are offsets into `response`.

    score, and the parts that it is the sum of; None without rewards. kl: nats of the whole response between the policy
    and the reference; None without a reference.
    """

    step: int
    prompt: str
    response: str
    score: float | None
    parts: Mapping[str, float]
    kl: float | None
    tokens: int
    finished: bool
    spans: tuple[Span, ...] = ()
    trace: TokenTrace | None = None


@dataclass(frozen=True)
class StepProgress(Event):
    """Within a step: what is being done, in a word of the method's own ("rollout", "update"), and how far, 0 to 1."""

    step: int
    phase: str
    fraction: float


@dataclass(frozen=True)
class StepFinished(Event):
    """One step is done. `step` counts from 1; `metrics` keys are those of `metrics.py`; `seconds` since the start."""

    step: int
    total_steps: int
    metrics: Mapping[str, float]
    samples: tuple[Sample, ...]
    seconds: float


@dataclass(frozen=True)
class PastRead(Event):
    """The first steps of a long run that is opened, up to `step`, told at once instead of by a StepFinished each.

    `past` is what whoever opened it gathered their metrics in; samples: the newest of those steps, oldest first.
    """

    step: int
    total_steps: int
    samples: tuple[Sample, ...]
    past: Any


@dataclass(frozen=True)
class Probed(Event):
    """The answer to the run's probe after `step`; step 0 is the reference's. All are drawn from the same noise."""

    step: int
    sample: Sample


@dataclass(frozen=True)
class TimeSpent:
    """Seconds spent in something, and how often it was done."""

    name: str
    seconds: float
    count: int


@dataclass(frozen=True)
class Profiled(Event):
    """Where the time of one watched step went: by part (in order), and by the most expensive tensor operators."""

    step: int
    seconds: float
    parts: tuple[TimeSpent, ...]
    operators: tuple[TimeSpent, ...]


@dataclass(frozen=True)
class StartProfiled(Event):
    """Where the time went from the start of the process to the end of the first step, by part (in order)."""

    seconds: float
    parts: tuple[TimeSpent, ...]


@dataclass(frozen=True)
class Alarm(Event):
    """Something is wrong with the run after `step`; `text` says what, in numbers, and what to try.

    kind: a key of `sentinel.conditions`, or "non-finite" for a step that could not be learnt from.
    """

    step: int
    kind: str
    text: str


@dataclass(frozen=True)
class RolledBack(Event):
    """The run diverged and goes on from its checkpoint of `step`; what came after that step no longer counts."""

    step: int
    text: str


@dataclass(frozen=True)
class EditApplied(Event):
    """A live change took effect before `step`."""

    step: int
    path: str
    old: Any
    new: Any


@dataclass(frozen=True)
class EditRefused(Event):
    """A live change was not made, and why."""

    path: str
    reason: str

    @property
    def text(self) -> str:
        """Both in one sentence."""
        return f"{self.path} was not changed: {self.reason}"


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint after `step` is complete on disk."""

    step: int
    path: str


@dataclass(frozen=True)
class Notice(Event):
    """One sentence a person should see; `level` is "info" or "warning"."""

    text: str
    level: str = "info"


@dataclass(frozen=True)
class GenerationToken(Event):
    """The text of a generation so far (whole, so that a dropped event loses nothing)."""

    request_id: int
    text: str


@dataclass(frozen=True)
class GenerationFinished(Event):
    """A generation is done, or failed with `error`. score, parts, kl: see `Sample`.

    no_scores: why it has no score, where the rewards could not be had.
    """

    request_id: int
    text: str
    score: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    kl: float | None = None
    tokens: int = 0
    error: str = ""
    no_scores: str = ""


@dataclass(frozen=True)
class ComparisonProgress(Event):
    """`done` of `total` responses of a comparison are sampled; after its ComparisonPaired, of its pool."""

    request_id: int
    done: int
    total: int


@dataclass(frozen=True)
class ComparisonPaired(Event):
    """The pairs of a comparison are there, in a `compare.Comparison`; what it says of best-of-n is still drawn."""

    request_id: int
    result: Any


@dataclass(frozen=True)
class ComparisonFinished(Event):
    """A comparison is done; `result` is a `compare.Comparison`; None when cancelled or failed with `error`."""

    request_id: int
    result: Any
    error: str = ""


@dataclass(frozen=True)
class MethodsCompared(Event):
    """A group was sampled and every method's part is known; `result` is a `credit.GroupCredit`; None when cancelled or
    failed with `error`."""

    request_id: int
    result: Any
    error: str = ""


@dataclass(frozen=True)
class PairsSampled(Event):
    """Pairs to judge were sampled: `labels.pair.Pair`s; none when cancelled or failed with `error`."""

    request_id: int
    pairs: tuple[Any, ...]
    error: str = ""
