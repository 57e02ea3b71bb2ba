"""Whether a command or a screen did what none may do, whatever it was given to read.

A `Guard` watches one process from within, by Python's audit events: files written outside of where the command may
write, signals, code run, pickles, programs started, connections made. It not only sees these, it prevents them: a
fuzzer must not do what it looks for. What native code writes is told by comparing the folders before and after. The
guard cannot be taken off again, so each case has a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
import threading
import traceback
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

MOST_LINES, MOST_CHARACTERS = 50, 10_000
"""Of what is said on stderr: a sentence or a few, one for each mistake of a preset, progress and warnings too."""
MEMORY_BYTES = 300_000_000
"""That a case may need beyond what the same command needs of sound files."""
EXIT_CODES = (0, 1, 2, 130)

_ROOTS_OF_NOBODY = ("/dev/null", "/proc/self/", "/dev/tty", "/dev/pts/")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# event -> which of its arguments are written to
_WRITES = {"os.remove": (0,), "os.rename": (0, 1), "os.mkdir": (0,), "os.rmdir": (0,), "os.symlink": (1,),
           "os.link": (1,), "os.chmod": (0,), "os.chown": (0,), "os.truncate": (0,), "os.utime": (0,),
           "os.setxattr": (0,), "os.removexattr": (0,), "shutil.rmtree": (0,), "shutil.move": (0, 1)}
_COPIED = (".jsonl", ".log")
_TEXTS = (".json", ".toml", ".txt", ".md", *_COPIED)
_MOST_TEXT = 20_000_000
_FOLLOWING = ("os.chmod", "os.chown", "os.truncate", "os.utime", "os.setxattr", "os.removexattr")
_SIGNALS = ("os.kill", "os.killpg", "signal.pthread_kill")
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
_CONNECTIONS = ("socket.connect", "socket.bind", "socket.sendto")


@dataclass(frozen=True)
class Offence:
    """kind: traceback, hang, control character, write, signal, code, program, connection, memory, exit code, words.
    where: what tells faults apart; cases with the same kind and where are one fault."""

    kind: str
    where: str
    text: str


class Guard:
    """Watches and prevents, from `begin` on, in this process and all its threads."""

    def __init__(self, root: Path, may_write: Collection[Path], trusted: Collection[str] = ()) -> None:
        """root: the folder of the case. may_write: below these the command may. trusted: SHA-256 of code below `root`
        that the user lets run."""
        self.offences: list[Offence] = []
        self._root = os.path.realpath(root)
        self._may_write = tuple(os.path.realpath(path) for path in may_write)
        self._trusted = frozenset(trusted)
        self._on = False
        self._mine = threading.local()

    def begin(self) -> None:
        """From now on."""
        self._on = True
        sys.addaudithook(self._hear)

    def end(self) -> None:
        """No more."""
        self._on = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on or getattr(self._mine, "busy", False):
            return
        self._mine.busy = True  # what is done to judge is not judged
        try:
            found = self._judged(event, arguments)
        finally:
            self._mine.busy = False
        if found:
            self.offences.append(Offence(found[0], _place_of(sys._getframe()), f"{event}: {found[1]}"))
            raise PermissionError(1, f"prevented by the fuzzer: {event}")

    def _judged(self, event: str, arguments: tuple[Any, ...]) -> tuple[str, str] | None:
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and (
                    (flags or 0) & _WRITING or (isinstance(mode, str) and set(mode) & set("wax+"))):
                return self._outside(path, follow=not (flags or 0) & (os.O_NOFOLLOW | os.O_EXCL))
            return None
        if event in _WRITES:
            folder = arguments[-1] if event in ("os.remove", "os.mkdir", "os.rmdir") else -1
            for at in _WRITES[event]:
                if event in ("os.rename", "os.link"):
                    folder = arguments[2 + at]
                if found := self._outside(arguments[at], folder if isinstance(folder, int) else -1,
                                          follow=event in _FOLLOWING):
                    return found
            return None
        if event in _SIGNALS:
            fine = not arguments[1] or (event == "os.kill" and _parent_of(arguments[0]) == os.getpid())
            return None if fine else ("signal", f"{arguments[1]} to {arguments[0]}")
        if event in _PROGRAMS:
            return None if event == "subprocess.Popen" and _is_isolated(arguments[1]) else (
                "program", repr(arguments[:2])[:300])
        if event in _CONNECTIONS:
            return "connection", repr(arguments[1:])[:300]
        if event == "pickle.find_class":
            return "code", f"a pickle names {arguments}"
        if event == "exec" and isinstance(arguments[0], CodeType):
            return self._strange(arguments[0].co_filename)
        if event == "ctypes.dlopen" and isinstance(arguments[0], str):
            return self._strange(arguments[0])
        return None

    def _outside(self, path: Any, folder: int = -1, *, follow: bool) -> tuple[str, str] | None:
        """follow: whether a link in the place of the path is followed by what is done to it."""
        if isinstance(path, int):
            path, folder = f"/proc/self/fd/{path}", -1
        path = os.fsdecode(path)
        if folder >= 0 and not os.path.isabs(path):
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        path = os.path.abspath(path)
        meant = os.path.realpath(path) if follow else os.path.join(os.path.realpath(os.path.dirname(path)),
                                                                   os.path.basename(path))
        fine = _below(meant, self._may_write) or meant.startswith(_ROOTS_OF_NOBODY)
        return None if fine else ("write", meant)

    def _strange(self, file: str) -> tuple[str, str] | None:
        """Code below the root that nobody has agreed to."""
        there = os.path.realpath(file)
        if not os.path.isabs(file) or not _below(there, (self._root,)):
            return None
        try:
            with open(there, "rb") as code:
                digest = hashlib.sha256(code.read()).hexdigest()
        except OSError:
            digest = ""
        return None if digest in self._trusted else ("code", there)


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _is_isolated(command: Any) -> bool:
    """True for this very interpreter, told to take no code from the working folder or the user's environment."""
    return isinstance(command, list) and list(command[:2]) == [sys.executable, "-I"]


