"""The loop: batches into steps, steps into events and files, until done, stopped or broken.

What it is made of: where the run stands (`course`), what it learns with (`setup`), what others ask between two steps
(`control`), what looks at each step (`watching`), its checkpoints (`saving`) and the way back to them (`way_back`).
"""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack, nullcontext
from dataclasses import replace as replaced

from rlhf_engine.algorithms.base import Algorithm, EndsItself, State, StepResult
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError, ModelError, NonFiniteError, RlhfError, kind_and_message
from rlhf_engine.events import Alarm, RolledBack, RunStarted, RunState
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import RequestQueue
from rlhf_engine.runs.base_model import AS_IT_WAS, BaseChoice
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.runs.checkpoint_list import is_due
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.system.streams import log, logged
from rlhf_engine.training.control import Control
from rlhf_engine.training.course import Course
from rlhf_engine.training.divergence import check_divergence, restore_last_checkpoint, skipped_updates
from rlhf_engine.training.going_on import GoingOn
from rlhf_engine.training.journal import Emit, Journal
from rlhf_engine.training.profiling import StartProfiler, StepProfiler
from rlhf_engine.training.rewards_learning import RewardsLearning
from rlhf_engine.training.saving import Saver
from rlhf_engine.training.setup import Setup
from rlhf_engine.training.watching import Watch
from rlhf_engine.training.way_back import WayBack

_TRUNCATION_WARNING = (
    "sampling.allow_truncation is on: with top_k or top_p, ratio and KL are not those of the distribution sampled from"
)


