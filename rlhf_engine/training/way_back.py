"""The way back to a checkpoint, of a run that is resumed, or that has diverged: run, files and memory stand where they
did."""

from __future__ import annotations

from collections.abc import Callable

from rlhf_engine.algorithms.base import Algorithm, State
from rlhf_engine.config.fields import changed_settings, setting_at, value_at
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.events import Alarm, EditApplied, RolledBack
from rlhf_engine.requests import Edit
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.base_model import CHANGED, MOVES
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.runs.reward_versions import drop_versions_after
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.course import Course
from rlhf_engine.training.journal import Journal
from rlhf_engine.training.saving import Saver
from rlhf_engine.training.setup import Setup
from rlhf_engine.training.watching import Watch


class WayBack:
    """That of one run, which has a directory."""

    def __init__(
        self, run_dir: RunDir, course: Course, setup: Setup, watch: Watch, saver: Saver, journal: Journal
    ) -> None:
        self._run_dir, self._course, self._setup = run_dir, course, setup
        self._watch, self._saver, self._journal = watch, saver, journal

    def to_newest(self, algorithm: Algorithm | None = None) -> TrainingState:
        """The newest checkpoint (that fits `algorithm`), with settings, counts and the run's files where they stood.
        Raises CheckpointError."""
        def fits(state: TrainingState) -> None:
            if algorithm:
                algorithm.require_fit(State(state.tensors, state.numbers))

        state, notices = checkpoint.load_newest(self._run_dir, fits)
        damaged = checkpoint.candidates(self._run_dir)[:len(notices)]
        course = self._course
        course.go_to(state)
        cut = self._run_dir.truncate_after(course.step, course.progress.edits)
        for text in [*checkpoint.in_few(notices), *cut]:
            self._journal.notice(text)
        drop_versions_after(self._run_dir, course.step, course.config)
        self._watch.begin_again()
        self._saver.restore(course.step, course.progress, self._watch.past(self._run_dir), damaged)
        return state

    def go_on_from(self, state: TrainingState, algorithm: Algorithm, wanted: RunConfig) -> None:
        """Let `algorithm` stand where the run does after `state` was loaded, with code and base of `wanted`."""
        course = self._course
        for path, (_, new) in changed_settings(course.config, wanted).items():
            # of code that was accepted since, whose file of before is no more; or of a base that has moved
            if path.endswith(".sha256") or path in MOVES:
                course.change(path, new)
        self._setup.reconfigure(course.config, algorithm)
        algorithm.load_state(State(state.tensors, state.numbers))
        now = self._setup.policy.fingerprint if self._setup.policy else None
        if state.base and now and state.base != now:  # as a person has said
            course.note(EditApplied(course.step + 1, CHANGED, state.base.hex, now.hex))

    def roll_back(self, algorithm: Algorithm, error: NonFiniteError, edit: Callable[[Edit], None]) -> None:
        """Go on from the newest checkpoint with lower learning rates, if the run may; else raises `error`."""
        course = self._course
        wanted, diverged_at, seconds, rollbacks = course.config, course.step, course.seconds, course.progress.rollbacks
        train = wanted.train
        if rollbacks >= train.max_rollbacks:
            raise error
        state = self.to_newest(algorithm)
        course.rolled_back(rollbacks + 1, seconds)
        text = (f"diverged at step {diverged_at}: {error}; back at the checkpoint of step {course.step} with learning "
                f"rates times {train.rollback_factor:g} (roll-back {rollbacks + 1} of {train.max_rollbacks})")
        self._journal.emit(RolledBack(course.step, text))
        self._journal.alarm(Alarm(course.step, "rolled-back", text))
        self.go_on_from(state, algorithm, wanted)
        rates = {path: value_at(wanted, path) * train.rollback_factor for path in wanted.algorithm.learning_rates}
        # live changes since that checkpoint are the user's will: they hold, from this step on
        changed = changed_settings(course.config, wanted)  # what a reward model has learnt since is none
        edits = {path: new for path, (_, new) in changed.items() if setting_at(course.config, path).live} | rates
        for path, value in edits.items():
            edit(Edit(path, value))
