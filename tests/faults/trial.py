"""One case tried in a process of its own, and measured from outside: how long it computed or waited, and what it said.

What counts is not the clock, which a busy machine lets run on: it is the time in which the process computed, and that
in which all of its threads waited for something. A thread that only waits for its turn to compute does neither.
"""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from faults.cases import Case, Decoy
from faults.doors import Door, Subject
from faults.judge import (
    MEMORY_BYTES,
    Guard,
    Offence,
    holds_commands,
    of_exception,
    of_json,
    of_output,
    of_written,
    state_of,
    written_outside,
)
from faults.material import Place, copied

LIMIT_SECONDS = 2.0
"""That a case may take beyond what its door takes of sound files."""
_LOOK_SECONDS = 0.02
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_OF_DATA = 3 * 10**9  # bytes that a case may ask for before it is refused: more than it may need, less than there are
_OF_A_FILE = 10**9
_MOST_READ = 2_000_000


@dataclass
class Verdict:
    """What came of a case. seconds: computed and waited. growth: bytes of memory above what there was before."""

    number: int
    door: str
    damaged: list[str] = field(default_factory=list)
    offences: list[Offence] = field(default_factory=list)
    code: int | None = None
    seconds: float = 0.0
    growth: int = 0


class Trial:
    """A case that is being tried. Call `over` again and again until it says so; then `verdict` holds."""

    def __init__(
        self, case: Case | None, door: Door, original: Place, root: Path, decoy: Decoy, allowed: Verdict
    ) -> None:
        """case: None tries sound files. allowed: what the door needs of those."""
        self.root, self._allowed = root, allowed
        self.verdict = Verdict(case.number if case else -1, allowed.door)
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        self._told, self._begun = b"", False
        self._clock, self._waited, self._computed, self._before = time.monotonic(), 0.0, 0.0, 0.0
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            try:
                _try(case, door, original, root, decoy, write)
            except BaseException:  # a mistake of the fuzzer's own
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(70)
        os.close(write)

    def over(self) -> bool:
        """Looks at the process; True once it has ended, or has taken too long and was ended."""
        with suppress(BlockingIOError):
            while data := os.read(self._read, 65536):
                self._told += data
        now = time.monotonic()
        passed, self._clock = now - self._clock, now
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if ended:
            self._conclude(os.waitstatus_to_exitcode(status))
            return True
        if self._told[:1] == b"r" and b"\n" not in self._told:
            self._measure(passed)
            if self._computed - self._before + self._waited > self._allowed.seconds + LIMIT_SECONDS:
                self._end()
                return True
        return False

    def _measure(self, passed: float) -> None:
        try:
            states = {_state(thread) for thread in Path(f"/proc/{self.pid}/task").iterdir()}
            whole = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return
        computed = (int(whole[11]) + int(whole[12])) * _TICK
        if not self._begun:
            self._begun, self._before = True, computed
        elif states <= {"S", "D"} and computed - self._computed < 2 * _TICK:
            self._waited += min(passed, 5 * _LOOK_SECONDS)  # had we not looked for long, we would not know
        self._computed = computed

    def _end(self) -> None:
        os.kill(self.pid, signal.SIGUSR1)  # it writes down where its threads are
        time.sleep(0.3)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._conclude(-signal.SIGKILL, hung=True)

    def _conclude(self, code: int, hung: bool = False) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._read, 65536):
                self._told += data
        os.close(self._read)
        self.verdict.seconds = self._computed - self._before + self._waited
        with suppress(OSError):
            self.verdict.damaged = json.loads((self.root.with_suffix(".damaged")).read_text())
        told = self._told.partition(b"\n")[2]
        if hung:
            stacks = _text(self.root.with_suffix(".stacks"))
            places = [line.strip() for line in stacks.splitlines() if "/rlhf_" in line]
            where = places[0].rpartition("/")[2] if places else "nowhere in our code"
            told_where = f"after {self.verdict.seconds:.1f} s:\n{stacks[:3000]}"
            self.verdict.offences.append(Offence("hang", where, told_where))
        elif code or not told:
            said = _text(self.root.with_suffix(".stderr"))[-3000:]
            self.verdict.offences.append(Offence("exit code", f"the process ended with {code}", said))
        else:
            found = json.loads(told)
            self.verdict.offences += [Offence(**offence) for offence in found["offences"]]
            self.verdict.code, self.verdict.growth = found["code"], found["growth"]

    def clear(self) -> None:
        """Takes away what the case left behind."""
        shutil.rmtree(self.root, ignore_errors=True)
        for suffix in (".stdout", ".stderr", ".stacks", ".damaged"):
            self.root.with_suffix(suffix).unlink(missing_ok=True)


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


