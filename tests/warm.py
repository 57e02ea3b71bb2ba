"""Commands that need the libraries, begun in a moment: forks of an interpreter that has imported them already.

Importing torch, transformers and peft takes some five seconds of a core, forking takes none. A test whose point is how
a command behaves as a process of its own, with its streams, signals and exit code, begins it here. One whose point is
how a process starts (what it imports, from where, with which encoding) begins a real one.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import Popen  # the real one, whatever a test puts in its place
from typing import Any, TextIO

from moments import wait_until

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE = 250.0  # seconds
CLOSED = -1  # in the place of a stream's descriptor
HUB = Path(tempfile.mkdtemp(prefix="rlhf-hub-"))  # what a warm command finds of the hub, in its folder `hub`
# of no test: what a library reads when it is imported holds for all
_ENVIRONMENT = os.environ | {"HF_HOME": str(HUB), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


class Process:
    """A command that runs: `arguments` are those of Python, so ("-m", module, …) or ("-c", code, …).

    stdin, stdout and stderr are descriptors, nothing by default, or CLOSED. It leads a session of its own, which a
    `controlling` terminal on stdin controls.
    """

    def __init__(self, arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None,
                 stdin: int | None = None, stdout: int | None = None, stderr: int | None = None,
                 controlling: bool = False, ignores: Sequence[signal.Signals] = ()) -> None:
        nothing = os.open(os.devnull, os.O_RDWR)
        try:
            asked = (stdin, stdout, stderr)
            streams = [nothing if stream in (None, CLOSED) else stream for stream in asked]
            wanted = _Wanted(list(arguments), str(cwd), dict(os.environ if environment is None else environment),
                             controlling, [int(number) for number in ignores],
                             [number for number, stream in enumerate(asked) if stream == CLOSED])
            self._ended, theirs = socket.socketpair()
            with theirs:
                _interpreter().request(pickle.dumps(wanted), [theirs.fileno(), *streams])
        finally:
            os.close(nothing)
        self.pid = int(self._line())
        self.returncode: int | None = None
        self.seconds_used = 0.0  # of processor time, once it has ended

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += (byte := self._ended.recv(1))
            assert byte, "the interpreter apart has ended"
        return line

    def poll(self) -> int | None:
        """How it ended, as `subprocess` tells it; None while it runs."""
        with contextlib.suppress(TimeoutError, subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float = _PATIENCE) -> int:
        """Wait for its end: the exit code, or minus the signal that ended it."""
        if self.returncode is None:
            self._ended.settimeout(max(timeout, 1e-4))
            try:
                code, used = self._line().split()
            except TimeoutError:
                raise subprocess.TimeoutExpired("a warm command", timeout) from None
            self.returncode, self.seconds_used = int(code), float(used)
            self._ended.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """As long as it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)


class ColdProcess:
    """The same, begun as a user begins it: by a new interpreter, which reads its environment and imports all anew."""

    def __init__(self, arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str], stdin: int, stdout: int,
                 stderr: int, controlling: bool = False, ignores: Sequence[signal.Signals] = ()) -> None:
        code = ("import fcntl, os, signal, sys, termios; "
                + "".join(f"signal.signal({int(number)}, signal.SIG_IGN); " for number in ignores)
                + ("fcntl.ioctl(0, termios.TIOCSCTTY, 0); " if controlling else "")
                + "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])")
        self._process = subprocess.Popen([sys.executable, "-I", "-S", "-c", code, *arguments], cwd=cwd, env=environment,
                                         stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)
        self.pid, self.seconds_used = self._process.pid, 0.0

    def poll(self) -> int | None:
        """How it ended; None while it runs."""
        if self._process.returncode is None:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self.seconds_used = used.ru_utime + used.ru_stime
        return self._process.returncode

    def wait(self, timeout: float = _PATIENCE) -> int:
        """Wait for its end."""
        wait_until(lambda: self.poll() is not None)
        assert self._process.returncode is not None
        return self._process.returncode


@dataclass(frozen=True)
class Piped:
    """A command whose output is read while it runs."""

    process: Process
    stdout: TextIO
    stderr: TextIO


def piped(arguments: Sequence[str], *, cwd: Path, **environment: str) -> Piped:
    """Begin a command; `environment` is added to ours."""
    (out, its_out), (err, its_err) = os.pipe(), os.pipe()
    try:
        process = Process(arguments, cwd=cwd, environment=os.environ | environment, stdout=its_out, stderr=its_err)
    finally:
        os.close(its_out)
        os.close(its_err)
    return Piped(process, *(open(stream, encoding="utf-8", errors="surrogateescape") for stream in (out, err)))


def run(arguments: Sequence[str], *, cwd: Path, timeout: float = _PATIENCE, **environment: str
        ) -> subprocess.CompletedProcess[str]:
    """The command from its start to its end, with what it wrote; `environment` is added to ours."""
    # pipes: how large a file may be is the point of some tests
    command = piped(arguments, cwd=cwd, **environment)
    said = {}

    def read(name: str, stream: TextIO) -> None:
        with stream:
            said[name] = stream.read()

    readers = [threading.Thread(target=read, args=pair) for pair in (("out", command.stdout), ("err", command.stderr))]
    for reader in readers:
        reader.start()
    try:
        code = command.process.wait(timeout)
    except BaseException:
        command.process.send_signal(signal.SIGKILL)
        raise
    for reader in readers:
        reader.join()
    return subprocess.CompletedProcess(list(arguments), code, said["out"], said["err"])


