"""What a run learns with: model, data, rewards and method, loaded once and kept up to date with its settings."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rlhf_engine.algorithms.base import Algorithm, Resources, make_algorithm
from rlhf_engine.config.fields import changed_settings, replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.pinning import require_same_data
from rlhf_engine.data.rows import RunData, load_data
from rlhf_engine.data.source import BatchSource, CheckedData, check_data
from rlhf_engine.events import ModelLoaded, Notice
from rlhf_engine.model_folders.judge_models import pinned_judges
from rlhf_engine.models import dtype_trial
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.threads import use_threads_of
from rlhf_engine.runs.base_model import commit_of
from rlhf_engine.training.course import Course
from rlhf_engine.training.journal import Journal

Lap = Callable[[str, float | None], None]
"""Takes the name of what was done since the last call, and if it was only a part of that, its seconds."""


class Setup:
    """That of one run. Everything is None until it is loaded, in the order of the methods.

    new: of a run that has not begun, which chooses for itself what one that goes on keeps.
    """

    def __init__(self, course: Course, journal: Journal, lap: Lap) -> None:
        self.policy: Policy | None = None
        self.algorithm: Algorithm | None = None
        """Once it stands where the run does."""
        self.resources: Resources | None = None
        self.checked: CheckedData | None = None
        self._course, self._journal, self._lap = course, journal, lap
        self._data: RunData | None = None
        self._dtype = course.config.model.dtype

    def load_model(self, *, new: bool) -> Policy:
        """Raises ModelError."""
        self._lap("files of the run", None)
        config = self._with_dtype() if new else self._course.config
        self._dtype = config.model.dtype
        self._lap("trial of number formats", None)
        torch.manual_seed(config.train.seed)
        self.policy = Policy.from_config(config)
        self._lap("the model's check", self.policy.check_seconds)
        self._lap("torch.compile", self.policy.compile_seconds)
        self._lap("the model", None)
        return self.policy

    def _with_dtype(self) -> RunConfig:
        """The config with the number format in which this machine computes the model faster, if that is left to us.

        A run keeps the one that it began with: one that was begun on a CPU with dtype auto, and is resumed, computes in
        float32. Raises ModelError.
        """
        config = self._course.config
        if not dtype_trial.asks(config):
            return config
        found = dtype_trial.found_faster(config)
        if found.why:
            self._journal.emit(Notice(found.why))
        return replace(config, {"model.dtype": found.dtype}) if found.dtype != dtype_trial.FLOAT32 else config

    def load_data(self, *, new: bool, accept_changes: bool) -> None:
        """The rows to learn from. Raises ConfigError, and DataChangedError unless a person has accepted a change.

        Those of a run that goes on are checked later: changes that came with it may be what makes the prompts fit.
        """
        assert self.policy is not None
        course = self._course
        self._data, known = load_data(course.config), course.config.data.sha256
        if self._data.sha256 != known and (known or not new):
            if not accept_changes:
                require_same_data(course.config, self._data.sha256)
            course.change("data.sha256", self._data.sha256)
        self.checked = CheckedData(BatchSource(self._data.train, course.config), self._data.held_out,
                                   self._data.held_out_rows)
        if new:
            self.check_data(course.config)
        # what the hub calls its newest is another model one day
        if course.config.model.revision is None and (commit := commit_of(course.config.model)):
            course.change("model.revision", commit)
        if self._dtype != course.config.model.dtype:  # it is the run's from now on, wherever it is resumed
            course.change("model.dtype", self._dtype)
        self._lap("data", None)

    def choose_threads(self) -> None:
        """Those that the run had, else what its model is worth."""
        assert self.policy is not None
        progress = self._course.progress
        progress.threads = use_threads_of(self.policy, self._course.config, progress.threads)
        self._lap("trial of threads", None)

    def make_method(self) -> Algorithm:
        """The method with its rewards, at its beginning. Raises ConfigError."""
        assert self.policy is not None
        assert self.checked is not None
        course = self._course
        self.resources = Resources.of(self.policy, course.config, self._journal.notice, self._data)
        for path, (_, new) in changed_settings(course.config, pinned_judges(course.config)).items():
            course.change(path, new)  # a classifier of the hub is known once it is loaded
        self.resources.use_rows_of(self.checked)
        return make_algorithm(course.config, self.resources)

    def finish(self, algorithm: Algorithm, peak: float, seconds: float) -> None:
        """The method stands where the run does, and all is told. peak: operations per second that this machine can do;
        seconds: that loading took."""
        assert self.policy is not None
        self.algorithm = algorithm
        self._journal.emit(
            ModelLoaded(
                name=self._course.config.model.name,
                parameters=self.policy.parameter_count,
                trainable=self.policy.trainable_count,
                device=str(self.policy.device),
                dtype=str(self.policy.dtype).removeprefix("torch."),
                threads=self._course.progress.threads,
                matmul_peak=peak,
                seconds=seconds,
            )
        )

    def check_data(self, config: RunConfig) -> None:
        """Draw from the rows that the model can take. Raises ConfigError where the others are refused."""
        assert self.policy is not None
        assert self._data is not None
        self.checked = check_data(self.policy, self._data, config)
        if self.resources:
            self.resources.use_rows_of(self.checked)
        for text in self.checked.notices:
            self._journal.notice(text)

    def reconfigure(self, config: RunConfig, algorithm: Algorithm) -> None:
        """Let rewards and method work under `config` from now on. Raises ConfigError."""
        assert self.resources is not None
        self.resources.use_rewards_of(config)
        algorithm.reconfigure(config)
