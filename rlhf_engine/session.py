"""What one engine thread does for a workbench: runs, one after another, and questions between them.

The workbench makes a `Session`, runs `serve` in a thread, and asks from its own. Nothing here imports torch before
`serve` has work, so that a screen can be drawn first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CodeChangedError, RlhfError, RunError
from rlhf_engine.events import Event, Notice, RunState, StateChanged
from rlhf_engine.requests import (
    Compare,
    CompareMethods,
    Edit,
    Fork,
    Generate,
    Question,
    Request,
    RequestQueue,
    Resume,
    SamplePairs,
    Start,
)
from rlhf_engine.system.garbage import importing

if TYPE_CHECKING:
    from rlhf_engine.evaluation.generate import LoadedRun
    from rlhf_engine.models.policy import Policy
    from rlhf_engine.runs.run_dir import RunDir
    from rlhf_engine.training.trainer import Trainer


class AtHand(NamedTuple):
    """What a question is answered with. numbers: what the method has counted after `step` under `config`."""

    policy: Policy | None
    config: RunConfig
    step: int
    numbers: Mapping[str, Any]


class Session:
    """One engine thread's work. `ask` and `busy` may be used from any thread; `emit` is called in the engine's.

    Requests are served in the order in which they were asked, so that what is asked of a run (pause, stop, a
    checkpoint, an edit) reaches the run that is under way, or about to begin, and no other; edits that find none are
    refused. A run waits for the questions that were asked before it.
    """

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._requests = RequestQueue()
        self._under_way = threading.Lock()  # held from when a run is asked for until it has ended
        self._last_word: StateChanged | None = None
        self._trainer: Trainer | None = None
        self._preview: tuple[RunConfig, Policy] | None = None
        self._viewed: tuple[Path, LoadedRun] | None = None

    @property
    def busy(self) -> bool:
        """True from when a run is asked for until it has ended; it is False when the end is told."""
        return self._under_way.locked()

    def ask(self, request: Request) -> None:
        """Leave a request for the engine thread. Raises RunError for a run while another one is busy."""
        if isinstance(request, Start | Resume | Fork) and not self._under_way.acquire(blocking=False):
            raise RunError("a run is in progress; stop it before another one starts")
        self._requests.ask(request)

    def serve(self) -> None:
        """Work until closed; the body of the engine thread. Emits events, raises nothing a user caused.

        What is still open when it returns, or raises, is not answered any more.
        """
        while not self._requests.closed:
            match self._requests.take():
                case None:
                    self._requests.wait()
                case Start() | Resume() | Fork() as asked:
                    self._run(asked)
                case Generate() | Compare() | CompareMethods() | SamplePairs() as question:
                    self._answer(question)
                case Edit() as edit:
                    self._emit(edit.refused("the run has ended"))

    def _run(self, asked: Start | Resume | Fork) -> None:
        # one base in memory: let go of the old one before loading the next
        self._trainer = self._preview = self._viewed = None
        trainer = None
        try:
            trainer = self._trainer_for(asked)
            trainer.run()
        except RlhfError as error:
            if trainer is None:  # else it has told so itself
                self._last_word = StateChanged(RunState.FAILED, 0, 0, str(error))
        finally:
            self._trainer = trainer if trainer and trainer.policy else None
            self._under_way.release()
            if self._last_word:
                self._emit(self._last_word)
            self._last_word = None

    def _trainer_for(self, asked: Start | Resume | Fork) -> Trainer:
        from rlhf_engine.data.pinning import pinned_data
        from rlhf_engine.rewards.function import pinned
        from rlhf_engine.runs.base_model import BaseChoice, pinned_base
        from rlhf_engine.runs.run_dir import RunDir
        with importing():
            from rlhf_engine.training.fork import fork
            from rlhf_engine.training.trainer import Trainer

        if isinstance(asked, Start):
            config = pinned(pinned_base(pinned_data(asked.config)))
            run_dir = RunDir.create(asked.runs_root, config, name=asked.name, preset=asked.preset)
            return Trainer(config, run_dir=run_dir, emit=self._tell, requests=self._requests)
        run_dir = RunDir.open(asked.run_path)
        if isinstance(asked, Fork):
            run_dir = fork(run_dir, step=asked.step, changes=asked.changes, root=asked.runs_root, name=asked.name,
                           accept_base=asked.accept_base, tell=lambda text: self._emit(Notice(text, "warning")))
        accept_code = isinstance(asked, Resume) and asked.accept_code
        if accept_code:
            _require_agreed(run_dir)
        return Trainer.resume(run_dir, emit=self._tell, requests=self._requests, accept_code=accept_code,
                              accept_data=isinstance(asked, Resume) and asked.accept_data,
                              base=BaseChoice(asked.accept_base), new=isinstance(asked, Fork))

    def _tell(self, event: Event) -> None:
        """A trainer's event; that it has ended waits until another run can be started."""
        if isinstance(event, StateChanged) and event.state.ended:
            self._last_word = event
        else:
            self._emit(event)

    def _answer(self, question: Question) -> None:
        from rlhf_engine.evaluation.questions import answer_question

        cancelled = partial(self._requests.cancelled, question)
        try:
            if cancelled():  # no model need be loaded for that
                raise RunError("cancelled")
            policy, config, step, numbers = self._at_hand(question)
        except RlhfError as error:
            self._emit(question.refused(str(error)))
            return
        answer_question(question, policy, config, step, self._emit, numbers=numbers, cancelled=cancelled, may_load=True)

    def _at_hand(self, question: Question) -> AtHand:
        """What the question is answered with; two checkpoints take what is loaded, if they fit it, and else nothing."""
        if isinstance(question, CompareMethods) and question.run is not None:
            return self._checkpoint_of(question.run)
        if not (isinstance(question, Compare | SamplePairs) and question.of_checkpoints):
            return self._policy_for(question.config)
        if self._trainer and self._trainer.policy:
            return AtHand(self._trainer.policy, self._trainer.config, self._trainer.step, {})
        if self._preview:
            return AtHand(self._preview[1], self._preview[0], 0, {})
        return AtHand(None, question.config, 0, {})

    def _checkpoint_of(self, run: Path) -> AtHand:
        """The newest checkpoint of a run that is viewed, which may have moved on since it was loaded."""
        from rlhf_engine.evaluation.generate import load_run
        from rlhf_engine.models.threads import use_threads_of
        from rlhf_engine.runs.checkpoint_list import steps
        from rlhf_engine.runs.run_dir import RunDir

        run_dir = RunDir.open(run)
        if self._viewed is None or self._viewed[0] != run or [self._viewed[1].step] != steps(run_dir)[:1]:
            self._preview = self._viewed = None
            loaded = load_run(run_dir, tell=lambda text: self._emit(Notice(text, "warning")))
            for text in loaded.policy.notices:
                self._emit(Notice(text, "warning"))
            use_threads_of(loaded.policy, loaded.config)
            self._viewed = (run, loaded)
        found = self._viewed[1]
        return AtHand(found.policy, found.config, found.step, found.numbers)

    def _policy_for(self, config: RunConfig) -> AtHand:
        """The last run's policy while the workbench still shows its model, else the shown config's, untrained."""
        from rlhf_engine.models.policy import Policy
        from rlhf_engine.models.threads import use_threads_of

        trainer = self._trainer
        if trainer and trainer.policy and _same_model(trainer.config, config):
            numbers: Mapping[str, Any] = {}
            if trainer.algorithm and trainer.config.algorithm.kind == config.algorithm.kind:
                counted = trainer.algorithm.state().numbers
                numbers = config.algorithm.forked_numbers(counted, trainer.config, config)
            return AtHand(trainer.policy, config, trainer.step, numbers)
        if self._preview is None or not _same_model(self._preview[0], config) or _swapped(self._preview[1], config):
            self._preview = self._viewed = None
            policy = Policy.from_config(config)
            for text in policy.notices:
                self._emit(Notice(text, "warning"))
            use_threads_of(policy, config)
            self._preview = (config, policy)
        return AtHand(self._preview[1], config, 0, {})


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
    if model.dtype == "auto":
        model = model.model_copy(update={"dtype": ran.model.dtype})
    chats = [(config.data.chat_template, config.data.system) for config in (ran, shown)]
    return located(ran.model) == model and ran.lora == shown.lora and chats[0] == chats[1]


def _swapped(policy: Policy, config: RunConfig) -> bool:
    """True when other files lie where this untrained model was loaded from."""
    from rlhf_engine.runs.base_model import base_fingerprint

    now = None
    with suppress(RlhfError):
        now = base_fingerprint(config.model)
    return now is not None and now != policy.fingerprint
