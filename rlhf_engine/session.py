"""What one engine thread does for a workbench: runs, one after another, and requests between them.

The workbench makes a `Session`, runs `serve` in a thread, and calls everything else from its own. Nothing here imports
torch before `serve` has work, so that a screen can be drawn first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CodeChangedError, RlhfError, RunError
from rlhf_engine.events import EditRefused, Event, Notice, RunState, StateChanged
from rlhf_engine.requests import CompareRequest, Edit, GenerateRequest
from rlhf_engine.training.control import TrainerControl

if TYPE_CHECKING:
    from rlhf_engine.models.policy import Policy
    from rlhf_engine.runs.run_dir import RunDir
    from rlhf_engine.training.trainer import Trainer


_ENDED = "the run has ended"


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
    accept_base: bool


@dataclass(frozen=True)
class _Fork:
    run_path: Path
    step: int | None
    changes: Mapping[str, Any]
    runs_root: Path
    name: str | None
    accept_base: bool


class Session:
    """One engine thread's work. All methods but `serve` may be called from any thread and return at once.

    What is asked of a run (pause, stop, a checkpoint, an edit) reaches the run that is under way, or about to begin,
    and no other. Questions are answered in the order in which they were asked: a run that is started waits for those
    asked before it.
    """

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._lock = threading.Lock()
        self._idle = TrainerControl()  # of what is asked while nothing runs
        self._control: TrainerControl | None = None  # of the run under way, or about to begin
        self._job: _Start | _Resume | _Fork | None = None
        self._configs: dict[int, RunConfig] = {}  # of open questions: what each is answered with outside a run
        self._last_word: StateChanged | None = None
        self._trainer: Trainer | None = None
        self._preview: tuple[RunConfig, Policy] | None = None

    @property
    def busy(self) -> bool:
        """True from `start`, `resume` or `fork` until that run has ended; it is False when the end is told."""
        return self._control is not None

    def start(self, config: RunConfig, *, runs_root: Path, name: str | None = None, preset: str = "") -> None:
        """Begin a new run. Raises RunError while another one is busy."""
        self._take_job(_Start(config, runs_root, name, preset))

    def resume(self, run_path: Path, *, accept_code: bool = False, accept_base: bool = False) -> None:
        """Go on with a run from its newest checkpoint. Raises RunError while another one is busy.

        accept_code: with files of reward functions that have changed since, too, if this user trusts what they are
        by then. accept_base: with another base model than before, too.
        """
        self._take_job(_Resume(run_path, accept_code, accept_base))

    def fork(
        self, run_path: Path, *, step: int | None = None, changes: Mapping[str, Any], runs_root: Path,
        name: str | None = None, accept_base: bool = False,
    ) -> None:
        """Begin a new run from a run's checkpoint of `step` (None: the newest), with `changes` (path -> value).

        Raises RunError while another one is busy. accept_base: as for `resume`.
        """
        self._take_job(_Fork(run_path, step, dict(changes), runs_root, name, accept_base))

    def pause(self) -> None:
        """Hold the run after the current step; nothing while none is under way."""
        with self._lock:
            if self._control:
                self._control.pause()

    def unpause(self) -> None:
        """Go on."""
        with self._lock:
            if self._control:
                self._control.resume()

    def stop(self) -> None:
        """End the run after the current step, with a checkpoint; nothing while none is under way."""
        with self._lock:
            if self._control:
                self._control.stop()

    def checkpoint(self) -> None:
        """Save after the current step; nothing while no run is under way."""
        with self._lock:
            if self._control:
                self._control.checkpoint()

    def edit(self, path: str, value: object) -> None:
        """Change a live setting from the next step on; refused when no run is under way, or it ends before that."""
        with self._lock:
            if self._control:
                self._control.edit(path, value)
                return
        self._emit(EditRefused(path, _ENDED))

    def ask(self, request: GenerateRequest | CompareRequest, config: RunConfig) -> None:
        """Generate or compare: between steps of a busy run, else at once (last run's policy, or `config`'s model)."""
        with self._lock:
            self._configs[request.request_id] = config
            (self._control or self._idle).ask(request)

    def cancel(self, request_id: int) -> None:
        """Give up a request."""
        with self._lock:
            self._idle.cancel(request_id)
            if self._control:
                self._control.cancel(request_id)

    def close(self) -> None:
        """Stop what runs (with a checkpoint) and end `serve`."""
        with self._lock:
            if self._control:
                self._control.close()
            self._idle.close()

    # --- the engine thread ---

    def serve(self) -> None:
        """Work until closed; the body of the engine thread. Emits events, raises nothing a user caused.

        What is still open when it returns, or raises, is not answered any more.
        """
        while not self._idle.closed:
            request = self._idle.take_request()
            if isinstance(request, GenerateRequest | CompareRequest):
                self._answer(request)
            elif self._job and self._control:
                self._run(self._job, self._control)
            else:
                self._idle.wait_for_change()

    def _take_job(self, job: _Start | _Resume | _Fork) -> None:
        with self._lock:
            if self._control:
                raise RunError("a run is in progress; stop it before another one starts")
            self._control, self._job = TrainerControl(), job
            if self._idle.closed:
                self._control.close()
            self._idle.wake()

    def _run(self, job: _Start | _Resume | _Fork, control: TrainerControl) -> None:
        self._trainer = self._preview = None  # one base in memory: let go of the old one before loading the next
        try:
            trainer = self._trainer_for(job, control)
        except RlhfError as error:
            self._last_word = StateChanged(RunState.FAILED, 0, 0, str(error))
            self._end_run(control)
            return
        try:
            trainer.run()
        except RlhfError:
            pass  # the trainer has told it in a StateChanged
        finally:
            self._trainer = trainer if trainer.policy else None
            self._end_run(control)

    def _trainer_for(self, job: _Start | _Resume | _Fork, control: TrainerControl) -> Trainer:
        from rlhf_engine.rewards.function import pinned
        from rlhf_engine.runs.base_model import BaseChoice, pinned_base
        from rlhf_engine.runs.run_dir import RunDir
        from rlhf_engine.training.fork import fork
        from rlhf_engine.training.trainer import Trainer

        if isinstance(job, _Start):
            config = pinned(pinned_base(job.config))
            run_dir = RunDir.create(job.runs_root, config, name=job.name, preset=job.preset)
            return Trainer(config, run_dir=run_dir, control=control, emit=self._tell)
        run_dir = RunDir.open(job.run_path)
        if isinstance(job, _Fork):
            run_dir = fork(run_dir, step=job.step, changes=job.changes, root=job.runs_root, name=job.name,
                           accept_base=job.accept_base, tell=lambda text: self._emit(Notice(text, "warning")))
        accept_code = isinstance(job, _Resume) and job.accept_code
        if accept_code:
            _require_agreed(run_dir)
        return Trainer.resume(run_dir, control=control, emit=self._tell, accept_code=accept_code,
                              base=BaseChoice(job.accept_base), new=isinstance(job, _Fork))

    def _tell(self, event: Event) -> None:
        """A trainer's event; that it has ended waits until another run can be started."""
        if isinstance(event, StateChanged) and event.state.ended:
            self._last_word = event
        else:
            self._emit(event)

    def _end_run(self, control: TrainerControl) -> None:
        """Free for the next run. Questions that came late are answered idle; edits that did are refused."""
        refused: list[Event] = []
        with self._lock:
            configs, self._configs = self._configs, {}  # the run has answered the others with its own
            while (request := control.take_request()) is not None:
                if isinstance(request, Edit):
                    refused.append(EditRefused(request.path, _ENDED))
                    continue
                self._configs[request.request_id] = configs[request.request_id]
                self._idle.ask(request)
                if control.cancelled(request.request_id):
                    self._idle.cancel(request.request_id)
            self._control = self._job = None
            last_word, self._last_word = self._last_word, None
        for event in (*refused, *([last_word] if last_word else ())):
            self._emit(event)

    def _answer(self, request: GenerateRequest | CompareRequest) -> None:
        from rlhf_engine.training.serving import refuse, serve_request

        with self._lock:
            config = self._configs.pop(request.request_id)
        try:
            if self._idle.cancelled(request.request_id):  # no model need be loaded for that
                raise RunError("cancelled")
            policy, config, step = self._at_hand(request, config)
        except RlhfError as error:
            refuse(request, str(error), self._emit)
            return
        serve_request(request, policy, config, step, self._idle, self._emit, may_load=True)

    def _at_hand(
        self, request: GenerateRequest | CompareRequest, config: RunConfig
    ) -> tuple[Policy | None, RunConfig, int]:
        """What the request is answered with; two checkpoints take what is loaded, if they fit it, and else nothing."""
        if not (isinstance(request, CompareRequest) and request.of_checkpoints):
            return self._policy_for_requests(config)
        if self._trainer and self._trainer.policy:
            return self._trainer.policy, self._trainer.config, self._trainer.step
        if self._preview:
            return self._preview[1], self._preview[0], 0
        return None, config, 0

    def _policy_for_requests(self, config: RunConfig) -> tuple[Policy, RunConfig, int]:
        """The last run's policy while the workbench still shows its model, else the shown config's, untrained."""
        from rlhf_engine.models.policy import Policy
        from rlhf_engine.models.threads import use_threads

        trainer = self._trainer
        if trainer and trainer.policy and _same_model(trainer.config, config):
            return trainer.policy, config, trainer.step
        if self._preview is None or not _same_model(self._preview[0], config) or _swapped(self._preview[1], config):
            self._preview = None
            policy = Policy.from_config(config)
            for text in policy.notices:
                self._emit(Notice(text, "warning"))
            use_threads(policy, config)
            self._preview = (config, policy)
        return self._preview[1], config, 0


