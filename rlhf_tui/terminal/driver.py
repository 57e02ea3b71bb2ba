"""The terminal as Textual drives it, made to bear what a line over SSH does: it goes away in the middle of a frame."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, Protocol, cast

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

from rlhf_engine.system.streams import give_back, take_away, terminal_gone
from rlhf_tui.terminal.crash_log import open_output_log
from rlhf_tui.terminal.input import TerminalInput

SUSPENDED = "rlhf-tui is suspended, and a run with it: fg resumes"
_ASK_BACKGROUND = "\x1b]11;?\x1b\\"


class OutlivesTerminal(Protocol):
    """What the driver asks of its app."""

    @property
    def asks_for_background(self) -> bool:
        """Whether the theme depends on the colour that the terminal draws on."""

    def terminal_gone(self) -> None:
        """The terminal has gone away; may be called more than once."""


class MayGoAway:
    """A text stream to a terminal. What is written after the terminal has gone is lost, and nobody waits for it.

    Textual's writer is a thread behind a short queue. An error would end the thread; then the queue fills, and the
    app's loop waits for room in it for ever, before it has heard that it is to save and leave.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


class TerminalDriver(LinuxDriver):
    """Textual's driver, which outlives its terminal, tells the app of it, and takes a terminal up again only once.

    A terminal may go away without SIGHUP: where that is ignored, and where it is not the process's own, as under
    `su -c`. Where there is one, the kernel sends SIGCONT with it. LinuxDriver would begin anew with that, with a second
    thread that reads keys; the first one is then not always told to end, and the process waits for it.

    While there is a screen the terminal is its alone: the file descriptors that child processes and libraries write to
    lead into a log (see `rlhf_engine.system.streams`).
    """

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        assert self._file is not None, "run_workbench asks for a terminal"
        mine = os.fdopen(os.dup(self._file.fileno()), "w", encoding=self._file.encoding, errors="backslashreplace")
        self._file = MayGoAway(mine)  # type: ignore[assignment]
        self._screen = mine.fileno()
        self._away = self._was_continued = False

    def start_application_mode(self) -> None:
        """The screen begins, or comes back; nobody waits for what the terminal says of its colours."""
        super().start_application_mode()
        if not self._away:
            self._away = True
            take_away(open_output_log)
        # the Linux console would write the question on the screen
        if getattr(self._app, "asks_for_background", False) and os.environ.get("TERM") != "linux":
            self.write(_ASK_BACKGROUND)

    def stop_application_mode(self) -> None:
        """The terminal is everyone's again."""
        super().stop_application_mode()
        if self._away:
            self._away = False
            give_back()

    def _get_terminal_size(self) -> tuple[int, int]:
        # Python asks descriptor 1, which leads elsewhere; as it does, what the environment says goes first
        try:
            columns, lines = os.get_terminal_size(self.fileno)
        except OSError:
            return super()._get_terminal_size()
        wanted = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
        width, height = (int(text) if text.isdecimal() else 0 for text in wanted)
        return width or columns or 80, height or lines or 25

    def run_input_thread(self) -> None:
        """Read what is typed until told to end, or the terminal has gone away."""
        reader, selector = TerminalInput(), selectors.SelectSelector()
        selector.register(self.fileno, selectors.EVENT_READ)
        try:
            while not self.exit_event.is_set():
                data = b""
                if selector.select(reader.wait_seconds):
                    with suppress(OSError):
                        data = os.read(self.fileno, 4096)
                    if not data:
                        self.exit_event.wait(0.1)
                if self.gone:
                    with suppress(RuntimeError):  # no loop any more: it has left meanwhile
                        self._loop.call_soon_threadsafe(self._hung_up)
                    return
                for message in (*reader.feed(data), *reader.overdue()):
                    self.process_message(message)
        finally:
            selector.close()

    @property
    def gone(self) -> bool:
        """Whether the terminal has gone away."""
        return terminal_gone(self.fileno) or terminal_gone(self._screen)

    def suspend(self, said: str, group: bool = True) -> bool:
        """Stop this process, or all of its job (`group`), as Ctrl+Z does with other programs; back after SIGCONT.

        said: a line to leave on the terminal. False if nobody could have it go on again, as without a shell that has
        jobs; it was not stopped then.
        """
        self.suspend_application_mode()
        self._must_signal_resume = True
        assert self._file is not None
        self._file.write(f"{said}\r\n")
        self._file.flush()
        self._was_continued = False
        # by its own rule the system does not stop a job that no shell waits for
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        (os.killpg(os.getpgrp(), signal.SIGTSTP) if group else os.kill(os.getpid(), signal.SIGTSTP))
        time.sleep(0.1)  # it stops within this, if at all
        signal.signal(signal.SIGTSTP, self._sigtstp_application)
        if not self._was_continued:
            self._continued()
        return self._was_continued

    def _sigtstp_application(self, *_: object) -> None:
        _soon(lambda: self.suspend(SUSPENDED, group=False))

    def _sigcont_application(self, *_: object) -> None:
        self._was_continued = True
        _soon(self._continued)

    def _continued(self) -> None:
        begun = self._writer_thread is not None and not self._app._exit
        if begun and self.gone:
            self._hung_up()
            return
        if not begun or not self._auto_restart or not os.isatty(self.fileno):
            return
        if not self._must_signal_resume:
            # stopped by SIGSTOP, of which no program is told: nothing was put away, and the shell had the terminal
            self.suspend_application_mode()
            self._must_signal_resume = True
        self.resume_application_mode()
        self._app.refresh(layout=True)

    def _hung_up(self) -> None:
        cast(OutlivesTerminal, self._app).terminal_gone()


def _soon(act: Callable[[], object]) -> None:
    """Not within the handler of a signal, which may come while a lock is held that the act needs."""
    with suppress(RuntimeError):  # no loop: there is no screen yet, or none any more
        asyncio.get_running_loop().call_soon_threadsafe(act)
