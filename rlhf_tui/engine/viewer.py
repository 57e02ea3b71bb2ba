"""A run that another process drives, watched by a thread of its own; and how that process is asked to leave it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from rlhf_engine.errors import RlhfError, RunError, first_line
from rlhf_engine.events import Event, Notice, PastRead
from rlhf_engine.runs.follow import POLL_SECONDS, Follower
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.take_over import LeavingProcess, ask_to_leave
from rlhf_tui.engine.metrics_file import Past
from rlhf_tui.engine.sample_store import KEPT_SAMPLES
from rlhf_tui.terminal.clean_text import clean_sample
from rlhf_tui.terminal.crash_log import write_crash_log

MOST_WAITING = 1000  # events: while the screen stalls, no more is read


@dataclass(frozen=True)
class Opened:
    """A run that can be shown: what had to be read of it for that."""

    run_dir: RunDir
    follower: Follower
    preset: str


def open_run(run_dir: RunDir) -> Opened:
    """Reads what a view begins with: not for the screen's thread. Raises RlhfError when it cannot be read."""
    return Opened(run_dir, Follower(RunDir.open(run_dir.path), gather=Past), run_dir.preset)


class Viewer:
    """Follows a run and writes nothing. `emit` is called in the viewer's thread."""

    def __init__(
        self, opened: Opened, emit: Callable[[Event], None], waiting: Callable[[], int] = lambda: 0
    ) -> None:
        """waiting: how many events nobody has taken yet; what is in the files can wait there as well."""
        self.run_dir = opened.run_dir
        self.taking_over = False
        self.released = False
        """True once the run was to be taken over and nobody drives it any more; nothing is emitted after that."""
        self.lost = ""
        """Why the run can be followed no more; empty while it is."""
        self._emit, self._waiting = emit, waiting
        self._follower = opened.follower
        self._asked: LeavingProcess | None = None
        self._told = False  # that it cannot leave
        self._closed = False
        self._wake = threading.Event()
        threading.Thread(target=self._watch, name="viewer", daemon=True).start()

    def take_over(self) -> None:
        """Ask the process that drives the run, if there is one, to save and leave; `released` tells when it has."""
        self.taking_over = True
        self._wake.set()

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        self._follower.give_up()
        self._wake.set()

    # --- the viewer's thread ---

    def _watch(self) -> None:
        try:
            while not self._closed:
                if self._waiting() > MOST_WAITING:
                    self._wake.wait(POLL_SECONDS)
                    self._wake.clear()
                    continue
                left = self.taking_over and self._has_left()  # before the look, which then sees its last word
                for event in self._follower.poll():
                    if isinstance(event, PastRead):  # hundreds of samples: cleaned here, not while a key waits
                        event = replace(event, samples=tuple(map(clean_sample, event.samples[-KEPT_SAMPLES:])))
                    self._emit(event)
                if left and not self._follower.behind:
                    self.released = True
                    return
                if not self._follower.behind:
                    self._wake.wait(POLL_SECONDS)
                self._wake.clear()
        except RlhfError as error:
            self._lose(str(error))
        except Exception as error:  # a bug: whoever waits for what this thread tells would wait for ever
            log = write_crash_log(error)
            self._lose(f"The run can be shown no more ({type(error).__name__}): {first_line(error)}; details in {log}.")
        finally:
            self._follower.close()

    def _lose(self, why: str) -> None:
        self.lost, self.taking_over = f"{why} r opens another run.", False
        self._emit(Notice(self.lost, "warning"))

    def _has_left(self) -> bool:
        """True when no process drives the run; the first time, one that does is asked to leave."""
        if self._asked is None:
            try:
                self._asked = ask_to_leave(self.run_dir)
            except RunError as error:
                self.taking_over = False
                self._emit(Notice(str(error), "warning"))
                return False
            return self._asked is None
        if not self._asked.gone and self._asked.stopped and not self._told:
            self._told = True
            self._emit(Notice(f"process {self._asked.pid}, which drives the run, is stopped and cannot leave: "
                              f"`kill -CONT {self._asked.pid}` resumes it", "warning"))
        return self._asked.gone
