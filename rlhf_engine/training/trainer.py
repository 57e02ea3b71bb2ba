"""The loop: prompts into steps, steps into events and files, until done, stopped or broken.

Everything that others ask (pause, edits, checkpoints, generations) happens at step boundaries, in this thread.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import replace as replaced
from functools import partial

import torch

from rlhf_engine.algorithms.base import Algorithm, EndsItself, Resources, State, StepResult, make_algorithm
from rlhf_engine.config.fields import changed_settings, replace, setting_at, value_at
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.pinning import require_same_data
from rlhf_engine.data.rows import RunData, load_data
from rlhf_engine.data.source import BatchSource, CheckedData, check_data
from rlhf_engine.errors import (
    CheckpointError,
    ConfigError,
    ModelError,
    NonFiniteError,
    RlhfError,
    kind_and_message,
)
from rlhf_engine.evaluation.held_out import HeldOutEvaluator
from rlhf_engine.evaluation.probing import Prober
from rlhf_engine.evaluation.questions import answer_question
from rlhf_engine.events import (
    Alarm,
    EditApplied,
    EditRefused,
    ModelLoaded,
    Notice,
    RolledBack,
    RunStarted,
    RunState,
    StepProgress,
)
from rlhf_engine.model_folders.judge_models import judge_changes, pinned_judges, require_same_judges
from rlhf_engine.models import dtype_trial
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.threads import use_threads_of
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
from rlhf_engine.rewards.function import accept_changes, code_changes, require_same_code
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.base_model import AS_IT_WAS, CHANGED, MOVES, BaseChoice, base_fingerprint, commit_of
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.runs.checkpoint_list import base_at, is_due
from rlhf_engine.runs.reward_versions import drop_versions_after, versions_folder
from rlhf_engine.runs.run_code import require_own_run
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.system.streams import log, logged
from rlhf_engine.training.divergence import check_divergence, restore_last_checkpoint, skipped_updates
from rlhf_engine.training.journal import Emit, Journal
from rlhf_engine.training.profiling import StartProfiler, StepProfiler, Utilization
from rlhf_engine.training.rewards_learning import RewardsLearning
from rlhf_engine.training.saving import RunProgress, Saver
from rlhf_engine.training.sentinel import Sentinel

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
        self.config = config
        self.requests = requests or RequestQueue()
        self.step = 0
        self._run_dir, self._journal = run_dir, Journal(run_dir, emit)
        self._profiler = StepProfiler() if profile else None
        self._start = StartProfiler() if profile else None
        self._resuming = False
        self._base = AS_IT_WAS
        self._accept_code = self._accept_data = False
        self._new = True
        self._progress = RunProgress()
        self._started = time.perf_counter()
        self._saver = Saver(run_dir, self._journal.emit)
        self._prober = Prober(run_dir, self._journal.emit)
        self._sentinel = Sentinel(config.sentinel.window)
        self._paused = self._stop_asked = False
        self._utilization: Utilization | None = None
        self._told_of_peak = False
        self._data: RunData | None = None
        self._checked: CheckedData | None = None
        self._evaluator = HeldOutEvaluator(self._journal.emit)
        self._rewards_learning = RewardsLearning(self._journal.notice, self._tell_progress,
                                                 lambda: self._stop_asked or self.requests.ending)
        self.policy: Policy | None = None
        self.algorithm: Algorithm | None = None
        self._resources: Resources | None = None

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
        config = base.placed(checkpoint.newest_config(run_dir))
        base.check(run_dir.name, base_at(run_dir, None), base_fingerprint(config.model), config.model)
        require_own_run(run_dir, config)
        if accept_code:
            accept_changes(config)
        else:
            require_same_code(config)
        if not accept_data:
            require_same_data(config)
            require_same_judges(config)
        trainer = cls(config, run_dir=run_dir, emit=emit, requests=requests)
        trainer._resuming, trainer._base, trainer._new = True, base, new
        trainer._accept_code, trainer._accept_data = accept_code, accept_data
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
                self._enter(RunState.DIVERGED, f"diverged at step {self.step}: {error}; {fallen}")
                return RunState.DIVERGED
            except RlhfError as error:
                why = str(error)
                if self._discarded():
                    why = why.rstrip(".") + "; no run was kept, for it had not begun"
                self._enter(RunState.FAILED, why)
                raise
            except Exception as error:
                log(traceback.format_exc())
                self._enter(RunState.FAILED, f"a bug in rlhf-tui: {kind_and_message(error)}")
                raise

    def _discarded(self) -> bool:
        """True, and the run is gone from the disk, if it is a new one whose model could not be loaded."""
        if self._run_dir and self._journal.holds_lock and self._new and self.algorithm is None:
            # there is no status to write into any more
            self._journal.holds_lock = not self._run_dir.discard_if_bare(copied=self._resuming)
            return not self._journal.holds_lock
        return False

    # --- the loop ---

    def _run(self) -> RunState:
        resumed = self._load_checkpoint() if self._resuming else None
        self._announce()
        if self._resuming:
            if not self._accept_code:  # once more: it may have changed since, and newer checkpoints may have come
                require_same_code(self.config)
            if not self._accept_data:
                require_same_judges(self.config)
            changes = {change.path: change.new for change in code_changes(self.config)}
            changes |= {change.path: change.new for change in judge_changes(self.config)}
            for path, new in changes.items():
                self._change(replace(self.config, {path: new}), path)
            for path, (_, new) in changed_settings(self.config, self._base.placed(self.config)).items():
                self._change(replace(self.config, {path: new}), path)
        algorithm = self._load(resumed)
        del resumed  # as large as the adapters and both optimisers
        if self._resuming:
            self._serve_requests()  # changes that came with the resume may be what makes the prompts fit
            self._check_data(self.config)
        self._probe()
        if not self._resuming:
            self._save()
        self._lap("probe and first checkpoint")
        self._enter(RunState.TRAINING)
        while True:
            try:
                self._serve_boundary()
                why_done = algorithm.why_done() if isinstance(algorithm, EndsItself) else ""
                if self._stopping or why_done or self.step >= self.config.train.steps:
                    self._save()
                    break
                self._learn_on(algorithm)
                self._take_step(algorithm)
            except NonFiniteError as error:
                self._roll_back(algorithm, error)
        done = bool(why_done) or self.step >= self.config.train.steps
        state = RunState.FINISHED if done else RunState.STOPPED
        how = "stopped while paused" if self._paused else "stopped"
        early = f": {why_done}" if why_done else ""
        self._enter(state, f"finished ({self.step}/{self.config.train.steps}){early}" if done
                    else f"{how} after step {self.step}")
        return state

    def _load_checkpoint(self, algorithm: Algorithm | None = None) -> TrainingState:
        """The newest checkpoint (that fits `algorithm`), with this trainer and the run's files where it stood."""
        assert self._run_dir is not None

        def fits(state: TrainingState) -> None:
            if algorithm:
                algorithm.require_fit(State(state.tensors, state.numbers))

        state, notices = checkpoint.load_newest(self._run_dir, fits)
        damaged = checkpoint.candidates(self._run_dir)[:len(notices)]
        threads = self._progress.threads
        self.config, self.step, self._progress = state.config, state.step, RunProgress.of(state)
        self._progress.threads = threads or self._progress.threads  # of this process, once they are chosen
        for text in [*checkpoint.in_few(notices), *self._run_dir.truncate_after(self.step, self._progress.edits)]:
            self._journal.notice(text)
        drop_versions_after(self._run_dir, self.step, self.config)
        self._sentinel = Sentinel(self.config.sentinel.window)
        self._saver.restore(self.step, self._progress, self._watched_again(self._run_dir), damaged)
        self._prober = Prober(self._run_dir, self._journal.emit)  # of what is left of the run
        return state

    def _watched_again(self, run_dir: RunDir) -> Iterator[Mapping[str, float]]:
        """The metrics of all steps so far, past the sentinel, which said at its time what it had to say."""
        for line in run_dir.each_step():
            self._sentinel.watch(line.step, line.metrics, self.config)
            yield line.metrics

    def _announce(self) -> None:
        if self._run_dir:
            self._journal.emit(RunStarted(self._run_dir.name, str(self._run_dir.path), self.config, self.step))
        if self.config.sampling.allow_truncation:
            self._journal.notice(_TRUNCATION_WARNING)
        self._journal.advise(self.config)
        self._enter(RunState.LOADING)

    def _load(self, resumed: TrainingState | None) -> Algorithm:
        started = time.perf_counter()
        self._lap("files of the run")
        config = self._with_dtype()
        self._lap("trial of number formats")
        torch.manual_seed(config.train.seed)
        self.policy = Policy.from_config(config)
        self._lap("the model's check", self.policy.check_seconds)
        self._lap("torch.compile", self.policy.compile_seconds)
        self._lap("the model")
        if resumed:  # once more: only loading a hub model tells what the hub has by now
            self._require_same_base(resumed)
        for text in self.policy.notices:
            self._journal.notice(text)
        self._data = self._load_data()
        self._checked = CheckedData(BatchSource(self._data.train, self.config), self._data.held_out,
                                    self._data.held_out_rows)
        if not self._resuming:
            self._check_data(self.config)
        # what the hub calls its newest is another model one day
        if self.config.model.revision is None and (commit := commit_of(self.config.model)):
            self._change(replace(self.config, {"model.revision": commit}), "model.revision")
        if config.model.dtype != self.config.model.dtype:  # it is the run's from now on, wherever it is resumed
            self._change(replace(self.config, {"model.dtype": config.model.dtype}), "model.dtype")
        self._lap("data")
        self._progress.threads = use_threads_of(self.policy, self.config, self._progress.threads)
        self._lap("trial of threads")
        self._utilization = Utilization(self.policy)
        self._lap("matmul peak")
        self._resources = Resources.of(self.policy, self.config, self._journal.notice, self._data)
        for path, (_, new) in changed_settings(self.config, pinned_judges(self.config)).items():
            self._change(replace(self.config, {path: new}), path)  # a classifier of the hub is known once it is loaded
        self._resources.use_rows_of(self._checked)
        algorithm = make_algorithm(self.config, self._resources)
        if resumed:
            wanted = self.config
            try:
                algorithm.require_fit(State(resumed.tensors, resumed.numbers))
            except CheckpointError:  # only the model could tell that the newest one is of another
                resumed = self._load_checkpoint(algorithm)
                self._require_same_base(resumed)
                self._journal.emit(RolledBack(self.step, f"back at the checkpoint of step {self.step}"))
            self._go_on_from(resumed, algorithm, wanted)
        self.algorithm = algorithm
        self._journal.emit(
            ModelLoaded(
                name=self.config.model.name,
                parameters=self.policy.parameter_count,
                trainable=self.policy.trainable_count,
                device=str(self.policy.device),
                dtype=str(self.policy.dtype).removeprefix("torch."),
                threads=self._progress.threads,
                matmul_peak=self._utilization.peak,
                seconds=time.perf_counter() - started,
            )
        )
        self._started = time.perf_counter()
        self._lap("rewards and method")
        return algorithm

    def _with_dtype(self) -> RunConfig:
        """The config with the number format in which this machine computes the model faster, if that is left to us.

        A run keeps the one that it began with: one that was begun on a CPU with dtype auto, and is resumed, computes in
        float32. Raises ModelError.
        """
        if self._resuming or not dtype_trial.asks(self.config):
            return self.config
        found = dtype_trial.found_faster(self.config)
        if found.why:
            self._journal.emit(Notice(found.why))
        return replace(self.config, {"model.dtype": found.dtype}) if found.dtype != dtype_trial.FLOAT32 else self.config

    def _load_data(self) -> RunData:
        """The rows to learn from. Raises ConfigError, and DataChangedError unless a person has accepted a change."""
        loaded, known = load_data(self.config), self.config.data.sha256
        if loaded.sha256 != known and (known or self._resuming):
            if not self._accept_data:
                require_same_data(self.config, loaded.sha256)
            self._change(replace(self.config, {"data.sha256": loaded.sha256}), "data.sha256")
        return loaded

    def _check_data(self, config: RunConfig) -> None:
        """Draw from the rows that the model can take. Raises ConfigError where the others are refused."""
        assert self.policy is not None
        assert self._data is not None
        self._checked = check_data(self.policy, self._data, config)
        if self._resources:
            self._resources.use_rows_of(self._checked)
        for text in self._checked.notices:
            self._journal.notice(text)

    def _take_step(self, algorithm: Algorithm) -> None:
        """One step, recorded, and saved when it is time. Raises NonFiniteError when the run has diverged."""
        started = time.perf_counter()
        try:
            with self._profiler.watch(self.step + 1) if self._profiler else nullcontext():
                assert self._checked is not None
                batch = self._checked.source.batch(self.step)
                result = algorithm.step(self.step + 1, batch, self._tell_progress)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise ModelError("out of memory: lower train.micro_batch_size, lora.rank, or how much one step of "
                             "[algorithm] takes") from error
        self.step += 1
        self._lap("the first step")
        if self._start:
            self._journal.emit(self._start.result())
            self._start = None
        self._progress.nonfinite_steps = self._progress.nonfinite_steps + 1 if result.nonfinite else 0
        if result.operations and self._utilization:
            share, raised = self._utilization.share(result.operations, time.perf_counter() - started)
            result.metrics["throughput/matmul_share"] = share
            if raised and not self._told_of_peak:
                self._told_of_peak = True
                self._journal.emit(Notice(
                    f"matmul peak is {self._utilization.peak / 1e9:,.0f} GFLOP/s at least, more than was measured at "
                    "the start: the MFU of the steps before is too high"))
        if not result.nonfinite:
            result.metrics.update(self._evaluate(result.metrics))
        self._journal.step(self.step, self._seconds, result, self.config)
        self._saver.record_metrics(result.metrics)
        for alarm in self._sentinel.watch(self.step, result.metrics, self.config):
            self._journal.alarm(alarm)
        if self._profiler and self._profiler.result:
            self._journal.emit(self._profiler.result)
            self._profiler = None
        if result.nonfinite:
            self._check_divergence(result, algorithm)
        # before the checkpoint: a resume from it will not look back
        self._probe()
        train = self.config.train
        if not result.nonfinite and is_due(self.step, train.checkpoint_every, train.checkpoint_budget_mb):
            self._save()

    def _learn_on(self, algorithm: Algorithm) -> None:
        """Let rewards that learn do so, and go on with what they have become, made from its settings as a resumed run
        makes it."""
        if self._run_dir is None or self._resources is None or self._resources.rewards is None:
            return
        folder = versions_folder(self._run_dir)
        for index, learnt in self._rewards_learning.look(self._resources.rewards, folder, self.step + 1):
            changes = {f"rewards.{index}.{name}": value for name, value in learnt.settings.items()}
            changed = replace(self.config, changes)
            self._reconfigure(changed, algorithm)
            self._change(changed, next(iter(changes)))
            self._journal.emit(Notice(learnt.text, learnt.level))

    # --- divergence ---

    def _check_divergence(self, result: StepResult, algorithm: Algorithm) -> None:
        """Say what was skipped; too many such steps in a row, or broken weights, are a divergence."""
        in_a_row, limit = self._progress.nonfinite_steps, self.config.train.max_nonfinite_steps
        self._journal.alarm(Alarm(self.step, "non-finite", f"{skipped_updates(result)} ({in_a_row} in a row of at most "
                                                         f"{limit} steps)"))
        check_divergence(result, algorithm.state().tensors, in_a_row=in_a_row, limit=limit)

    def _roll_back(self, algorithm: Algorithm, error: NonFiniteError) -> None:
        """Go on from the newest checkpoint with lower learning rates, if the run may; else raises `error`."""
        train, wanted, diverged_at = self.config.train, self.config, self.step
        seconds, rollbacks = self._seconds, self._progress.rollbacks
        if self._run_dir is None or rollbacks >= train.max_rollbacks:
            raise error
        state = self._load_checkpoint(algorithm)
        self._progress.rollbacks, self._progress.seconds, self._started = rollbacks + 1, seconds, time.perf_counter()
        text = (f"diverged at step {diverged_at}: {error}; back at the checkpoint of step {self.step} with learning "
                f"rates times {train.rollback_factor:g} (roll-back {rollbacks + 1} of {train.max_rollbacks})")
        self._journal.emit(RolledBack(self.step, text))
        self._journal.alarm(Alarm(self.step, "rolled-back", text))
        self._go_on_from(state, algorithm, wanted)
        rates = {path: value_at(wanted, path) * train.rollback_factor for path in wanted.algorithm.learning_rates}
        # live changes since that checkpoint are the user's will: they hold, from this step on
        changed = changed_settings(self.config, wanted)  # what a reward model has learnt since is none
        edits = {path: new for path, (_, new) in changed.items() if setting_at(self.config, path).live} | rates
        for path, value in edits.items():
            self._edit(Edit(path, value))
        self._save()  # or a crash would forget that this way led nowhere

    def _go_on_from(self, state: TrainingState, algorithm: Algorithm, wanted: RunConfig) -> None:
        """Let `algorithm` stand where this trainer does after it loaded `state`, with code and base of `wanted`."""
        for path, (_, new) in changed_settings(self.config, wanted).items():
            # of code that was accepted since, whose file of before is no more; or of a base that has moved
            if path.endswith(".sha256") or path in MOVES:
                self._change(replace(self.config, {path: new}), path)
        self._reconfigure(self.config, algorithm)
        algorithm.load_state(State(state.tensors, state.numbers))
        self._note_base(state)

    def _reconfigure(self, config: RunConfig, algorithm: Algorithm) -> None:
        """Let rewards and method work under `config` from now on."""
        assert self._resources is not None
        self._resources.use_rewards_of(config)
        algorithm.reconfigure(config)

    def _probe(self) -> None:
        """Answer the probe's prompt if it is time to, and the method answers prompts at all."""
        prompt = self.config.probe.prompt
        if prompt is None and self._checked:
            prompt = next(iter(self._checked.source.rows.askable), None)
        if self._resources and prompt is not None and self.config.algorithm.needs.answers:
            self._prober.look(self.step, self._resources, self.config, prompt)

    def _evaluate(self, known: Mapping[str, float]) -> dict[str, float]:
        """The metrics of what is held out, if it is time: of answers to the prompts, where the method answers any, and
        what else it measures on the rows. known: the metrics of the step."""
        if not (self._resources and self._checked):
            return {}
        return self._evaluator.look(self.step, self._checked.held_out, self._resources, self.config, self.algorithm,
                                    known)

    # --- step boundaries ---

    def _serve_boundary(self) -> None:
        """Do what was asked since the last step; stay here while paused."""
        self._serve_requests()
        while self._paused and not self._stopping:
            self._enter(RunState.PAUSED)
            self.requests.wait(timeout=1.0)
            self._serve_requests()
        self._enter(RunState.STOPPING if self._stopping else RunState.TRAINING)

    @property
    def _stopping(self) -> bool:
        return self._stop_asked or self.requests.closed

    def _serve_requests(self) -> None:
        while (request := self.requests.take()) is not None:
            match request:
                case Pause() | Unpause():
                    self._paused = isinstance(request, Pause)
                case Stop():
                    self._stop_asked = True
                case SaveCheckpoint():
                    self._save(asked=True)
                case Edit():
                    self._edit(request)
                case Generate() | Compare() | CompareMethods() | SamplePairs():
                    numbers = self.algorithm.state().numbers if self.algorithm else {}
                    answer_question(request, self.policy, self.config, self.step, self._journal.emit, numbers=numbers,
                                    cancelled=partial(self.requests.cancelled, request))

    def _edit(self, edit: Edit) -> None:
        """Make a live change, recorded so that the run's history explains its curves; or say why not."""
        try:
            setting = setting_at(self.config, edit.path)
            if not setting.live:
                raise ConfigError(f"{edit.path}: cannot change while training; stop the run first")
            changed = replace(self.config, {edit.path: edit.value})
            if changed.sampling.long_prompts != self.config.sampling.long_prompts:
                self._check_data(changed)
            if self.algorithm:
                self._reconfigure(changed, self.algorithm)
        except ConfigError as error:
            self._journal.emit(EditRefused(edit.path, str(error)))
            return
        self._change(changed, setting.path)
        self._journal.advise(self.config)

    def _change(self, changed: RunConfig, path: str) -> None:
        """Take a config that differs at `path`, and record that."""
        event = EditApplied(self.step + 1, path, value_at(self.config, path), value_at(changed, path))
        self.config = changed
        if event.old != event.new:
            self._note(event)

    def _require_same_base(self, state: TrainingState) -> None:
        if self._run_dir and self.policy:
            self._base.check(self._run_dir.name, state.base, self.policy.fingerprint, self.config.model)

    def _note_base(self, state: TrainingState) -> None:
        """Record that the run goes on with another base than that of its checkpoint, as a person has said."""
        now = self.policy.fingerprint if self.policy else None
        if state.base and now and state.base != now:
            self._note(EditApplied(self.step + 1, CHANGED, state.base.hex, now.hex))

    def _note(self, event: EditApplied) -> None:
        self._progress.edits += 1
        self._journal.edit(event)

    def _save(self, *, asked: bool = False) -> None:
        progress = replaced(self._progress, seconds=self._seconds)
        self._saver.save(self.step, progress, self.algorithm, self.policy, self.config, asked=asked)

    # --- telling ---

    def _lap(self, part: str, seconds: float | None = None) -> None:
        if self._start:
            self._start.lap(part, seconds)

    @property
    def _seconds(self) -> float:
        return self._progress.seconds + time.perf_counter() - self._started

    def _tell_progress(self, phase: str, fraction: float) -> None:
        self._journal.emit(StepProgress(self.step + 1, phase, fraction))

    def _enter(self, state: RunState, message: str = "") -> None:
        self._journal.enter(state, self.step, self.config.train.steps, message)
