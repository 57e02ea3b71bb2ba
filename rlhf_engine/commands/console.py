"""Plain lines and JSON for people and programs that run the engine without a screen; and its signals."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlhf_engine.errors import OutputError, short
from rlhf_engine.events import (
    Alarm,
    CheckpointSaved,
    EditRefused,
    Event,
    ModelLoaded,
    Notice,
    Profiled,
    RolledBack,
    RunStarted,
    RunState,
    StartProfiled,
    StateChanged,
    StepFinished,
    TimeSpent,
)
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.json_text import to_json
from rlhf_engine.metrics import describe
from rlhf_engine.system.streams import answers, drop, stderr_descriptor, terminal_gone
from rlhf_engine.system.units import format_clock
from rlhf_engine.system.visible_text import one_line

_NOBODY_READS = (errno.EPIPE, errno.EIO)  # a pipe whose reader has left, a terminal that is gone


_LONGEST_SENTENCE = 4000  # characters of a line for people; what it quotes may be a file of somebody's
_WIDEST_CELL, _WIDEST_LAST_CELL = 100, 1000
_SCORE, _SPEED = "objective/scores", "throughput/responses_per_s"
_FORMS = {_SCORE: ("+z.2f", ""), "objective/kl": ("z.2f", " nats/response"), "loss/policy_avg": ("+z.4f", ""),
          "loss/value_avg": (".3f", "")}
"""How metrics of methods that sample are written in the line of a step, and their unit there."""


def out(*lines: str) -> None:
    """Lines of a command's answer, on stdout. Raises OutputError when they cannot be written.

    All that commands print goes through here and `say`. An argument is one line whatever it holds, a name with a
    newline, say: nobody but us begins a line of ours. What a terminal would obey has a visible stand-in, and what the
    encoding of the stream lacks is degraded. A text of several lines is split by whoever prints it.
    """
    _write("\n".join(map(one_line, lines)))


def print_json(value: dict[str, Any]) -> None:
    """One line of valid, ASCII-only JSON on stdout; what is not finite is null. Raises OutputError as `out` does."""
    _write(to_json(value))


def _write(text: str) -> None:
    stream = answers()
    if stream is None:
        raise OutputError("stdout is closed: there is nowhere to print to")
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError) as error:
        hung_up = terminal_gone(stream)
        drop(stream)  # else what still waits in it is written, and fails, once more when the process ends
        number = error.errno if isinstance(error, OSError) else errno.EPIPE  # ValueError: closed within this process
        reason = os_error_reason(error) if isinstance(error, OSError) else str(error)
        raise OutputError(f"stdout could not be written: {reason}", gone=number in _NOBODY_READS,
                          hung_up=hung_up) from error


def say(*lines: str) -> None:
    """Lines for people on stderr, so that stdout stays clean, each as `out` has them, and none endless; lost where
    nobody can read them."""
    _on_stderr("\n".join(short(line, _LONGEST_SENTENCE) for line in lines) + "\n")


def confirm(question: str) -> bool:
    """Asks a person at the terminal; no, where nobody answers."""
    _on_stderr(f"{short(question, _LONGEST_SENTENCE)} [y/N] ")
    try:
        return sys.stdin is not None and sys.stdin.readline().strip().lower() in ("y", "yes")
    except (OSError, ValueError):  # the terminal has gone, or stdin was closed
        return False


def ask(question: str) -> str:
    """Asks a person at the terminal for one line; empty, where nobody answers."""
    _on_stderr(f"{short(question, _LONGEST_SENTENCE)} ")
    try:
        return sys.stdin.readline().strip() if sys.stdin is not None else ""
    except (OSError, ValueError):  # the terminal has gone, or stdin was closed
        return ""


def _on_stderr(text: str) -> None:
    if sys.stderr is not None:  # to print, None means stdout
        with suppress(OSError, ValueError):
            print(text, end="", file=sys.stderr, flush=True)


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as their widest cell, the last one ragged; cells longer than any line are cut."""
    cells = [[short(cell, _WIDEST_CELL if place < len(row) - 1 else _WIDEST_LAST_CELL)
              for place, cell in enumerate(row)] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    out(*("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells))


def step_line(event: StepFinished, seconds_left: float, charts: Sequence[str] = tuple(_FORMS)) -> str:
    """What one step did, on one line of constant layout. charts: the metrics that tell most of the run's method."""
    width = len(str(event.total_steps))
    told = []
    for name in charts:
        form, unit = _FORMS.get(name, (".4g", ""))
        if name in _FORMS or name in event.metrics:  # those of a form of their own keep their place in the line
            told.append(f"{one_line(describe(name).title)} {event.metrics.get(name, math.nan):{form}}{unit}")
    if _SCORE in charts or _SPEED in event.metrics:
        told.append(f"{event.metrics.get(_SPEED, math.nan):.1f} responses/s")
    return "  ".join([f"step {event.step:{width}}/{event.total_steps}", *told, f"ETA {format_clock(seconds_left)}"])


def profile_table(profiled: Profiled) -> str:
    """Where a step's time went, as lines for people."""

    def lines(rows: tuple[TimeSpent, ...]) -> list[str]:
        return [f"{_spent(row, profiled.seconds)}  {row.count:>6} times" for row in rows]

    rest = profiled.seconds - sum(row.seconds for row in profiled.parts)
    return "\n".join([
        f"where step {profiled.step} went ({profiled.seconds:.2f} s; profiling slows it):",
        *lines((*profiled.parts, TimeSpent("the rest", rest, 1))),
        "the operators that took longest (all threads wait for each):",
        *lines(profiled.operators),
    ])


def start_table(profiled: StartProfiled) -> str:
    """Where the time before and in the first step went, as lines for people."""
    return "\n".join([f"where the start went ({profiled.seconds:.2f} s):",
                      *(_spent(row, profiled.seconds) for row in profiled.parts)])


def _spent(row: TimeSpent, whole: float) -> str:
    return f"  {row.name:<28} {row.seconds:8.3f} s {row.seconds / whole:6.1%}"


class Reporter:
    """Turns a run's events into lines: for people, or with `as_json` one JSON object a step or alarm, and one at the
    end.

    When the reader of stdout goes away, or the terminal, `stop` is called, to stop the run, which saves it. When stdout
    cannot be written for another reason, a full disk say, that is said once and the run continues.
    """

    def __init__(self, stop: Callable[[], object], as_json: bool) -> None:
        self._stop, self._as_json = stop, as_json
        self._charts: Sequence[str] = tuple(_FORMS)
        self.failed = False
        """True once a line could not be written."""
        self.hung_up = False
        """True once that was so since the terminal has gone away."""
        self._end: dict[str, Any] = {"event": "end", "run": "", "path": "", "checkpoint": ""}

    def emit(self, event: Event) -> None:
        """Takes one event; called in the thread that trains."""
        try:
            self._emit(event)
        except OutputError as error:
            if answers() is None:
                return  # closed before we began: somebody wanted it so
            if error.gone:
                self._stop()
            elif not self.failed:
                say(f"warning: {error}; the run continues without")
            self.failed, self.hung_up = True, self.hung_up or error.hung_up

    def _emit(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._end |= {"run": event.name, "path": event.path}
                self._charts = event.config.algorithm.charts
                self._line(f"run {event.name} in {event.path}"
                           + (f", resumed from step {event.first_step}" if event.first_step else ""))
            case ModelLoaded():
                self._line(f"{event.name}: {event.parameters:,} parameters, {event.trainable:,} of them trained, "
                           f"on {event.device} in {event.dtype}, {event.threads} thread{'s' * (event.threads != 1)}, "
                           f"matmul peak {event.matmul_peak / 1e9:,.0f} GFLOP/s")
            case StepFinished():
                self._step(event)
            case StartProfiled():
                if self._as_json:
                    print_json({"event": "start", **asdict(event)})
                self._line(*start_table(event).split("\n"))
            case Profiled():
                if self._as_json:
                    print_json({"event": "profile", **asdict(event)})
                self._line(*profile_table(event).split("\n"))
            case Alarm() if self._as_json:
                print_json({"event": "alarm", "step": event.step, "kind": event.kind, "text": event.text})
            case Alarm():
                say(f"warning: step {event.step}: {event.text}")
            case RolledBack() if self._as_json:  # for people, an alarm says the same
                print_json({"event": "rolled_back", "step": event.step, "text": event.text})
            case EditRefused():
                say(f"warning: {event.text}")
            case CheckpointSaved():
                self._end["checkpoint"] = event.path
            case Notice():
                say(f"{event.level}: {event.text}")
            case StateChanged() if event.state.ended:
                self._end |= {"state": event.state.value, "step": event.step, "total_steps": event.total_steps,
                              "message": event.message}
                if self._as_json:
                    print_json(self._end)
                elif event.state is not RunState.FAILED:
                    self._line(event.message or event.state.value)
                elif self._end["path"] and not Path(self._end["path"]).exists():
                    # the error itself follows; what it does not say is that the run just named is gone
                    self._line(f"run {self._end['run']} had not begun, and was not kept")

    def _step(self, event: StepFinished) -> None:
        if self._as_json:
            print_json({"event": "step", "step": event.step, "total_steps": event.total_steps,
                        "seconds": event.seconds, "metrics": dict(event.metrics)})
            return
        left = event.seconds / event.step * (event.total_steps - event.step)
        self._line(step_line(event, left, self._charts))

    def _line(self, *lines: str) -> None:
        if not self._as_json:
            out(*lines)


class Signals:
    """Which signal asked the run to stop, if one did."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @property
    def exit_code(self) -> int | None:
        """128 + the signal's number (130 for Ctrl-C, 143 for SIGTERM), or None."""
        return 128 + self.received if self.received else None


@contextmanager
def stopped_by_signals(
    stop: Callable[[], object], *, leave: Callable[[], object] = lambda: None,
    hung_up: Callable[[], object] | None = None,
) -> Iterator[Signals]:
    """SIGINT, SIGTERM and SIGHUP call `stop`, to end the run after its step, and save it; a second one leaves at once.

    Leaving at once is safe: checkpoints are whole or absent. An ignored SIGHUP (nohup) stays ignored, and so does a
    second one: shell and kernel may each send it when a terminal goes away.

    leave: called before a second one leaves. hung_up: called at SIGHUP, in the place of all that.
    """
    signals = Signals()

    def handle(number: int, frame: object) -> None:
        if number == signal.SIGHUP and hung_up is not None:
            hung_up()
            return
        if signals.received and number == signal.SIGHUP:
            return
        if signals.received:
            leave()
            os._exit(128 + number)
        signals.received = signal.Signals(number)
        stop()
        with suppress(OSError):  # stderr may be gone with the terminal; that must not break the step under way
            os.write(stderr_descriptor(), b"\nstopping after this step, with a checkpoint; once more leaves at once\n")

    wanted = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
              if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield signals
    finally:
        if not signals.received:  # else we are on our way out, where one more Ctrl-C must leave and not raise
            for number, handler in before.items():
                signal.signal(number, handler)