def _below(path: str, roots: Collection[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


# --- what was there before, and after ---


def state_of(root: Path) -> dict[str, tuple[int, ...]]:
    """What tells whether anything under `root` was changed: for each path its kind and mode, of files more."""
    found, folders = {}, [str(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                there = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(there.st_mode):
                    found[entry.path] = there.st_ino, there.st_mode
                    folders.append(entry.path)
                else:
                    found[entry.path] = there.st_ino, there.st_mode, there.st_size, there.st_mtime_ns, there.st_uid
    return found


def written_outside(before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]],
                    may_write: Collection[Path]) -> list[Offence]:
    """An offence for each path that is another, or gone, or new, where the command may not write."""
    roots = tuple(map(str, may_write))
    changed = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    return [Offence("write", "seen afterwards", f"{path}: {before.get(path)} before, {after.get(path)} after")
            for path in changed if not _below(path, roots)]


def of_written(before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]], theirs: bool) -> list[Offence]:
    """An offence for each new text that holds what a terminal would obey: someone will `cat` it.

    What merely bears another name is as it was. theirs: whether lines held such things before: those are copied.
    """
    known, found = set(before.values()), []
    for path, state in after.items():
        if state in known or not path.endswith(_TEXTS) or (theirs and path.endswith(_COPIED)):
            continue
        if bad := obeyed(_text_of(path)):
            where = f"written to {os.path.basename(path)}: U+{ord(bad):04X}"
            found.append(Offence("control character", where, path))
    return found


def holds_commands(state: Collection[str]) -> bool:
    """Whether the lines of a run, among these files, hold what a terminal would obey."""
    return any(path.endswith(_COPIED) and obeyed(_text_of(path)) for path in state)


def _text_of(path: str) -> str:
    try:
        there = os.lstat(path)
        if not stat.S_ISREG(there.st_mode) or there.st_size > _MOST_TEXT:
            return ""
        with open(path, "rb") as file:
            return file.read().decode(errors="ignore")
    except OSError:
        return ""


# --- what it said ---


def obeyed(text: str) -> str:
    """The first character that a terminal would obey, or that hides or reorders others; empty if there is none.

    A newline and a tab are let through: they only move on, and cover nothing. So is what joins emoji into one.
    """
    return next((character for character in text if character not in "\n\t\u200d"
                 and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")), "")


def of_output(code: int | None, answer: bytes, said: bytes) -> list[Offence]:
    """What is wrong with a command's exit code, its stdout and its stderr."""
    found = []
    if code not in EXIT_CODES:
        found.append(Offence("exit code", str(code), f"exit code {code}: {_tail(said)}"))
    for name, data in (("stdout", answer), ("stderr", said)):
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            found.append(Offence("control character", f"{name} is no UTF-8", str(error)))
            continue
        if bad := obeyed(text):
            around = text[max(0, text.index(bad) - 60) :][:120]
            found.append(Offence("control character", f"{name}: U+{ord(bad):04X}", ascii(around)))
        if "Traceback (most recent call last)" in text:
            last = [line for line in text.splitlines() if line and not line.startswith(" ")]
            found.append(Offence("traceback", f"printed: {_without_numbers(last[-1])[:80]}", text[-3000:]))
    words = said.decode(errors="replace")
    if len(words.splitlines()) > MOST_LINES or len(words) > MOST_CHARACTERS:
        how_much = f"{len(words.splitlines())} lines, {len(words)} characters on stderr"
        found.append(Offence("words", _without_numbers(words[:60]), f"{how_much}: {words[:300]}"))
    if code and not words.strip() and not answer.strip():
        found.append(Offence("words", f"none for exit code {code}", "it failed, and did not say why"))
    return found


def of_json(answer: bytes) -> list[Offence]:
    """What is wrong with what was printed for programs: lines of JSON, whose numbers are finite."""
    try:
        for line in answer.splitlines():
            json.loads(line, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        return [Offence("words", "no JSON", f"{error}: {_tail(answer)}")]
    return []


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def of_exception(error: BaseException) -> Offence:
    """An exception that nothing caught."""
    told = "".join(traceback.format_exception(error))
    return Offence("traceback", f"{type(error).__name__} at {_place_in(error.__traceback__)}", told[-4000:])


def _tail(data: bytes) -> str:
    return ascii(data.decode(errors="replace")[-300:])


def _without_numbers(text: str) -> str:
    return re.sub(r"(/\S+|\d+|'[^']*')", "…", text)


def _place_of(frame: Any) -> str:
    """Where in our own code something was done."""
    while frame is not None:
        file = frame.f_code.co_filename
        if "/rlhf_engine/" in file or "/rlhf_tui/" in file:
            return f"{_short(file)}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "no code of ours"


def _place_in(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if "/rlhf_engine/" in frame.filename or "/rlhf_tui/" in frame.filename]
    last = frames[-1] if frames else None
    inner = f", in {_short(last.filename)}:{last.name}" if last and last not in ours else ""
    return (f"{_short(ours[-1].filename)}:{ours[-1].name}" if ours else "no code of ours") + inner


def _short(file: str) -> str:
    return re.sub(r"^.*/(?=rlhf_engine/|rlhf_tui/|site-packages/|lib/python)", "", file)
