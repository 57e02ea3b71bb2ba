"""The engine thread and the screen, kept apart.

The engine appends events to a ring and never waits for the screen. A timer of the app drains the ring, so a stalled
terminal cannot stall training and a fast engine cannot flood the screen.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rlhf_engine.errors import first_line
from rlhf_engine.events import (
    CheckpointSaved,
    ComparisonFinished,
    EditApplied,
    EditRefused,
    Event,
    GenerationFinished,
    MethodsCompared,
    Notice,
    PairsSampled,
    Probed,
    RunStarted,
    RunState,
    StateChanged,
    StepFinished,
    StepProgress,
)
from rlhf_engine.requests import Cancel, Close, Edit, Fork, Generate, Question, Request
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.engine.event_ring import EventRing
from rlhf_tui.engine.run_view import RunView
from rlhf_tui.engine.viewer import Opened, Viewer, open_run
from rlhf_tui.terminal.clean_text import clean_event
from rlhf_tui.terminal.crash_log import write_crash_log

TICK_SECONDS = 0.1
TICKS_BETWEEN_DRAINS = 3
TICKS_BETWEEN_PROGRESS = 9  # news of how far a step is, and nothing else, need not be drawn three times a second
NEWS_SHARE = 0.04  # of one core, for the screen while steps are all the news: on a GPU training needs Python
MOST_TICKS = 12  # and yet steps are told of as often as that


class EngineSession(Protocol):
    """What is needed of `rlhf_engine.session.Session`."""

    @property
    def busy(self) -> bool: ...
    def ask(self, request: Request) -> None: ...
    def serve(self) -> None: ...


_NEWS = (StepProgress, StepFinished, Probed, CheckpointSaved)

SessionFactory = Callable[[Callable[[Event], None]], EngineSession]


def engine_session(emit: Callable[[Event], None]) -> EngineSession:
    """The real engine, imported when it is first used: the first frame does not wait for it."""
    from rlhf_engine.session import Session

    return Session(emit)


class EngineBridge:
    """The engine as a screen knows it. All methods belong to the screen's thread and return at once."""

    def __init__(
        self, runs_root: Path, session_factory: SessionFactory = engine_session,
        computed: Callable[[], float] = time.thread_time,
    ) -> None:
        """computed: seconds that the screen's thread has computed for."""
        self._computed = computed
        self.runs_root = runs_root
        self.view = RunView()
        self.closing = False
        self._factory = session_factory
        self._session: EngineSession | None = None
        self._thread: threading.Thread | None = None
        self.run_path: Path | None = None
        """Where the newest run lies; `view.path` is that made fit to be shown."""
        self._viewer: Viewer | None = None
        self._once_released: tuple[Request, ...] = ()
        self._viewed: deque[Event] = deque()  # the viewer reads on when these were taken
        self._ring = EventRing()
        self._ids = itertools.count(1)
        self._asking = threading.Lock()  # held while the engine is asked, and while a thread that ends gives up
        self._unanswered: dict[int | str, Edit | Question] = {}
        self._streaming: set[int] = set()
        self._ticks = self._drained_at = 0
        self._spent = computed()  # seconds that the screen's thread had computed for when news were drained last

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
    def is_training(self) -> bool:
        """True while a run trains, or is about to, and nobody asked it to pause or stop."""
        ends = (RunState.PAUSED, RunState.STOPPING)
        return self.busy and not self.view.pending_state and self.state not in ends

    # --- asking ---

    def new_id(self) -> int:
        """A number for a question, by which its answer is known."""
        return next(self._ids)

    def ask(self, request: Request) -> None:
        """Hand a request to the engine thread; what it answers, `drain` tells. Raises RunError for a run while another
        one is busy.
        """
        with self._asking:
            if self._session is None and isinstance(request, Cancel | Close):
                return
            engine = self._engine()
            if isinstance(request, Edit | Question):
                self._unanswered[_key(request)] = request
            engine.ask(request)
        if isinstance(request, Generate):
            self._streaming.add(request.id)
        elif isinstance(request, Fork):
            self.unwatch()
            self.view.preset = RunDir(request.run_path).preset
        self.view.expect(request)

    def watch(self, run: RunDir | Opened) -> None:
        """Show a run that another process drives, or nobody, in the place of the one shown so far.

        Raises RlhfError when it cannot be read.
        """
        viewed: deque[Event] = deque()  # its own: the thread of the one before may have a last word
        opened = run if isinstance(run, Opened) else open_run(run)
        viewer = Viewer(opened, viewed.append, waiting=viewed.__len__)
        self.unwatch()
        self._viewer, self._viewed = viewer, viewed
        self.view.watch(opened.preset)

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

    def take_over(self, *requests: Request) -> None:
        """Ask the process that drives the shown run to leave, and the engine for `requests` (a Resume of that run
        first) once it has; nothing if that was asked before.
        """
        if self._viewer is not None and not self._viewer.taking_over:
            self._once_released = requests
            self._viewer.take_over()

    def close(self) -> None:
        """Stop what runs, with a checkpoint, and end the engine thread; `alive` says when that is done."""
        self.closing = True
        if self._viewer is not None:
            self._viewer.close()
        self.ask(Close())

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
        a step has but gone on, every ninth; and where steps are all there is to tell, no oftener than this thread has
        time for, so that a fast engine, which shares the interpreter with it, is not slowed down by what it says.
        """
        self._ticks += 1
        if not self._streaming and self._ticks % TICKS_BETWEEN_DRAINS:
            return []
        if self._ticks % TICKS_BETWEEN_PROGRESS and self._only(StepProgress):
            return []
        if self._ticks - self._drained_at < MOST_TICKS and self._is_over_its_share() and self._only(*_NEWS):
            return []
        return self.drain()

    def _only(self, *kinds: type[Event]) -> bool:
        """Whether nothing else has happened."""
        released = self._viewer is not None and self._viewer.released
        return not (released or self._viewed) and self._ring.holds_only(*kinds)

    def _is_over_its_share(self) -> bool:
        """Whether this thread has computed for longer since the last news than it should in that time."""
        return self._computed() - self._spent > NEWS_SHARE * TICK_SECONDS * (self._ticks - self._drained_at)

    def drain(self) -> list[Event]:
        """All events waiting, oldest first, cleaned, without those that later ones supersede."""
        self._drained_at, self._spent = self._ticks, self._computed()
        events: list[Event] = []
        released = self._viewer is not None and self._viewer.released  # asked first: nothing comes after it
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
        if released and self._viewer is not None:
            self._viewer, self.view.watched = None, False
            for request in self._once_released:
                self.ask(request)
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
        if isinstance(event, GenerationFinished | ComparisonFinished | MethodsCompared | PairsSampled):
            self._unanswered.pop(event.request_id, None)
        elif isinstance(event, EditApplied | EditRefused):
            self._unanswered.pop(event.path, None)
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
            # nobody shall wait for ever
            self._ring.put(*(request.refused(crash or "the engine has ended") for request in self._unanswered.values()))
            self._unanswered.clear()


def _key(request: Edit | Question) -> int | str:
    """What the answer names."""
    return request.path if isinstance(request, Edit) else request.id