class Trainer:
    """One run. `run` does it all; `requests` brings what other threads ask; `emit` receives what happens."""

    def __init__(
        self,
        config: RunConfig,
        *,
        run_dir: RunDir | None,
        emit: Emit,
        requests: RequestQueue | None = None,
        profile: bool = False,
    ) -> None:
        """Nothing is loaded before `run`. Without a run directory nothing is written (benchmarks, tests).

        requests: of a session; by default of this trainer alone.
        profile: emit a `StartProfiled` after the first step and a `Profiled` after the second.
        """
        self.requests = requests or RequestQueue()
        self._run_dir, self._journal = run_dir, Journal(run_dir, emit)
        self._profiler = StepProfiler() if profile else None
        self._start = StartProfiler() if profile else None
        self._going_on: GoingOn | None = None
        self._new = True
        self._course = Course(config, self._journal)
        self._setup = Setup(self._course, self._journal, self._lap)
        self._control = Control(self.requests, self._course, self._setup, self._journal, self._save)
        self._watch = Watch(run_dir, self._course, self._setup, self._journal)
        self._saver = Saver(run_dir, self._journal.emit)
        self._back = WayBack(run_dir, self._course, self._setup, self._watch, self._saver, self._journal
                             ) if run_dir else None
        self._rewards_learning = RewardsLearning(run_dir, self._course, self._setup, self._journal,
                                                 lambda: self._control.ending) if run_dir else None

    @property
    def config(self) -> RunConfig:
        """The settings, as they were changed so far."""
        return self._course.config

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self._course.step

    @property
    def policy(self) -> Policy | None:
        """The model, once it is loaded."""
        return self._setup.policy

    @property
    def algorithm(self) -> Algorithm | None:
        """The method, once it stands where the run does."""
        return self._setup.algorithm

    @classmethod
    def resume(
        cls, run_dir: RunDir, *, emit: Emit, requests: RequestQueue | None = None, accept_code: bool = False,
        accept_data: bool = False, base: BaseChoice = AS_IT_WAS, new: bool = False,
    ) -> Trainer:
        """A trainer that goes on from the newest checkpoint of `run_dir` that verifies. Raises CheckpointError.

        The checkpoint is read by `run`, which holds the run's lock: until then another process may save newer ones.
        accept_code: go on with files of reward functions that have changed since, and trust them from now on; else
        they raise CodeChangedError. Code that this user has not agreed to run raises UntrustedCodeError, and that of
        another user's run ForeignCodeError.
        accept_data: go on with data that has changed since; else it raises DataChangedError.
        base: what a person says about the base model; else another one than before raises BaseChangedError.
        new: it is a fork that was made just now, and is gone again if its model does not load.
        """
        going_on = GoingOn(accept_code, accept_data, base)
        trainer = cls(going_on.agreed(run_dir), run_dir=run_dir, emit=emit, requests=requests)
        trainer._going_on, trainer._new = going_on, new
        return trainer

    def run(self) -> RunState:
        """Train to the end. Returns how it ended; raises RlhfError for what the user can mend, after telling so."""
        with ExitStack() as held:
            try:
                if self._run_dir:
                    held.enter_context(self._run_dir.lock())
                    self._journal.holds_lock = True
                    held.enter_context(logged(self._run_dir.open_output))
                return self._run()
            except NonFiniteError as error:
                fallen = restore_last_checkpoint(self._run_dir, self.policy)
                self._course.enter(RunState.DIVERGED, f"diverged at step {self.step}: {error}; {fallen}")
                return RunState.DIVERGED
            except RlhfError as error:
                why = str(error)
                if self._discarded():
                    why = why.rstrip(".") + "; no run was kept, for it had not begun"
                self._course.enter(RunState.FAILED, why)
                raise
            except Exception as error:
                log(traceback.format_exc())
                self._course.enter(RunState.FAILED, f"a bug in rlhf-tui: {kind_and_message(error)}")
                raise

    def _discarded(self) -> bool:
        """True, and the run is gone from the disk, if it is a new one whose model could not be loaded."""
        if self._run_dir and self._journal.holds_lock and self._new and self.algorithm is None:
            # there is no status to write into any more
            self._journal.holds_lock = not self._run_dir.discard_if_bare(copied=self._going_on is not None)
            return not self._journal.holds_lock
        return False

    # --- the loop ---

    def _run(self) -> RunState:
        algorithm = self._begin()
        self._course.enter(RunState.TRAINING)
        while True:
            try:
                self._control.serve_boundary()
                why_done = algorithm.why_done() if isinstance(algorithm, EndsItself) else ""
                done = bool(why_done) or self.step >= self.config.train.steps
                if self._control.stopping or done:
                    self._save()
                    break
                if self._rewards_learning:
                    self._rewards_learning.look(algorithm)
                self._take_step(algorithm)
            except NonFiniteError as error:
                self._roll_back(algorithm, error)
        state = RunState.FINISHED if done else RunState.STOPPED
        how = "stopped while paused" if self._control.paused else "stopped"
        early = f": {why_done}" if why_done else ""
        self._course.enter(state, f"finished ({self.step}/{self.config.train.steps}){early}" if done
                           else f"{how} after step {self.step}")
        return state

    def _take_step(self, algorithm: Algorithm) -> None:
        """One step, recorded, and saved when it is time. Raises NonFiniteError when the run has diverged."""
        started = time.perf_counter()
        try:
            with self._profiler.watch(self.step + 1) if self._profiler else nullcontext():
                assert self._setup.checked is not None
                batch = self._setup.checked.source.batch(self.step)
                result = algorithm.step(self.step + 1, batch, self._course.tell_progress)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise ModelError("out of memory: lower train.micro_batch_size, lora.rank, or how much one step of "
                             "[algorithm] takes") from error
        course = self._course
        course.step += 1
        self._lap("the first step")
        if self._start:
            self._journal.emit(self._start.result())
            self._start = None
        course.progress.nonfinite_steps = course.progress.nonfinite_steps + 1 if result.nonfinite else 0
        self._watch.add_share(result, time.perf_counter() - started)
        if not result.nonfinite:
            self._watch.evaluate(result)
        self._journal.step(course.step, course.seconds, result, course.config)
        self._saver.record_metrics(result.metrics)
        self._watch.look_for_alarms(result)
        if self._profiler and self._profiler.result:
            self._journal.emit(self._profiler.result)
            self._profiler = None
        if result.nonfinite:
            self._check_divergence(result, algorithm)
        # before the checkpoint: a resume from it will not look back
        self._watch.probe()
        train = course.config.train
        if not result.nonfinite and is_due(course.step, train.checkpoint_every, train.checkpoint_budget_mb):
            self._save()

    def _check_divergence(self, result: StepResult, algorithm: Algorithm) -> None:
        """Say what was skipped; too many such steps in a row, or broken weights, are a divergence."""
        in_a_row, limit = self._course.progress.nonfinite_steps, self.config.train.max_nonfinite_steps
        self._journal.alarm(Alarm(self.step, "non-finite", f"{skipped_updates(result)} ({in_a_row} in a row of at most "
                                                         f"{limit} steps)"))
        check_divergence(result, algorithm.state().tensors, in_a_row=in_a_row, limit=limit)

    def _roll_back(self, algorithm: Algorithm, error: NonFiniteError) -> None:
        if self._back is None:
            raise error
        self._back.roll_back(algorithm, error, self._control.edit)
        self._save()  # or a crash would forget that this way led nowhere

    def _save(self, *, asked: bool = False) -> None:
        course = self._course
        progress = replaced(course.progress, seconds=course.seconds)
        self._saver.save(course.step, progress, self.algorithm, self.policy, course.config, asked=asked)

    # --- the beginning ---

    def _begin(self) -> Algorithm:
        """Load all, and stand where the run does. Raises RlhfError."""
        resumed = self._back.to_newest() if self._going_on and self._back else None
        self._announce()
        if self._going_on:
            for path, new in self._going_on.changes(self.config).items():
                self._course.change(path, new)
        algorithm = self._load(resumed)
        del resumed  # as large as the adapters and both optimisers
        if self._going_on:
            self._control.serve()  # changes that came with the resume may be what makes the prompts fit
            self._setup.check_data(self.config)
        self._watch.probe()
        if not self._going_on:
            self._save()
        self._lap("probe and first checkpoint")
        return algorithm

    def _announce(self) -> None:
        if self._run_dir:
            self._journal.emit(RunStarted(self._run_dir.name, str(self._run_dir.path), self.config, self.step))
        if self.config.sampling.allow_truncation:
            self._journal.notice(_TRUNCATION_WARNING)
        self._journal.advise(self.config)
        self._course.enter(RunState.LOADING)

    def _load(self, resumed: TrainingState | None) -> Algorithm:
        started, setup, course, going_on = time.perf_counter(), self._setup, self._course, self._going_on
        policy = setup.load_model(new=going_on is None)
        if resumed:  # once more: only loading a hub model tells what the hub has by now
            self._require_same_base(resumed, policy)
        for text in policy.notices:
            self._journal.notice(text)
        setup.load_data(new=going_on is None, accept_changes=going_on is not None and going_on.accept_data)
        setup.choose_threads()
        peak = self._watch.measure_peak(policy)
        self._lap("matmul peak")
        algorithm = setup.make_method()
        if resumed and self._back:
            wanted = course.config
            try:
                algorithm.require_fit(State(resumed.tensors, resumed.numbers))
            except CheckpointError:  # only the model could tell that the newest one is of another
                resumed = self._back.to_newest(algorithm)
                self._require_same_base(resumed, policy)
                self._journal.emit(RolledBack(course.step, f"back at the checkpoint of step {course.step}"))
            self._back.go_on_from(resumed, algorithm, wanted)
        setup.finish(algorithm, peak, time.perf_counter() - started)
        course.start_clock()
        self._lap("rewards and method")
        return algorithm

    def _require_same_base(self, resumed: TrainingState, policy: Policy) -> None:
        if self._run_dir and self._going_on:
            self._going_on.check_base(self._run_dir, resumed.base, policy.fingerprint, self.config)

    def _lap(self, part: str, seconds: float | None = None) -> None:
        if self._start:
            self._start.lap(part, seconds)
