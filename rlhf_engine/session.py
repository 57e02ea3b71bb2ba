"""What one engine thread does for a workbench: runs, one after another, and requests between them.

The workbench makes a `Session`, runs `serve` in a thread, and calls everything else from its own. Nothing here imports
torch before `serve` has work, so that a screen can be drawn first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_engine.config import RunConfig
from rlhf_engine.control import CompareRequest, Edit, GenerateRequest, TrainerControl
from rlhf_engine.errors import RlhfError, RunError
from rlhf_engine.events import Event, RunState, StateChanged

if TYPE_CHECKING:
    from rlhf_engine.policy import Policy
    from rlhf_engine.trainer import Trainer


@dataclass(frozen=True)
class _Start:
    config: RunConfig
    runs_root: Path
    name: str | None
    preset: str


@dataclass(frozen=True)
class _Resume:
    run_path: Path
    accept_code: bool


@dataclass(frozen=True)
class _Fork:
    run_path: Path
    step: int | None
    changes: Mapping[str, Any]
    runs_root: Path
    name: str | None


class Session:
    """One engine thread's work. All methods but `serve` may be called from any thread and return at once."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._lock = threading.Lock()
        self._control = TrainerControl()
        self._job: _Start | _Resume | _Fork | None = None
        self._busy = False
        self._config: RunConfig | None = None
        self._trainer: Trainer | None = None
        self._preview: tuple[RunConfig, Policy] | None = None

    @property
    def busy(self) -> bool:
        """True from `start`, `resume` or `fork` until that run has ended."""
        return self._busy

    def start(self, config: RunConfig, *, runs_root: Path, name: str | None = None, preset: str = "") -> None:
        """Begin a new run. Raises RunError while another one is busy."""
        self._take_job(_Start(config, runs_root, name, preset))

    def resume(self, run_path: Path, *, accept_code: bool = False) -> None:
        """Go on with a run from its newest checkpoint. Raises RunError while another one is busy.

        accept_code: with files of reward functions that have changed since, too.
        """
        self._take_job(_Resume(run_path, accept_code))

    def fork(
        self, run_path: Path, *, step: int | None = None, changes: Mapping[str, Any], runs_root: Path,
        name: str | None = None,
    ) -> None:
        """Begin a new run from a run's checkpoint of `step` (None: the newest), with `changes` (path -> value).

        Raises RunError while another one is busy.
        """
        self._take_job(_Fork(run_path, step, dict(changes), runs_root, name))

    def pause(self) -> None:
        """Hold the run after the current step."""
        self._control.pause()

    def unpause(self) -> None:
        """Go on."""
        self._control.resume()

    def stop(self) -> None:
        """End the run after the current step, with a checkpoint."""
        if self._busy:
            self._control.stop()

    def checkpoint(self) -> None:
        """Save after the current step."""
        self._control.checkpoint()

    def edit(self, path: str, value: object) -> None:
        """Change a live setting from the next step on."""
        if self._busy:
            self._control.edit(path, value)

    def ask(self, request: GenerateRequest | CompareRequest, config: RunConfig) -> None:
        """Generate or compare: between steps of a busy run, else at once (last run's policy, or `config`'s model)."""
        with self._lock:
            self._config = config
            self._control.ask(request)

    def cancel(self, request_id: int) -> None:
        """Give up a request."""
        self._control.cancel(request_id)

    def close(self) -> None:
        """Stop what runs (with a checkpoint) and end `serve`."""
        with self._lock:
            self._control.close()

    # --- the engine thread ---

    def serve(self) -> None:
        """Work until closed; the body of the engine thread. Emits events, raises nothing a user caused."""
        while not self._control.closed:
            if self._job:
                self._run(self._job)
            else:
                self._serve_idle()

    def _take_job(self, job: _Start | _Resume | _Fork) -> None:
        with self._lock:
            if self._busy:
                raise RunError("a run is under way; stop it before another one starts")
            self._busy, self._job = True, job
        self._control.wake()

    def _run(self, job: _Start | _Resume | _Fork) -> None:
        self._trainer = self._preview = None  # one base in memory: let go of the old one before loading the next
        try:
            trainer = self._trainer_for(job)
        except RlhfError as error:
            self._emit(StateChanged(RunState.FAILED, 0, 0, str(error)))
            self._end_run()
            return
        try:
            trainer.run()
        except RlhfError:
            pass  # the trainer has told it in a StateChanged
        finally:
            self._trainer = trainer if trainer.policy else None
            self._end_run()

    def _trainer_for(self, job: _Start | _Resume | _Fork) -> Trainer:
        from rlhf_engine.fork import fork
        from rlhf_engine.rewards.function import pinned
        from rlhf_engine.run_dir import RunDir
        from rlhf_engine.trainer import Trainer

        if isinstance(job, _Start):
            config = pinned(job.config)
            run_dir = RunDir.create(job.runs_root, config, name=job.name, preset=job.preset)
            return Trainer(config, run_dir=run_dir, control=self._control, emit=self._emit)
        run_dir = RunDir.open(job.run_path)
        if isinstance(job, _Fork):
            run_dir = fork(run_dir, step=job.step, changes=job.changes, root=job.runs_root, name=job.name)
        accept_code = isinstance(job, _Resume) and job.accept_code
        return Trainer.resume(run_dir, control=self._control, emit=self._emit, accept_code=accept_code)

    def _end_run(self) -> None:
        """Free for the next run; requests that came late are served idle, stop and pause do not reach the next run."""
        with self._lock:
            self._control = self._control.successor()
            self._busy, self._job = False, None

    def _serve_idle(self) -> None:
        request = self._control.take_request()
        if request is None:
            self._control.wait_for_change()
        elif not isinstance(request, Edit):
            self._answer(request)

    def _answer(self, request: GenerateRequest | CompareRequest) -> None:
        from rlhf_engine.serving import refuse, serve_request

        try:
            policy, config, step = self._at_hand(request)
        except RlhfError as error:
            refuse(request, str(error), self._emit)
            return
        serve_request(request, policy, config, step, self._control, self._emit, may_load=True)

    def _at_hand(self, request: GenerateRequest | CompareRequest) -> tuple[Policy | None, RunConfig, int]:
        """What the request is answered with; two checkpoints take what is loaded, if they fit it, and else nothing."""
        if not (isinstance(request, CompareRequest) and request.of_checkpoints):
            return self._policy_for_requests()
        if self._trainer and self._trainer.policy:
            return self._trainer.policy, self._trainer.config, self._trainer.step
        if self._preview:
            return self._preview[1], self._preview[0], 0
        assert self._config is not None  # `ask` has set it
        return None, self._config, 0

    def _policy_for_requests(self) -> tuple[Policy, RunConfig, int]:
        """The last run's policy while the workbench still shows its model, else the shown config's, untrained."""
        from rlhf_engine.policy import Policy
        from rlhf_engine.threads import use_threads

        config = self._config
        if config is None:
            raise RunError("there is no configuration to take a model from")
        trainer = self._trainer
        if trainer and trainer.policy and _same_model(trainer.config, config):
            return trainer.policy, config, trainer.step
        if self._preview is None or not _same_model(self._preview[0], config):
            self._preview = None
            policy = Policy.from_config(config)
            use_threads(policy, config)
            self._preview = (config, policy)
        return self._preview[1], config, 0


def _same_model(a: RunConfig, b: RunConfig) -> bool:
    return a.model == b.model and a.lora == b.lora
