"""What the engine has said and the screen has not heard yet, in bounded memory, with nothing lost.

A terminal may stall for as long as it likes. What only the newest counts of is kept once. Of steps the newest are kept;
the metrics of older ones are in the run's files, from where the screen reads them (`StepsMissed`), and as many of their
samples are kept as a screen remembers. Everything else is rare, and stays.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from rlhf_engine.events import (
    ComparisonFinished,
    ComparisonProgress,
    Event,
    GenerationFinished,
    GenerationToken,
    Probed,
    RolledBack,
    RunStarted,
    Sample,
    StepFinished,
    StepProgress,
)
from rlhf_tui.engine.sample_store import KEPT_SAMPLES

KEPT_STEPS = 256
TRACED_STEPS = 64  # waiting steps that keep their traces; a step of eight stories has 100 KB of them
KEPT_PROBES = 1000  # besides the reference's; a screen remembers fewer


@dataclass(frozen=True)
class StepsMissed(Event):
    """Steps that were told by no StepFinished, up to `step`: the metrics of all up to there are to be read from the
    files of `run`. samples: the newest of those that were missed, oldest first, without traces."""

    run: Path
    step: int
    samples: tuple[Sample, ...]


class EventRing:
    """Any thread may call any method; none waits for longer than it takes to move an event."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run = Path()  # of the events that were taken last
        self._begin()

    def _begin(self) -> None:
        self._events: dict[int, Event] = {}  # by a running number
        self._count = 0
        self._newest: dict[tuple[type, int], int] = {}  # of those that later ones supersede
        self._steps: deque[int] = deque()
        self._probes: deque[int] = deque()
        self._turns: deque[tuple[int, Path]] = deque()  # where a run began, or went back: no gap reaches over these
        self._gap: int | None = None
        self._missed: deque[Sample] = deque(maxlen=KEPT_SAMPLES)

    def put(self, *events: Event) -> None:
        """Add events, in order."""
        with self._lock:
            for event in events:
                self._put(event)

    def take(self) -> list[Event]:
        """All that wait, oldest first."""
        with self._lock:
            self._close_gap()
            events = list(self._events.values())
            if self._turns:
                self._run = self._turns[-1][1]
            self._begin()
        return events

    def holds_only(self, *kinds: type[Event]) -> bool:
        """True when nothing else waits."""
        with self._lock:
            return all(isinstance(event, kinds) for event in self._events.values())

    # --- with the lock held ---

    def _put(self, event: Event) -> None:
        number, self._count = self._count, self._count + 1
        if isinstance(event, StepProgress | GenerationToken | ComparisonProgress):
            self._supersede(type(event), getattr(event, "request_id", 0), number)
        elif isinstance(event, GenerationFinished):
            self._supersede(GenerationToken, event.request_id, None)
        elif isinstance(event, ComparisonFinished):
            self._supersede(ComparisonProgress, event.request_id, None)
        elif isinstance(event, RunStarted | RolledBack):
            last = self._turns[-1][1] if self._turns else self._run
            self._turns.append((number, Path(event.path) if isinstance(event, RunStarted) else last))
        self._events[number] = event
        if isinstance(event, StepFinished):
            self._steps.append(number)
            self._forget_steps()
        elif isinstance(event, Probed) and event.step:
            self._probes.append(number)
            if len(self._probes) > KEPT_PROBES:
                del self._events[self._probes.popleft()]

    def _supersede(self, kind: type[Event], about: int, number: int | None) -> None:
        old = self._newest.pop((kind, about), None)
        if old is not None:
            del self._events[old]
        if number is not None:
            self._newest[kind, about] = number

    def _forget_steps(self) -> None:
        if len(self._steps) > TRACED_STEPS:
            number = self._steps[-TRACED_STEPS - 1]
            old = self._events[number]
            assert isinstance(old, StepFinished)
            self._events[number] = replace(old, samples=_without_traces(old.samples))
        if len(self._steps) > KEPT_STEPS:
            number = self._steps.popleft()
            old = self._events.pop(number)
            assert isinstance(old, StepFinished)
            turns = list(takewhile(lambda turn: turn[0] < number, self._turns))
            if self._gap is None or any(place > self._gap for place, _ in turns):
                self._close_gap()
                self._gap = number
            run = turns[-1][1] if turns else self._run
            self._missed.extend(_without_traces(old.samples))
            self._set_in_order(self._gap, StepsMissed(run, old.step, ()))

    def _set_in_order(self, number: int, event: Event) -> None:
        """Put `event` where the first of the steps was that it stands for."""
        if number in self._events:
            self._events[number] = event
        else:
            self._events = dict(sorted({**self._events, number: event}.items()))

    def _close_gap(self) -> None:
        """The last gap gets the samples that were missed in it."""
        if self._gap is not None:
            gap = self._events[self._gap]
            assert isinstance(gap, StepsMissed)
            self._events[self._gap] = replace(gap, samples=tuple(self._missed))
            self._missed.clear()
            self._gap = None


def _without_traces(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(replace(sample, trace=None) if sample.trace is not None else sample for sample in samples)
