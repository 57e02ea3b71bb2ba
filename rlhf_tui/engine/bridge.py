"""The engine thread and the screen, kept apart.

The engine appends events to a ring and never waits for the screen. A timer of the app drains the ring, so a stalled
terminal cannot stall training and a fast engine cannot flood the screen.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import first_line
from rlhf_engine.events import (
    ComparisonFinished,
    EditApplied,
    EditRefused,
    Event,
    GenerationFinished,
    Notice,
    RunStarted,
    RunState,
    StateChanged,
    StepProgress,
)
from rlhf_engine.requests import REFERENCE, TUNED, CompareRequest, GenerateRequest, Side
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.engine.engine_session import EngineSession, SessionFactory, engine_session
from rlhf_tui.engine.event_ring import EventRing
from rlhf_tui.engine.run_view import RunView
from rlhf_tui.engine.viewer import Opened, Viewer, open_run
from rlhf_tui.terminal.clean_text import clean_event
from rlhf_tui.terminal.crash_log import write_crash_log

TICK_SECONDS = 0.1
TICKS_BETWEEN_DRAINS = 3
TICKS_BETWEEN_PROGRESS = 9  # news of how far a step is, and nothing else, need not be drawn three times a second


class EngineBridge:
    """Everything a screen may ask of the engine. All methods belong to the screen's thread and return at once."""

    def __init__(self, runs_root: Path, session_factory: SessionFactory = engine_session) -> None:
        self.runs_root = runs_root
        self.view = RunView()
        self.closing = False
        self._factory = session_factory
        self._session: EngineSession | None = None
        self._thread: threading.Thread | None = None
        self.run_path: Path | None = None
        """Where the newest run lies; `view.path` is that made fit to be shown."""
        self.brings_settings = False
        """True when the newest run came with settings of its own: it was gone on with, forked, or is viewed."""
        self._viewer: Viewer | None = None
        self._accepted: dict[str, bool] = {}
        self._steps: int | None = None
        self._viewed: deque[Event] = deque()  # the viewer reads on when these were taken
        self._ring = EventRing()
        self._ids = itertools.count(1)
        self._asking = threading.Lock()  # held while the engine is asked, and while a thread that ends gives up
        self._questions: dict[int, type[GenerationFinished] | type[ComparisonFinished]] = {}
        self._edits: dict[str, None] = {}
        self._streaming: set[int] = set()
        self._ticks = 0

    @property
    def busy(self) -> bool:
        """True from a start until that run has ended."""
        session = self._session
        return self.alive and session is not None and session.busy

    @property
    def alive(self) -> bool:
        """True while the engine thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def state(self) -> RunState | None:
        """The state of the newest run as the screen knows it; None before the first."""
        return self.view.state

    @property
    def viewing(self) -> bool:
        """True while the screen shows a run that is not driven from here."""
        return self._viewer is not None

    @property
    def taking_over(self) -> bool:
        """True while the process that drives the shown run has been asked to leave."""
        return self._viewer is not None and self._viewer.taking_over

    @property
    def lost(self) -> str:
        """Why the run that is viewed can be followed no more; empty while it is."""
        return self._viewer.lost if self._viewer else ""

    @property
    def going_on(self) -> bool:
        """True while a run trains, or is about to, and nobody asked it to pause or stop."""
        ends = (RunState.PAUSED, RunState.STOPPING)
        return self.busy and not self.view.wanted and self.state not in ends

    # --- asking ---

    def start(self, config: RunConfig, preset: str = "") -> None:
        """Begin a new run. Raises RunError while another one is busy, or when it cannot begin."""
        with self._asking:
            self._engine().start(config, runs_root=self.runs_root, preset=preset)
        self.brings_settings = False
        self.view.preset = preset
        self.view.state = RunState.LOADING

    def resume(self, path: Path, *, accept_code: bool = False, accept_base: bool = False) -> None:
        """Go on with the run in `path`. Raises RunError while another one is busy.

        accept_code: with files of reward functions that have changed since, too. accept_base: with another base model.
        """
        with self._asking:
            self._engine().resume(path, accept_code=accept_code, accept_base=accept_base)
        self.brings_settings = True
        self.view.state = RunState.LOADING

    def fork(self, path: Path, *, step: int | None, changes: Mapping[str, Any], name: str | None = None,
             accept_base: bool = False) -> None:
        """Begin a new run from the checkpoint of `step` of the run in `path`. Raises RunError while one is busy."""
        with self._asking:
            self._engine().fork(path, step=step, changes=changes, runs_root=self.runs_root, name=name,
                                accept_base=accept_base)
        self.unwatch()
        self.brings_settings = True
        self.view.preset = RunDir(path).preset
        self.view.state = RunState.LOADING

    def watch(self, run: RunDir | Opened) -> None:
        """Show a run that another process drives, or nobody, in the place of the one shown so far.

        Raises RlhfError when it cannot be read.
        """
        viewed: deque[Event] = deque()  # its own: the thread of the one before may have a last word
        opened = run if isinstance(run, Opened) else open_run(run)
        viewer = Viewer(opened, viewed.append, waiting=viewed.__len__)
        self.unwatch()
        self._viewer, self._viewed = viewer, viewed
        self.brings_settings = True
        self.view.forget()
        self.view.preset, self.view.watched = opened.preset, True

    def unwatch(self) -> None:
        """Show the run that is driven elsewhere no more."""
        if self._viewer is not None:
            self._viewer.close()
            self._viewer, self._viewed = None, deque()
            self.view.forget()

    @property
    def watched(self) -> Path | None:
        """Where the run lies that is shown and not driven from here; None if there is none."""
        return self._viewer.run_dir.path if self._viewer else None

    def take_over(self, *, accept_code: bool = False, accept_base: bool = False, steps: int | None = None) -> bool:
        """Ask the process that drives the shown run to leave, and resume it here then; False if that was asked before.

        steps: how many it is to have in all from then on; None: as many as it has.
        """
        if self._viewer is None or self._viewer.taking_over:
            return False
        self._steps = steps
        self._accepted = {"accept_code": accept_code, "accept_base": accept_base}
        self._viewer.take_over()
        return True

    def pause(self) -> None:
        """Hold after the current step; nothing while no run is under way."""
        if self.busy:
            self.view.wanted = "pausing"
            self._engine().pause()

    def unpause(self) -> None:
        """Go on after a pause."""
        self.view.wanted = ""
        self._engine().unpause()

    def stop(self) -> None:
        """End the run after the current step, with a checkpoint; nothing while none is under way."""
        if self.busy:
            self.view.wanted = "stopping"
            self._engine().stop()

    def checkpoint(self) -> None:
        """Save after the current step."""
        self._engine().checkpoint()

    def edit(self, path: str, value: Any) -> None:
        """Change a live setting; answered by EditApplied or EditRefused."""
        with self._asking:
            self._edits[path] = None
            self._engine().edit(path, value)

    def generate(self, prompt: str, tuned: bool, temperature: float, max_new_tokens: int, seed: int,
                 config: RunConfig) -> int:
        """Continue `prompt`; answered by GenerationToken and GenerationFinished with the id handed back."""
        request_id = next(self._ids)
        self._streaming.add(request_id)
        self._ask(GenerateRequest(request_id, prompt, tuned, temperature, max_new_tokens, seed), config)
        return request_id

    def compare(
        self, responses: int, seed: int, config: RunConfig, sides: tuple[Side, Side] = (REFERENCE, TUNED)
    ) -> int:
        """Compare reference and tuned, or any two; answered by ComparisonProgress and ComparisonFinished."""
        request_id = next(self._ids)
        self._ask(CompareRequest(request_id, responses, seed, *sides), config)
        return request_id

    def _ask(self, request: GenerateRequest | CompareRequest, config: RunConfig) -> None:
        answer = GenerationFinished if isinstance(request, GenerateRequest) else ComparisonFinished
        with self._asking:
            self._questions[request.request_id] = answer
            self._engine().ask(request, config)

    def cancel(self, request_id: int) -> None:
        """Give up a generation or comparison."""
        if self._session is not None:
            self._session.cancel(request_id)

    def close(self) -> None:
        """Stop what runs, with a checkpoint, and end the engine thread; `alive` says when that is done."""
        self.closing = True
        self.view.wanted = "stopping" if self.busy else ""
        if self._viewer is not None:
            self._viewer.close()
        if self._session is not None and self.alive:
            self._session.close()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the engine thread; True when it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.alive

    # --- hearing ---

    def open(self) -> None:
        """Start the engine thread, which waits for work."""
        self._engine()

    def tick(self) -> list[Event]:
        """Called ten times a second: what there is to show. Each time while text streams in, else every third; where
        a step has but gone on, every ninth.
        """
        self._ticks += 1
        if not self._streaming and self._ticks % TICKS_BETWEEN_DRAINS:
            return []
        if self._ticks % TICKS_BETWEEN_PROGRESS and self._only_progress():
            return []
        return self.drain()

    def _only_progress(self) -> bool:
        freed = self._viewer is not None and self._viewer.free
        return not (freed or self._viewed) and self._ring.holds_only(StepProgress)

    def drain(self) -> list[Event]:
        """All events waiting, oldest first, cleaned, without those that later ones supersede."""
        events: list[Event] = []
        freed = self._viewer is not None and self._viewer.free  # asked first: nothing comes after it
        while self._viewed:
            events.append(clean_event(self._viewed.popleft()))
        for event in self._ring.take():
            if isinstance(event, RunStarted):
                self.run_path = Path(event.path)
            events.append(clean_event(event))
        for event in events:
            self.view.apply(event)
            if isinstance(event, GenerationFinished):
                self._streaming.discard(event.request_id)
        if freed and self._viewer is not None:
            path, self._viewer, self.view.watched = self._viewer.run_dir.path, None, False
            self.resume(path, **self._accepted)
            if self._steps is not None:
                self.edit("train.steps", self._steps)
            events.append(Notice("taken over: the libraries and the model load, then the run continues here"))
        return events

    # --- the engine thread ---

    def _engine(self) -> EngineSession:
        if self._session is None or not self.alive:
            self._session = self._factory(self._hear)
            self._thread = threading.Thread(target=self._serve, args=(self._session,), name="engine", daemon=True)
            self._thread.start()
        return self._session

    def _hear(self, event: Event) -> None:
        """Called by the engine thread."""
        if isinstance(event, GenerationFinished | ComparisonFinished):
            self._questions.pop(event.request_id, None)
        elif isinstance(event, EditApplied | EditRefused):
            self._edits.pop(event.path, None)
        self._ring.put(event)

    def _serve(self, session: EngineSession) -> None:
        crash = ""
        try:
            session.serve()
        except BaseException as error:
            # a bug: the thread ends, the workbench lives on and says where to read about it
            log = write_crash_log(error)
            crash = f"the engine crashed ({type(error).__name__}): {first_line(error)}; details in {log}"
        with self._asking:  # whoever asks from here on has a new thread to ask
            self._session = None
            if crash:
                ended = StateChanged(RunState.FAILED, self.view.step, self.view.total_steps, crash)
                self._ring.put(Notice(crash, "warning"), ended)
            self._give_up(crash or "the engine has ended")

    def _give_up(self, why: str) -> None:
        """Answer what is open and will not be answered: nobody shall wait for ever."""
        for request_id, answer in self._questions.items():
            self._ring.put(GenerationFinished(request_id, "", error=why) if answer is GenerationFinished
                           else ComparisonFinished(request_id, None, why))
        self._ring.put(*(EditRefused(path, why) for path in self._edits))
        self._questions, self._edits = {}, {}