@dataclass(frozen=True)
class _Wanted:
    arguments: list[str]
    cwd: str
    environment: dict[str, str]
    controlling: bool
    ignores: list[int]
    closed: list[int]


class _Interpreter:
    """The interpreter that is forked. It ends with the process that began it, however that ends."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; import warm; warm.serve(0)"
            self._process = Popen([sys.executable, "-c", code], stdin=theirs, start_new_session=True, env=_ENVIRONMENT)
        self._socket = ours

    def request(self, text: bytes, descriptors: list[int]) -> None:
        # as much as a stream takes at once goes with the descriptors, the rest behind it
        head = len(text).to_bytes(8, "big")
        socket.send_fds(self._socket, [head], descriptors)
        self._socket.sendall(text)


@cache
def _interpreter() -> _Interpreter:
    return _Interpreter()


# --- in the interpreter that is forked ---


def serve(descriptor: int) -> None:
    """Import all, then fork for each request until whoever asks has gone."""
    with socket.socket(fileno=os.dup(descriptor)) as asked:
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
        _import_all()
        while True:
            head, descriptors, *_ = socket.recv_fds(asked, 8, 4)
            if not head:
                return
            text = b""
            while len(text) < int.from_bytes(head, "big"):
                text += asked.recv(int.from_bytes(head, "big") - len(text))
            if os.fork() == 0:
                asked.close()
                _watch(descriptors, pickle.loads(text))
            for received in descriptors:
                os.close(received)
            _reap()


def _import_all() -> None:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # a thread of ours would be missing in each fork
    for name in ("tiny_models", "rlhf_engine.commands.cli", "rlhf_engine.session", "rlhf_engine.exporting.export",
                 "rlhf_engine.training.trainer", "rlhf_tui.app", "rlhf_tui.cli", "peft", "faults.laboratory",
                 *(f"transformers.models.{kind}.modeling_{kind}" for kind in ("gpt_neo", "llama", "gpt2"))):
        importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()  # else each fork copies what its first look for garbage touches


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(descriptors: list[int], wanted: _Wanted) -> None:
    """A child of the interpreter, which forks once more and tells how that ended. Never returns."""
    told = socket.socket(fileno=descriptors[0])
    try:
        pid = os.fork()
        if pid == 0:
            told.close()
            _become(descriptors[1:], wanted)
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        told.sendall(f"{pid}\n".encode())
        _, status, used = os.wait4(pid, 0)
        told.sendall(f"{os.waitstatus_to_exitcode(status)} {used.ru_utime + used.ru_stime}\n".encode())
    finally:
        os._exit(0)


def _become(streams: list[int], wanted: _Wanted) -> None:
    """The command itself. Never returns."""
    code = 1
    try:
        os.setsid()
        if wanted.controlling:
            fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for stream in {*streams} - {0, 1, 2}:
            with contextlib.suppress(OSError):
                os.close(stream)
        os.chdir(wanted.cwd)
        os.environ.clear()
        os.environ.update(wanted.environment)
        for number in wanted.ignores:
            signal.signal(number, signal.SIG_IGN)
        _open_streams()
        for number in wanted.closed:
            name = ("stdin", "stdout", "stderr")[number]
            setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)
            os.close(number)
        code = _exit_code(wanted.arguments)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _open_streams() -> None:
    """As a start opens them: written at once where a person reads, and errors always."""
    encoding, _, strictness = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdin = sys.__stdin__ = open(0, encoding=encoding, closefd=False)  # noqa: SIM115
    for name, number, errors in (("stdout", 1, strictness or "strict"), ("stderr", 2, "backslashreplace")):
        raw = open(number, "wb", closefd=False)  # noqa: SIM115
        live = number == 2 or os.isatty(number)
        stream = io.TextIOWrapper(raw, encoding=encoding, errors=errors, line_buffering=live,
                                  write_through=bool(os.environ.get("PYTHONUNBUFFERED")))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _exit_code(arguments: list[str]) -> int:
    """Run it as Python would; what it ends with."""
    flag, what, *rest = arguments
    main: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        try:
            sys.path[0] = os.getcwd() if flag == "-m" else ""
            sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
            if flag == "-m":
                sys.argv = [what, *rest]
                runpy.run_module(what, run_name="__main__", alter_sys=True)
            else:
                sys.argv = ["-c", *rest]
                exec(compile(what, "<string>", "exec"), main)
        finally:
            for thread in threading.enumerate():
                if thread is not threading.current_thread() and not thread.daemon:
                    thread.join()
            atexit._run_exitfuncs()
    except SystemExit as left:
        if isinstance(left.code, int | None):
            return left.code or 0
        print(left.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
