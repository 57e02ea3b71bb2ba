"""Which code of reward functions this user has agreed to run, by its SHA-256.

A preset, a run or a checkpoint names a file; that it does so is no reason to run it. Code runs once this user has said
so of these very contents: on the command line (`rlhf-tui trust FILE.py`, `--trust-code DIGEST`), when asked at a
terminal, or in the workbench. What was agreed to for good is kept in the user's config folder, never in a run: as git
keeps `safe.directory`, and Jupyter the signatures of notebooks. No torch here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs

from rlhf_engine.disk import replace_text, writing
from rlhf_engine.errors import ConfigError
from rlhf_engine.json_text import to_json
from rlhf_engine.own_files import make_folder
from rlhf_engine.reading import read_bytes

FLAG = "--trust-code"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 4_000_000  # of the file: some twenty thousand digests
_MOST_DIGESTS = 10_000


@dataclass(frozen=True)
class CodeInQuestion:
    """Reward code that was named and is not trusted. files: all that would run, `file` first, then its neighbours."""

    file: Path
    digest: str
    files: tuple[Path, ...]
    source: str
    """What `file` holds, for the person who decides; it is text of a stranger."""


class UntrustedCodeError(ConfigError):
    """Reward code that this user has not agreed to run; nothing of it ran. A person must say whether it may."""

    def __init__(self, code: CodeInQuestion) -> None:
        self.code = code
        super().__init__(f"the reward code {code.file} (SHA-256 {code.digest}) is not trusted yet: read it, then "
                         f"`rlhf-tui trust {shlex.quote(str(code.file))}`, or {FLAG} {code.digest} for this once")


_for_this_process: dict[str, None] = {}


def is_trusted(digest: str) -> bool:
    """Whether this user has agreed to run the code of that SHA-256."""
    return digest in _for_this_process or digest in _kept()


def trust(digest: str, file: Path) -> None:
    """Agree to run the code of that SHA-256 from now on. file: where it lay, for the person who reads the list.

    Raises RunError when that cannot be written down; it holds for this process all the same.
    """
    trust_once(digest)
    path = _path()
    with writing(path):
        make_folder(path.parent)
        entries = _kept()
        entries.pop(digest, None)  # the newest is the last
        entries[digest] = {"file": str(file), "when": datetime.now(UTC).isoformat(timespec="seconds")}
        replace_text(path, to_json(dict(list(entries.items())[-_MOST_DIGESTS:]), indent=1) + "\n")


def trust_once(digest: str) -> None:
    """Agree to run it while this process lasts. Raises ConfigError for what is no SHA-256."""
    if not _DIGEST.fullmatch(digest):
        raise ConfigError(f"{FLAG} {digest[:80]}: is no SHA-256, which has 64 digits from 0-9 and a-f")
    _for_this_process[digest] = None


def arguments() -> list[str]:
    """What a process that is started for this one is told, so that it may run what this one may."""
    return [argument for digest in _for_this_process for argument in (FLAG, digest)]


def _kept() -> dict[str, Any]:
    """What was agreed to for good. A file that this user alone may not have written is as good as none."""
    path = _path()
    try:
        if os.stat(path).st_uid != os.geteuid() or os.stat(path).st_mode & 0o022:
            return {}
        found = json.loads(read_bytes(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _path() -> Path:
    return Path(platformdirs.user_config_dir("rlhf-tui", appauthor=False)) / "trusted_code.json"
