"""What a run tells: every fact once as a line in its directory, where it has one, and once as an event."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress

from rlhf_engine.algorithms.base import StepResult
from rlhf_engine.config.advice import advice
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RunError
from rlhf_engine.events import Alarm, EditApplied, Event, Notice, RunState, StateChanged, StepFinished
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.system.processes import peak_gpu_bytes, peak_resident_bytes

Emit = Callable[[Event], None]


class Journal:
    """The lines and events of one run. Without a run directory there are events only."""

    def __init__(self, run_dir: RunDir | None, emit: Emit) -> None:
        self.emit, self.state = emit, RunState.LOADING
        self.holds_lock = False
        """Whether this process drives the run, and so tells how it stands."""
        self._run_dir = run_dir
        self._said: set[str] = set()
        self._before: tuple[int, int] | None = None  # peaks of earlier processes

    def notice(self, text: str) -> None:
        """A sentence that the user should read."""
        self.emit(Notice(text, "warning"))

    def advise(self, config: RunConfig) -> None:
        """Warn of the settings that do nothing, each once."""
        for text in advice(config):
            if text not in self._said:
                self._said.add(text)
                self.notice(text)

    def alarm(self, alarm: Alarm) -> None:
        """Something goes wrong with the training."""
        if self._run_dir:
            self._run_dir.append_alarm(alarm)
        self.emit(alarm)

    def edit(self, edit: EditApplied) -> None:
        """A setting changed while the run went on."""
        if self._run_dir:
            self._run_dir.append_edit(edit)
        self.emit(edit)

    def step(self, number: int, seconds: float, result: StepResult, config: RunConfig) -> None:
        """A step is done. seconds: of training so far."""
        total = config.train.steps
        if self._run_dir:
            self._run_dir.append_metrics(number, seconds, result.metrics)
            self._run_dir.append_samples(result.samples, config.train.traced_samples)
            self._write_status(number, total)
        self.emit(StepFinished(number, total, result.metrics, result.samples, seconds))

    def enter(self, state: RunState, step: int, total: int, message: str = "") -> None:
        """The run is in `state` now; told again only with a message, or when it loads once more."""
        if state == self.state and not message and state is not RunState.LOADING:
            return
        self.state = state
        self.emit(StateChanged(state, step, total, message))
        # how a run ended must reach the screen even if the disk is full
        with suppress(RunError) if state.ended else nullcontext():
            self._write_status(step, total, message)

    def _write_status(self, step: int, total: int, message: str = "") -> None:
        if self._run_dir and self.holds_lock:
            memory, cuda = self._peaks()
            self._run_dir.write_status(self.state, step, total, message, peak_memory=memory, peak_cuda=cuda)

    def _peaks(self) -> tuple[int, int]:
        """Of all processes of the run so far: the most memory of one, and the most of a GPU's."""
        if self._before is None:
            told = self._run_dir.status() if self._run_dir else None
            self._before = (told.peak_memory, told.peak_cuda) if told else (0, 0)
        return max(self._before[0], peak_resident_bytes()), max(self._before[1], peak_gpu_bytes())