def _require_agreed(run_dir: RunDir) -> None:
    """Raises UntrustedCodeError for changed code that is not what a person has said yes to: it may have changed once
    more, while another process took its time to leave."""
    from rlhf_engine.rewards.function import require_same_code
    from rlhf_engine.runs.run_settings import settings_now
    from rlhf_engine.runs.trust import UntrustedCodeError, is_trusted

    try:
        require_same_code(settings_now(run_dir))
    except CodeChangedError as error:
        for code in error.codes:
            if not is_trusted(code.digest):
                raise UntrustedCodeError(code) from None


def _same_model(ran: RunConfig, shown: RunConfig) -> bool:
    """True when what was loaded for `ran` is what `shown` asks for, which may name it less exactly."""
    from rlhf_engine.model_folders.model_files import located

    model = located(shown.model)
    if model.revision is None:
        model = model.model_copy(update={"revision": ran.model.revision})
    return located(ran.model) == model and ran.lora == shown.lora


def _swapped(policy: Policy, config: RunConfig) -> bool:
    """True when other files lie where this untrained model was loaded from."""
    from rlhf_engine.runs.base_model import base_fingerprint

    now = None
    with suppress(RlhfError):
        now = base_fingerprint(config.model)
    return now is not None and now != policy.fingerprint
