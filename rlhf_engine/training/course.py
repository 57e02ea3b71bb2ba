"""Where a run stands: its step, its settings as they were changed so far, what it counts besides, and the time it took.
"""

from __future__ import annotations

import time
from typing import Any

from rlhf_engine.config.fields import replace, value_at
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import EditApplied, RunState, StepProgress
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.training.journal import Journal
from rlhf_engine.training.saving import RunProgress


class Course:
    """That of one run, which tells of itself in `journal`."""

    def __init__(self, config: RunConfig, journal: Journal) -> None:
        self.config, self.step, self.progress = config, 0, RunProgress()
        self._journal, self._since = journal, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of training so far."""
        return self.progress.seconds + time.perf_counter() - self._since

    def start_clock(self) -> None:
        """From now on the time counts: what was loaded before is no training."""
        self._since = time.perf_counter()

    def go_to(self, state: TrainingState) -> None:
        """Stand where a checkpoint does. The threads stay those of this process, once they are chosen."""
        threads = self.progress.threads
        self.config, self.step, self.progress = state.config, state.step, RunProgress.of(state)
        self.progress.threads = threads or self.progress.threads

    def rolled_back(self, rollbacks: int, seconds: float) -> None:
        """What a way back to a checkpoint does not take back: how many there were, and the time of training."""
        self.progress.rollbacks, self.progress.seconds = rollbacks, seconds
        self.start_clock()

    def change(self, path: str, value: Any) -> None:
        """Set `path` to `value`, and record that. Raises ConfigError."""
        self.change_to(replace(self.config, {path: value}), path)

    def change_to(self, changed: RunConfig, path: str) -> None:
        """Take a config that differs at `path`, and record that."""
        event = EditApplied(self.step + 1, path, value_at(self.config, path), value_at(changed, path))
        self.config = changed
        if event.old != event.new:
            self.note(event)

    def note(self, event: EditApplied) -> None:
        """Record a change, of a setting or of what a setting names."""
        self.progress.edits += 1
        self._journal.edit(event)

    def enter(self, state: RunState, message: str = "") -> None:
        """The run is in `state` now."""
        self._journal.enter(state, self.step, self.config.train.steps, message)

    def tell_progress(self, phase: str, fraction: float) -> None:
        """What is being done within the step that comes, and how far, 0 to 1."""
        self._journal.emit(StepProgress(self.step + 1, phase, fraction))
