"""The loop: prompts into steps, steps into events and files, until done, stopped or broken.

Everything that others ask (pause, edits, checkpoints, generations) happens at step boundaries, in this thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress

import torch

from rlhf_engine import checkpoint
from rlhf_engine.algorithms.ppo import PPO, StepResult, load_adapters
from rlhf_engine.checkpoint import TrainingState
from rlhf_engine.config import RunConfig
from rlhf_engine.control import Edit, TrainerControl
from rlhf_engine.errors import CheckpointError, ConfigError, NonFiniteError, RlhfError, RunError
from rlhf_engine.events import (
    CheckpointSaved,
    EditApplied,
    EditRefused,
    Event,
    ModelLoaded,
    Notice,
    RunStarted,
    RunState,
    StateChanged,
    StepFinished,
    StepProgress,
)
from rlhf_engine.fields import replace, setting_at, value_at
from rlhf_engine.flops import matmul_peak
from rlhf_engine.policy import Policy
from rlhf_engine.profiling import StepProfiler
from rlhf_engine.prompt_order import prompts_for_step
from rlhf_engine.run_dir import RunDir
from rlhf_engine.serving import serve_request
from rlhf_engine.threads import use_threads

Emit = Callable[[Event], None]

_TRUNCATION_WARNING = (
    "sampling.allow_truncation is on: with top_k or top_p, ratio and KL are not those of the distribution sampled from"
)


class Trainer:
    """One run. `run` does it all; `control` steers it from other threads; `emit` receives what happens."""

    def __init__(
        self,
        config: RunConfig,
        *,
        run_dir: RunDir | None,
        control: TrainerControl,
        emit: Emit,
        resume_from: TrainingState | None = None,
        profile: bool = False,
    ) -> None:
        """Nothing is loaded before `run`. Without a run directory nothing is written (benchmarks, tests).

        profile: emit a `Profiled` after the second step.
        """
        self.config = config
        self.control = control
        self.step = resume_from.step if resume_from else 0
        self._run_dir, self._emit_event = run_dir, emit
        self._resume_from = resume_from
        self._profiler = StepProfiler() if profile else None
        self._seconds_before = float(resume_from.numbers["seconds"]) if resume_from else 0.0
        self._started = time.perf_counter()
        self._edit_count = int(resume_from.numbers["edits"]) if resume_from else 0
        self._saved_at = (self.step, self._edit_count) if resume_from else None
        self._state = RunState.LOADING
        self._holds_lock = False
        self._threads, self._matmul_peak = 0, math.inf
        self.policy: Policy | None = None
        self.ppo: PPO | None = None

    @classmethod
    def resume(cls, run_dir: RunDir, *, control: TrainerControl, emit: Emit) -> Trainer:
        """A trainer that goes on from the newest checkpoint of `run_dir` that verifies. Raises CheckpointError."""
        state, notices = checkpoint.load_newest(run_dir)
        for text in notices:
            emit(Notice(text, "warning"))
        return cls(state.config, run_dir=run_dir, control=control, emit=emit, resume_from=state)

    def run(self) -> RunState:
        """Train to the end. Returns how it ended; raises RlhfError for what the user can mend, after telling so."""
        with ExitStack() as held:
            try:
                if self._run_dir:
                    held.enter_context(self._run_dir.lock())
                    self._holds_lock = True
                return self._run()
            except RlhfError as error:
                self._enter(RunState.FAILED, str(error))
                raise
            except NonFiniteError as error:
                self._enter(RunState.DIVERGED, f"step {self.step + 1} diverged: {error}; {self._fall_back()}")
                return RunState.DIVERGED
            except Exception as error:
                self._enter(RunState.FAILED, f"a bug in rlhf-tui: {type(error).__name__}: {error}")
                raise

    # --- the loop ---

    def _run(self) -> RunState:
        self._announce()
        ppo = self._load()
        if self._run_dir and not self._resume_from:
            self._save()
        self._enter(RunState.TRAINING)
        while True:
            self._serve_boundary()
            if self.control.stopping or self.step >= self.config.train.steps:
                break
            started = time.perf_counter()
            with self._profiler.watch(self.step + 1) if self._profiler else nullcontext():
                result = ppo.step(self.step + 1, self._prompts(), self._progress)
            self.step += 1
            share = result.operations / (time.perf_counter() - started) / self._matmul_peak
            result.metrics["throughput/matmul_share"] = share
            self._record(result)
            if self._profiler and (profiled := self._profiler.result):
                self._emit_event(profiled)
                self._profiler = None
            if self.step % self.config.train.checkpoint_every == 0:
                self._save()
        self._save()
        done = self.step >= self.config.train.steps
        state = RunState.FINISHED if done else RunState.STOPPED
        self._enter(state, f"{'finished' if done else 'stopped'} after step {self.step}")
        return state

    def _announce(self) -> None:
        if self._run_dir:
            if self._resume_from:
                for text in self._run_dir.truncate_after(self.step, self._edit_count):
                    self._emit_event(Notice(text, "warning"))
            self._emit_event(RunStarted(self._run_dir.name, str(self._run_dir.path), self.config, self.step))
        if self.config.sampling.allow_truncation:
            self._emit_event(Notice(_TRUNCATION_WARNING, "warning"))
        self._enter(RunState.LOADING)

    def _load(self) -> PPO:
        started = time.perf_counter()
        torch.manual_seed(self.config.train.seed)
        self.policy = Policy.from_config(self.config)
        known = self._resume_from.numbers.get("threads") if self._resume_from else None
        self._threads = use_threads(self.policy, self.config, known)
        self.ppo = PPO(self.policy, self.config)
        if self._resume_from:
            self.ppo.load_state(self._resume_from.tensors, self._resume_from.numbers)
        self._matmul_peak = matmul_peak(self.policy.dtype, self.policy.device)
        self._emit_event(
            ModelLoaded(
                name=self.config.model.name,
                parameters=self.policy.parameter_count,
                trainable=self.policy.trainable_count,
                device=str(self.policy.device),
                dtype=str(self.policy.dtype).removeprefix("torch."),
                threads=self._threads,
                matmul_peak=self._matmul_peak,
                seconds=time.perf_counter() - started,
            )
        )
        self._started = time.perf_counter()
        return self.ppo

    def _prompts(self) -> list[str]:
        return prompts_for_step(
            self.config.prompts, self.step, self.config.ppo.responses_per_step, self.config.train.seed
        )

    def _record(self, result: StepResult) -> None:
        if self._run_dir:
            self._run_dir.append_metrics(self.step, self._seconds, result.metrics)
            self._run_dir.append_samples(result.samples)
            self._write_status()
        self._emit_event(
            StepFinished(self.step, self.config.train.steps, result.metrics, result.samples, self._seconds)
        )

    # --- step boundaries ---

    def _serve_boundary(self) -> None:
        """Do what was asked since the last step; stay here while paused."""
        while True:
            self._serve_requests()
            if self.control.take_checkpoint_request():
                self._save(asked=True)
            if not self.control.paused or self.control.stopping:
                break
            self._enter(RunState.PAUSED)
            self.control.wait_for_change(timeout=1.0)
        self._enter(RunState.STOPPING if self.control.stopping else RunState.TRAINING)

    def _serve_requests(self) -> None:
        while (request := self.control.take_request()) is not None:
            if isinstance(request, Edit):
                self._edit(request)
            elif self.policy:
                serve_request(request, self.policy, self.config, self.step, self.control, self._emit_event)

    def _edit(self, edit: Edit) -> None:
        """Make a live change, recorded so that the run's history explains its curves; or say why not."""
        try:
            if not setting_at(self.config, edit.path).live:
                raise ConfigError(f"{edit.path}: cannot change while training; stop the run first")
            changed = replace(self.config, {edit.path: edit.value})
            if self.ppo:
                self.ppo.reconfigure(changed)
        except ConfigError as error:
            self._emit_event(EditRefused(edit.path, str(error)))
            return
        event = EditApplied(self.step + 1, edit.path, value_at(self.config, edit.path), value_at(changed, edit.path))
        self.config = changed
        if event.old != event.new:
            self._edit_count += 1
            if self._run_dir:
                self._run_dir.append_edit(event)
            self._emit_event(event)

    def _fall_back(self) -> str:
        """Take the weights of the newest checkpoint, and say so."""
        if self._run_dir is None or self.policy is None:
            return "nothing was saved to go back to"
        try:
            state, _ = checkpoint.load_newest(self._run_dir)
        except CheckpointError as error:
            return str(error)
        load_adapters(self.policy, state.tensors)
        return f"the weights are back at the checkpoint of step {state.step}"

    def _save(self, *, asked: bool = False) -> None:
        """A checkpoint, unless the newest one holds all there is; `asked` is answered in any case."""
        now = (self.step, self._edit_count)
        if self._run_dir is None or self.ppo is None:
            return
        if self._saved_at == now:
            if asked:
                newest = checkpoint.candidates(self._run_dir)[0]
                self._emit_event(CheckpointSaved(self.step, str(newest)))
            return
        tensors, numbers = self.ppo.state()
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise NonFiniteError("the weights are not finite, and were not saved")
        numbers |= {"seconds": self._seconds, "edits": self._edit_count, "threads": self._threads}
        state = TrainingState(self.step, tensors, numbers, self.config)
        path = checkpoint.save(self._run_dir, state, keep=self.config.train.keep_checkpoints)
        self._saved_at = now
        self._emit_event(CheckpointSaved(self.step, str(path)))

    # --- telling ---

    @property
    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    def _progress(self, phase: str, fraction: float) -> None:
        self._emit_event(StepProgress(self.step + 1, phase, fraction))

    def _enter(self, state: RunState, message: str = "") -> None:
        if state == self._state and not message and state is not RunState.LOADING:
            return
        self._state = state
        self._emit_event(StateChanged(state, self.step, self.config.train.steps, message))
        # how a run ended must reach the screen even if the disk is full
        with suppress(RunError) if state.ended else nullcontext():
            self._write_status(message)

    def _write_status(self, message: str = "") -> None:
        if self._run_dir and self._holds_lock:
            self._run_dir.write_status(self._state, self.step, self.config.train.steps, message)