# --- in the process of the case ---


def _try(case: Case | None, door: Door, original: Place, root: Path, decoy: Decoy, told: int) -> None:
    os.setsid()
    answer, said = (os.open(root.with_suffix(suffix), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                    for suffix in (".stdout", ".stderr"))
    for descriptor, there in enumerate((os.open(os.devnull, os.O_RDONLY), answer, said)):
        os.dup2(there, descriptor)
    faulthandler.register(signal.SIGUSR1, root.with_suffix(".stacks").open("w"), all_threads=True)
    place = copied(original, root)
    os.environ |= place.environment()
    tempfile.tempdir = None  # asked for anew
    os.chdir(root)
    subject = Subject()
    trusted = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / "rewards").iterdir()}
    if case:
        subject = case.damage(place, decoy)
        root.with_suffix(".damaged").write_text(json.dumps(case.damaged))
    _meek()
    before, may_write = state_of(root), door.may_write(place)
    theirs = bool(door.writes) and holds_commands(before)
    guard = Guard(root, [*may_write, answer_file(root)], trusted)
    resident = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # from here on, the most that is resident is told anew
    found: list[Offence] = []
    code, raised = None, False
    guard.begin()
    os.write(told, b"r")
    try:
        code, found = door.open(place, subject)
    except BaseException as error:  # whatever it is, it has come through
        found, raised = [of_exception(error)], True
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()  # as the interpreter does before it leaves; a hang is noticed from outside
    os.write(told, b"\n")
    guard.end()
    growth = _memory("VmHWM") - resident
    found += guard.offences
    after = state_of(root)
    found += written_outside(before, after, may_write) + of_written(before, after, theirs)
    if not door.keys and not raised:
        found += of_output(code, os.pread(answer, _MOST_READ, 0), os.pread(said, _MOST_READ, 0))
        if "--json" in door.arguments and os.fstat(answer).st_size < _MOST_READ:
            found += of_json(os.pread(answer, _MOST_READ, 0))
    if (root / "ran").exists():
        found.append(Offence("code", "planted", "planted code was run"))
    for log in (place.home / "state").rglob("crash-*.log"):
        lines = _text(log).rstrip().splitlines() or [""]
        found.append(Offence("traceback", f"crash log: {lines[-1][:80]}", _text(log)[-3000:]))
    if growth > MEMORY_BYTES:
        found.append(Offence("memory", door.name, f"{growth / 1e6:.0f} MB more than before"))
    left = json.dumps({"offences": [asdict(offence) for offence in found], "code": code, "growth": growth}).encode()
    while left:
        left = left[os.write(told, left) :]
    os._exit(0)


def answer_file(root: Path) -> Path:
    """Where the stdout of a case goes."""
    return root.with_suffix(".stdout")


def _memory(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _meek() -> None:
    """From now on root reads only what its owner may read, and no case fills memory or disk."""
    if os.geteuid() == 0:
        header, empty = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None, use_errno=True).capset(header, empty) == 0, "the rights of root could not be given up"
    data = _memory("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (data + _OF_DATA, data + _OF_DATA))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_OF_A_FILE, _OF_A_FILE))
