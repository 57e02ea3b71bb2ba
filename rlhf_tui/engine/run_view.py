"""What the workbench knows about the run, folded from events. Plain values; no widget, no engine."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import (
    EditApplied,
    Event,
    ModelLoaded,
    PastRead,
    RunStarted,
    RunState,
    StateChanged,
    StepFinished,
    StepProgress,
)
from rlhf_engine.requests import Close, Fork, Pause, Request, Resume, Start, Stop, Unpause
from rlhf_engine.runs.run_settings import edited
from rlhf_tui.engine.event_ring import StepsMissed

PACE_STEPS = 10
SLOW_SECONDS = 5.0


@dataclass
class RunView:
    """The newest run: its state, progress and latest metrics. `config` is what the engine uses, live edits included."""

    preset: str = ""
    has_own_settings: bool = False
    """True when the run came with settings of its own: it was resumed, forked, or is viewed."""
    watched: bool = False
    """True of a run that is shown here and driven elsewhere, or by nobody."""
    name: str = ""
    path: str = ""
    config: RunConfig | None = None
    state: RunState | None = None
    message: str = ""
    step: int = 0
    total_steps: int = 0
    phase: str = ""
    fraction: float = 0.0
    pending_state: str = ""
    model: ModelLoaded | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    _reward_began: float = 0.0
    _pace: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=PACE_STEPS + 1))

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the last step at the pace of the last few steps; None while unknown."""
        if self.state is not RunState.TRAINING or len(self._pace) < 2:
            return None
        (first, began), (last, ended) = self._pace[0], self._pace[-1]
        return (self.total_steps - self.step) * (ended - began) / max(1, last - first)

    @property
    def slow_reward(self) -> str:
        """For how long the rewards have been scoring, once that is more than SLOW_SECONDS; else empty.

        Nothing can interrupt a reward function: whoever waits is to know what they wait for.
        """
        seconds = time.monotonic() - self._reward_began
        return f"reward {seconds:.0f} s" if self.phase == "reward" and seconds > SLOW_SECONDS else ""

    @property
    def progress(self) -> float:
        """Share of the whole run that is done, 0 to 1, the current step's part included."""
        if not self.total_steps:
            return 0.0
        return max(0.0, min(1.0, (self.step + self.fraction) / self.total_steps))

    def watch(self, preset: str) -> None:
        """A run is shown from now on that is driven elsewhere, or by nobody."""
        self.forget()
        self.preset, self.watched, self.has_own_settings = preset, True, True

    def forget(self) -> None:
        """No run is shown any more."""
        self.name = self.path = self.preset = ""
        self.watched = False
        self.config = self.state = None
        self.step = self.total_steps = 0
        self._reset()

    def expect(self, request: Request) -> None:
        """Show what was asked until the engine tells that it is so."""
        under_way = self.state is not None and not self.state.ended and not self.watched
        match request:
            case Start():
                self.state, self.preset, self.has_own_settings = RunState.LOADING, request.preset, False
            case Resume() | Fork():
                self.state, self.has_own_settings = RunState.LOADING, True
            case Pause() if under_way:
                self.pending_state = "pausing"
            case Stop() | Close() if under_way:
                self.pending_state = "stopping"
            case Unpause():
                self.pending_state = ""

    def apply(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case RunStarted():
                self._start(event)
            case StateChanged():
                self.state, self.message, self.pending_state = event.state, event.message, ""
                self.step, self.total_steps = event.step, event.total_steps
                if event.state is not RunState.TRAINING:
                    self.phase, self.fraction = "", 0.0
                    self._pace.clear()
            case ModelLoaded():
                self.model = event
            case StepProgress():
                if event.phase == "reward" and self.phase != "reward":
                    self._reward_began = time.monotonic()
                self.phase, self.fraction = event.phase, event.fraction
            case StepFinished():
                self.step, self.total_steps = event.step, event.total_steps
                self.before, self.metrics = self.metrics, event.metrics
                self.phase, self.fraction = "", 0.0
                self._pace.append((event.step, event.seconds))
            case PastRead():
                self.step, self.total_steps = event.step, event.total_steps
            case StepsMissed():
                self.step = event.step
            case EditApplied():
                self._edit(event)

    def _start(self, event: RunStarted) -> None:
        self.name, self.path, self.config = event.name, event.path, event.config
        self.step, self.total_steps = event.first_step, event.config.train.steps
        self._reset()

    def _reset(self) -> None:
        self.message = self.pending_state = self.phase = ""
        self.fraction = 0.0
        self.metrics, self.before = {}, {}
        self._pace.clear()

    def _edit(self, event: EditApplied) -> None:
        if self.config is None:
            return
        self.config = edited(self.config, [event])
        self.total_steps = self.config.train.steps
