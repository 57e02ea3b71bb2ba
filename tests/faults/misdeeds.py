"""What the fuzzer must notice, done on purpose: python -m faults.misdeeds ROOT prints a JSON line for each, name and
kinds of offences that were found."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults.cases import Decoy
from faults.doors import Door, Subject
from faults.judge import Offence
from faults.material import Place
from faults.trial import Trial, Verdict

SOUND = Verdict(-1, "misdeed", seconds=0.1)


def _raise() -> None:
    raise KeyError("nobody catches it")


def _compute() -> None:
    while True:
        pass


def _wait() -> None:
    os.mkfifo("home/fifo")
    Path("home/fifo").read_bytes()


def _leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(1000,)).start()


def _run_code() -> None:
    Path("home/planted.py").write_text("")
    sys.path.insert(0, str(Path("home").absolute()))
    __import__("planted")


def _unpickle() -> None:
    import pickle

    pickle.loads(b"cos\ngetpid\n.")


def _write_natively() -> None:
    """As a library does that was not written in Python."""
    _natively_made("canary/secret.txt")


def _ended() -> None:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    process.kill()
    process.wait()


def _natively_made(name: str) -> None:
    library = ctypes.CDLL(None)
    library.close(library.creat(name.encode(), 0o600))


def _write_through_a_link() -> None:
    Path("home/link").symlink_to(Path("canary/secret.txt").absolute())
    Path("home/link").write_text("")


def _fill_memory() -> None:
    bytearray(os.urandom(1)) * 700_000_000


DEEDS: dict[str, tuple[str, Callable[[], object]]] = {
    "nothing": ("", lambda: print("fine", file=sys.stderr)),
    "a sentence, a tab and an emoji": ("", lambda: print("bad\tnews 👩\u200d🚀 日本\nno more")),
    "an exception": ("traceback", _raise),
    "a traceback printed": ("traceback", lambda: print("Traceback (most recent call last):\n  x\nKeyError: 1")),
    "a loop": ("hang", _compute),
    "a FIFO that nobody writes": ("hang", _wait),
    "a thread that nobody waits for": ("hang", _leave_a_thread),
    "an escape on stdout": ("control character", lambda: print("\x1b[31mred")),
    "a C1 control on stderr": ("control character", lambda: print("\x9b31m", file=sys.stderr)),
    "a bidi override": ("control character", lambda: print("\u202eabc")),
    "a line separator": ("control character", lambda: print("\u2028")),
    "a carriage return": ("control character", lambda: print("over\rwritten")),
    "bytes that are no UTF-8": ("control character", lambda: os.write(1, b"\xff")),
    "an escape in a text": ("control character", lambda: Path("home/x.txt").write_text("\x1b[31m")),
    "a file elsewhere": ("write", lambda: Path("canary/new").write_text("")),
    "a file written through a link": ("write", _write_through_a_link),
    "a file removed": ("write", lambda: Path("canary/secret.txt").unlink()),
    "a file renamed": ("write", lambda: Path("canary/secret.txt").rename("home/mine")),
    "a folder made": ("write", lambda: Path("runs/new").mkdir()),
    "a mode changed": ("write", lambda: Path("canary/secret.txt").chmod(0o777)),
    "a file written by native code": ("write", _write_natively),
    "a signal": ("signal", lambda: os.kill(os.getppid(), signal.SIGWINCH)),
    "a signal to everybody": ("signal", lambda: os.kill(-1, signal.SIGTERM)),
    "a module imported": ("code", _run_code),
    "a pickle": ("code", _unpickle),
    "what planted code leaves": ("code", lambda: _natively_made("ran")),
    "a program": ("program", lambda: subprocess.run(["true"])),
    "python, which would take code from here": ("program", lambda: subprocess.run([sys.executable, "-c", ""])),
    "python that takes code from nowhere, and is ended": ("", _ended),
    "a connection": ("connection", lambda: socket.create_connection(("127.0.0.1", 9))),
    "700 MB": ("memory", _fill_memory),
    "an unknown exit code": ("exit code", lambda: sys.exit(3)),  # and without a word
    "the end of the process": ("exit code", lambda: os._exit(9)),
    "a failure without a word": ("words", lambda: sys.exit(1)),
    "a flood of words": ("words", lambda: (print("wrong\n" * 1000, file=sys.stderr), sys.exit(2))),
}


@dataclass(frozen=True)
class Misdeed(Door):
    """A door behind which something is done that none may do. An offence is thrown by the guard; here it is caught, as
    it may be by the code that is judged."""

    def open(self, place: Place, subject: Subject) -> tuple[int | None, list[Offence]]:
        try:
            DEEDS[self.name][1]()
        except SystemExit as left:
            return left.code if isinstance(left.code, int | None) else 99, []
        except OSError:
            return 0, []
        return 0, []


def main() -> None:
    """Each deed, in a process of its own."""
    root = Path(sys.argv[1])
    place = Place(root / "original")
    for folder in (place.runs, place.canary, place.home / "state", place.root / "rewards"):
        folder.mkdir(parents=True)
    (place.canary / "secret.txt").write_text("a secret\n")
    for number, name in enumerate(DEEDS):
        trial = Trial(None, Misdeed(name, (), 1), place, root / f"{number:08d}", Decoy(os.getpid()), SOUND)
        while not trial.over():
            time.sleep(0.01)
        kinds = sorted({offence.kind for offence in trial.verdict.offences})
        print(json.dumps({"name": name, "kinds": kinds}), flush=True)
        trial.clear()


if __name__ == "__main__":
    main()
