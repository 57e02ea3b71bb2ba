"""The process's output, shared out: what we say goes where it was asked for, and what other code writes does not mix
with it.

Standard output holds a command's answer, often read by a program; a screen is drawn on the terminal. Reward functions
print, libraries warn, child processes write to file descriptors 1 and 2 without asking Python. Their words belong into
the log of the run, and without a screen to stderr, too. Descriptors are moved, not only `sys.stdout`: a child process
knows no other way.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rlhf_engine.system.visible_text import visible

# of our own symbols, what an encoding without them is given; the rest becomes a backslash escape
_STAND_INS = {
    "−": "-", "–": "-", "—": "-", "×": "x", "·": "-", "…": "...", "→": "->", "←": "<-", "≥": ">=", "≤": "<=",
    "≈": "~", "±": "+/-", "β": "beta", "λ": "lambda", "∞": "inf", "“": '"', "”": '"', "‘": "'", "’": "'",
    "└": "`", "─": "-", "├": "|", "│": "|", "\N{NO-BREAK SPACE}": " ",
    "\N{REPLACEMENT CHARACTER}": "?",
}


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_STAND_INS.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in text), \
        error.end


codecs.register_error("stand-in", _stand_in)


def degrade() -> None:
    """From now on what stdout and stderr cannot encode is written in other characters, and is no error; and nothing
    that Python code writes on stderr commands the terminal (see `clean_stderr`)."""
    for descriptor in range(3):  # closed ones would be given to the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(descriptor, True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="stand-in")
    clean_stderr()


class _Visible:
    """A text stream that writes to another one, with visible stand-ins for what a terminal would obey."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.buffer = _VisibleBytes(self)

    def write(self, text: str) -> int:
        self._stream.write(harmless(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in ("detach", "_stream"):
            raise AttributeError(name)
        return getattr(self._stream, name)


class _VisibleBytes(io.RawIOBase):
    """The same for what is written as bytes."""

    def __init__(self, text: _Visible) -> None:
        self._text, self._decoder = text, codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._text.write(self._decoder.decode(bytes(data)))
        return len(data)


def clean_stderr() -> None:
    """From now on what Python code writes on stderr is only text there, whoever writes it: the parser of the command
    line, which quotes its arguments, a warning, a logger, the traceback of a bug with somebody's text in it.

    What we say ourselves has passed `console` before. The screen is drawn past it, on `sys.__stderr__`.
    """
    if sys.stderr is not None and not isinstance(sys.stderr, _Visible):
        sys.stderr = cast(TextIO, _Visible(sys.stderr))


def harmless(text: str) -> str:
    """What a library printed, as lines that command no terminal: progress that overwrites itself is a line each."""
    return visible(text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text)


def on_a_terminal() -> bool:
    """True when a person sits there: stdin, stdout and stderr are terminals. (The screen is drawn on stderr.)"""
    try:
        return all(stream is not None and stream.isatty() for stream in (sys.stdin, answers(), sys.stderr))
    except ValueError:  # one was closed
        return False


def terminal_gone(stream: TextIO | int | None) -> bool:
    """Whether this is a terminal that has hung up: its window is closed, its line is dropped.

    No signal needs to tell of it: none comes where it is ignored, or where the terminal is not the process's own, as
    under `su -c` or `setsid`. Reading is then at its end at once, again and again, and writing fails.
    """
    if stream is None:
        return False
    try:
        descriptor = stream if isinstance(stream, int) else stream.fileno()
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            return False  # a pipe whose other end is closed looks alike
        poll = select.poll()
        poll.register(descriptor, 0)
        return any(found & select.POLLHUP for _, found in poll.poll(0))
    except (OSError, ValueError):  # closed
        return False


# --- standard output for the answer alone ---

_answers: TextIO | None = None


def answers() -> TextIO | None:
    """The stream for a command's answer: stdout as it was before `own_stdout`; None if it is closed."""
    return _answers or sys.stdout


@contextmanager
def own_stdout() -> Iterator[None]:
    """Within it only `answers` leads to stdout: what any other code prints, a child process included, goes to stderr.
    """
    global _answers
    if _answers is not None or sys.stdout is None:
        yield
        return
    stdout, kept = sys.stdout, None
    with suppress(OSError, ValueError):
        if stdout.fileno() == 1:
            stdout.flush()
            kept = os.dup(1)
            os.dup2(2, 1)
    _answers = stdout if kept is None else os.fdopen(
        kept, "w", encoding=stdout.encoding, errors=stdout.errors, closefd=False)
    sys.stdout = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        yield
    finally:
        mine, _answers, sys.stdout = _answers, None, stdout
        with suppress(OSError, ValueError):
            mine.flush()
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def drop(stream: TextIO) -> None:
    """Let what is written to `stream` from now on, and what waits in it, go nowhere: it failed."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def lead_to(descriptor: int) -> None:
    """Let all that is printed from now on, answers too, go to this file: the terminal has gone away, say."""
    stream = answers()
    for number in {1, 2, stream.fileno() if stream else 1}:
        with suppress(OSError):
            os.dup2(descriptor, number)


# --- descriptors 1 and 2 away from the terminal ---

_MOST_TIDIED = 1 << 24  # bytes of a log at once
_lock = threading.RLock()
_holders = 0
_kept: tuple[int, int] | None = None
_open_log: Callable[[], int | None] | None = None
_log: int | None = None
_log_of_nobody: Callable[[], int | None] = lambda: os.open(os.devnull, os.O_RDWR)  # noqa: E731
_calls = 0
_aside: int | None = None  # see `cleaned`
_MOST_HELD = 4000  # bytes: some libraries say the same of each of a million keys
_python: tuple[TextIO, TextIO] | None = None


def take_away(log_of_nobody: Callable[[], int | None] | None = None) -> None:
    """Points descriptors 1 and 2 at the log of the run under way, until as many `give_back`.

    log_of_nobody: opens the file that is written while no run has a log.
    """
    global _holders, _kept, _log_of_nobody
    with _lock:
        _log_of_nobody = log_of_nobody or _log_of_nobody
        if _holders == 0:
            _flush()
            _kept = os.dup(1), os.dup(2)
        _holders += 1
        if _holders == 1:
            _point()


def give_back() -> None:
    """Descriptors 1 and 2 are what they were, once nobody wants them away any more."""
    global _holders, _kept
    with _lock:
        _holders -= 1
        if _holders == 0 and _kept is not None:
            _flush()
            for descriptor, kept in enumerate(_kept, 1):
                os.dup2(kept, descriptor)
                os.close(kept)
            _kept = None


def hang_up() -> None:
    """The terminal has gone: what is said from here on goes nowhere, where writing to it would be an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    with _lock:
        answering = [_answers.fileno()] if _answers is not None else []
        for descriptor in (0, *(_kept or (1, 2)), *answering):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


def stderr_descriptor() -> int:
    """Where stderr leads for us, whatever descriptor 2 is pointed at just now."""
    kept = _kept
    return kept[1] if kept else 2


@contextmanager
def logged(open_log: Callable[[], int | None]) -> Iterator[None]:
    """Within it a run is under way. open_log: opens its log for reading and appending, when it is first needed; None
    if that cannot be."""
    global _open_log, _log
    with _lock:
        before, _open_log, _log = (_open_log, _log), open_log, None
        if _holders:
            _point()
    try:
        yield
    finally:
        with _lock:
            mine, (_open_log, _log) = _log, before
            if _holders:
                _point()
            if mine is not None:
                os.close(mine)


def log(text: str) -> None:
    """Adds `text` to the log of the run under way, and shows it nowhere; lost where there is none."""
    with _lock, suppress(OSError):
        if (there := _the_log()) is not None:
            os.write(there, harmless(text).encode())


def on_stderr(text: str) -> None:
    """Writes `text`, a traceback of somebody's code say, on stderr as it is just now: within `captured` that is a log.
    """
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write(harmless(text))


def on_descriptor(number: int, text: str) -> None:
    """Writes `text` where descriptor 1 or 2 leads just now: while there is a screen, into a log."""
    with suppress(OSError):
        os.write(number, harmless(text).encode())


@contextmanager
def captured() -> Iterator[None]:
    """Around a call of somebody's own code: what it prints, logs and warns goes to the log of the run under way, and
    afterwards, where there is no screen, to stderr. While no run is under way it is left alone."""
    global _calls, _python
    with _lock:
        shown = not _holders
        if shown and (_open_log is None or _the_log() is None):
            log = None
        else:
            take_away()
            log = _log
            begin = os.fstat(log).st_size if log is not None else 0
            if _calls == 0:
                _python = sys.stdout, sys.stderr
                sys.stdout, sys.stderr = _OUT, _ERR
            _calls += 1
    if shown and log is None:
        yield
        return
    try:
        yield
    finally:
        with _lock:
            _OUT.flush()
            _ERR.flush()
            _calls -= 1
            if _calls == 0 and _python is not None:
                sys.stdout, sys.stderr = _python
                _python = None
            give_back()
            if log is not None and log == _log:
                _tidy(log, begin)
                if shown:
                    _pass_on(log, begin)


@contextmanager
def cleaned() -> Iterator[None]:
    """Around libraries that read somebody's files: what code that is not Python's writes to descriptors 1 and 2 is
    held back, and follows afterwards as text that commands no terminal; into a log, where they lead to one. Where it
    ends in an exception, which says what there is to say, only the log of a run gets it.

    What Python code says, progress among it, is not held back: it passes `clean_stderr`.
    """
    global _aside
    with _lock:
        if _aside is not None:  # we are inside of another one already
            nested = True
        else:
            nested, shown = False, not _holders
            _flush()
            held = tempfile.TemporaryFile()  # noqa: SIM115
            take_away()
            _aside = held.fileno()
            _point()
            python = sys.stdout, sys.stderr
            if shown and _kept is not None:
                direct = cast(TextIO, _Visible(_to(_kept[1])))
                sys.stdout, sys.stderr = direct if sys.stdout is sys.stderr else sys.stdout, direct
    if nested:
        yield
        return
    failed = True
    try:
        yield
        failed = False
    finally:
        with _lock:
            sys.stdout, sys.stderr = python
            _aside = None
            if _holders > 1:
                _point()
            give_back()
        with held:
            held.seek(0)
            said = held.read(_MOST_HELD).decode("utf-8", "replace")
            if held.read(1):
                said = said.rpartition("\n")[0] + "\n… and more of the kind\n"
        if said:
            if failed and shown:
                log(said)
            else:
                on_descriptor(2, said)


# ---------------------------------------------------------------------------------------------------------------------


def _the_log() -> int | None:
    global _log
    if _log is None and _open_log is not None:
        _log = _open_log()
    return _log


def _point() -> None:
    target, mine = _the_log() if _aside is None else _aside, False
    if target is None:
        target, mine = _log_of_nobody(), True
    if target is None:
        target = os.open(os.devnull, os.O_RDWR)
    os.dup2(target, 1)
    os.dup2(target, 2)
    if mine:
        os.close(target)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, _OUT, _ERR):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _tidy(log: int, begin: int) -> None:
    """Makes harmless what child processes and libraries without Python added to the log since it was `begin` bytes
    long. What somebody adds at this very moment may be lost, and only where there was something to mend."""
    with suppress(OSError):
        size = os.fstat(log).st_size - begin
        if not 0 < size <= _MOST_TIDIED:
            return
        data = os.pread(log, size, begin)
        mended = harmless(data.decode("utf-8", "replace")).encode()
        if mended != data:
            os.ftruncate(log, begin)
            os.write(log, mended)  # at the end: it was opened for appending


def _pass_on(log: int, begin: int) -> None:
    """What was added to the log since it was `begin` bytes long, to stderr."""
    end = os.fstat(log).st_size
    with suppress(OSError, ValueError, AttributeError):
        while begin < end:
            data = os.pread(log, min(1 << 16, end - begin), begin)
            if not data:
                break
            begin += len(data)
            sys.stderr.write(harmless(data.decode("utf-8", "replace")))
        sys.stderr.flush()


class _Raw(io.RawIOBase):
    """A file descriptor that is never closed, and whose writing never fails: a full disk must not end a run that has
    printed something."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        left = view
        with suppress(OSError):
            while left:
                left = left[os.write(self._descriptor, left) :]
        return len(view)


class _Text(io.TextIOWrapper):
    """What is written as text is harmless."""

    def write(self, text: str) -> int:
        super().write(harmless(text))
        return len(text)


def _to(descriptor: int) -> TextIO:
    return _Text(io.BufferedWriter(_Raw(descriptor)), encoding="utf-8", errors="backslashreplace", line_buffering=True)


# whoever keeps one of these, as a logging handler does, writes to wherever the descriptor leads by then
_OUT, _ERR = _to(1), _to(2)
