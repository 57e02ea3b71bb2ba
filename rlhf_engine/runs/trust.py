"""Which code of reward functions this user has agreed to run, by its SHA-256.

A preset, a run or a checkpoint names a file; that it does so is no reason to run it. Code runs once this user has said
so of these very contents: on the command line (`rlhf-tui trust FILE.py`, `--trust-code DIGEST`), when asked at a
terminal, or in the workbench. What was agreed to for good is kept in the user's config folder, never in a run: as git
keeps `safe.directory`, and Jupyter the signatures of notebooks. No torch here.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from rlhf_engine.errors import CodeInQuestion, ConfigError
from rlhf_engine.files.disk import replace_text, writing
from rlhf_engine.files.file_locks import lock_within
from rlhf_engine.files.json_text import to_json
from rlhf_engine.files.own_files import make_folder
from rlhf_engine.files.reading import read_bytes

FLAG = "--trust-code"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_DIGESTS = 2_000  # the oldest go
_MOST_BYTES = 60_000_000  # of the file: so many of the longest paths there are
_PATIENCE = 10.0  # seconds until another process has written


@dataclass(frozen=True)
class Trusted:
    """Code that this user has agreed to run. file: where it lay then; when: in ISO 8601. Both only inform a person."""

    digest: str
    file: str
    when: str


class UntrustedCodeError(ConfigError):
    """Reward code that this user has not agreed to run; nothing of it ran. A person must say whether it may."""

    def __init__(self, code: CodeInQuestion) -> None:
        self.code = code
        file = " ".join(str(code.file).splitlines())  # a name may hold newlines; this is one sentence
        super().__init__(f"the reward code {file} (SHA-256 {code.digest}) is not trusted yet: read it, then "
                         f"`rlhf-tui trust {shlex.quote(file)}`, or {FLAG} {code.digest} for this once")


_for_this_process: dict[str, None] = {}


def is_trusted(digest: str) -> bool:
    """Whether this user has agreed to run the code of that SHA-256."""
    return digest in _for_this_process or digest in _kept()


def trust(digest: str, file: Path) -> None:
    """Agree to run the code of that SHA-256 from now on. file: where it lay, for the person who reads the list.

    Raises RunError when that cannot be written down; it holds for this process all the same.
    """
    trust_once(digest)
    with _changing() as entries:
        entries.pop(digest, None)  # the newest is the last
        entries[digest] = Trusted(digest, str(file), datetime.now(UTC).isoformat(timespec="seconds"))


def withdraw(digests: Collection[str]) -> None:
    """Agree no more to run the code of these SHA-256s. Processes that run already do not hear of it.

    Raises RunError when that cannot be written down.
    """
    for digest in digests:
        _for_this_process.pop(digest, None)
    with _changing() as entries:
        for digest in digests:
            entries.pop(digest, None)


def trusted() -> list[Trusted]:
    """All that was agreed to for good, the oldest first."""
    return list(_kept().values())


def trust_once(digest: str) -> None:
    """Agree to run it while this process lasts. Raises ConfigError for what is no SHA-256."""
    if not _DIGEST.fullmatch(digest):
        raise ConfigError(f"{FLAG} {digest[:80]}: is no SHA-256, which has 64 digits from 0-9 and a-f")
    _for_this_process[digest] = None


def arguments() -> list[str]:
    """What a process that is started for this one is told, so that it may run what this one may."""
    return [argument for digest in _for_this_process for argument in (FLAG, digest)]


@contextmanager
def _changing() -> Iterator[dict[str, Trusted]]:
    """What is kept, to be changed; it is written at the end. One process at a time: another's words are not lost.
    Raises RunError."""
    path = _path()
    with writing(path):
        make_folder(path.parent)
        handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _take_turns(handle)
            entries = _kept()
            yield entries
            rows = {one.digest: {"file": one.file, "when": one.when} for one in list(entries.values())[-_MOST_DIGESTS:]}
            replace_text(path, to_json(rows, indent=1) + "\n")
        finally:
            os.close(handle)


def _take_turns(handle: int) -> None:
    """Returns when no other process writes. Raises BlockingIOError when one does not come to an end."""
    try:
        mine = lock_within(handle, _PATIENCE)
    except OSError:  # a disk that knows no locks
        return
    if not mine:
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))


def _kept() -> dict[str, Trusted]:
    """What was agreed to for good. A file that this user alone may not have written is as good as none."""
    path = _path()
    try:
        found = os.stat(path, follow_symlinks=False)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return {}
        rows = json.loads(read_bytes(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return {digest: Trusted(digest, str(about.get("file", "")), str(about.get("when", "")))
            for digest, about in (rows if isinstance(rows, dict) else {}).items()
            if _DIGEST.fullmatch(digest) and isinstance(about, dict)}


def _path() -> Path:
    return Path(platformdirs.user_config_dir("rlhf-tui", appauthor=False)) / "trusted_code.json"
