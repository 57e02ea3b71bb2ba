"""What others ask of a run (pause, edits, checkpoints, answers), done between two steps, in the trainer's thread."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from rlhf_engine.config.fields import replace, setting_at
from rlhf_engine.errors import ConfigError
from rlhf_engine.evaluation.questions import answer_question
from rlhf_engine.events import EditRefused, RunState
from rlhf_engine.requests import (
    Compare,
    CompareMethods,
    Edit,
    Generate,
    Pause,
    RequestQueue,
    SamplePairs,
    SaveCheckpoint,
    Stop,
    Unpause,
)
from rlhf_engine.training.course import Course
from rlhf_engine.training.journal import Journal
from rlhf_engine.training.setup import Setup


class Save(Protocol):
    """Saves the run as it stands, unless the newest checkpoint holds that; `asked` is answered in any case."""

    def __call__(self, *, asked: bool = False) -> None:
        """Raises NonFiniteError and RunError."""


class Control:
    """That of one run. requests: where what is asked comes from, of a session or of this run alone."""

    def __init__(self, requests: RequestQueue, course: Course, setup: Setup, journal: Journal, save: Save) -> None:
        self.requests, self.paused = requests, False
        self._course, self._setup, self._journal, self._save = course, setup, journal, save
        self._stop_asked = False

    @property
    def stopping(self) -> bool:
        """Whether the run is to end at the next boundary of steps."""
        return self._stop_asked or self.requests.closed

    @property
    def ending(self) -> bool:
        """Whether the run is to end, as far as anybody has asked yet: a request may still wait to be served."""
        return self._stop_asked or self.requests.ending

    def serve_boundary(self) -> None:
        """Do what was asked since the last step; stay here while paused."""
        self.serve()
        while self.paused and not self.stopping:
            self._course.enter(RunState.PAUSED)
            self.requests.wait(timeout=1.0)
            self.serve()
        self._course.enter(RunState.STOPPING if self.stopping else RunState.TRAINING)

    def serve(self) -> None:
        """Do what was asked so far."""
        while (request := self.requests.take()) is not None:
            match request:
                case Pause() | Unpause():
                    self.paused = isinstance(request, Pause)
                case Stop():
                    self._stop_asked = True
                case SaveCheckpoint():
                    self._save(asked=True)
                case Edit():
                    self.edit(request)
                case Generate() | Compare() | CompareMethods() | SamplePairs():
                    algorithm = self._setup.algorithm
                    answer_question(request, self._setup.policy, self._course.config, self._course.step,
                                    self._journal.emit, numbers=algorithm.state().numbers if algorithm else {},
                                    cancelled=partial(self.requests.cancelled, request))

    def edit(self, edit: Edit) -> None:
        """Make a live change, recorded so that the run's history explains its curves; or say why not."""
        course, setup = self._course, self._setup
        try:
            setting = setting_at(course.config, edit.path)
            if not setting.live:
                raise ConfigError(f"{edit.path}: cannot change while training; stop the run first")
            changed = replace(course.config, {edit.path: edit.value})
            if changed.sampling.long_prompts != course.config.sampling.long_prompts:
                setup.check_data(changed)
            if setup.algorithm:
                setup.reconfigure(changed, setup.algorithm)
        except ConfigError as error:
            self._journal.emit(EditRefused(edit.path, str(error)))
            return
        course.change_to(changed, setting.path)
        self._journal.advise(course.config)
