"""What there is to know about this machine before a long run: what works, and what would end it.

`checks` yields as it goes: what needs no torch comes first, because importing it takes seconds. Nothing is changed; the
runs folder is written to only to see that it can be.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from rlhf_engine import __version__
from rlhf_engine.commands.check import Check
from rlhf_engine.commands.doctor_torch import torch_checks
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.system.streams import answers
from rlhf_engine.system.units import format_bytes

_SPACE_WANTED = 2 * 10**9  # bytes: some dozens of checkpoints of a small model
_COLUMNS_WANTED, _LINES_WANTED = 80, 24


def checks(runs_root: Path, environment: Mapping[str, str], logind: Path = Path("/etc/systemd")) -> Iterator[Check]:
    """All checks, in an order in which the slow ones come last.

    logind: the folder that holds logind.conf; vendors' files below /usr/lib and /run are looked at with it.
    """
    yield Check("rlhf-tui", "ok", f"{__version__} on Python {platform.python_version()}, {platform.system()}")
    yield terminal(environment)
    yield colours(environment)
    yield runs_folder(runs_root)
    yield free_space(runs_root)
    yield compiler(environment)
    yield logout([logind, Path("/run/systemd"), Path("/usr/lib/systemd"), Path("/usr/local/lib/systemd")], environment)
    yield from torch_checks(environment)


def terminal(environment: Mapping[str, str]) -> Check:
    """Whether there is a terminal to draw on, and its size."""
    for stream in filter(None, (answers(), sys.stderr, sys.stdin)):
        try:
            columns, lines = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            continue
        value = f"{environment.get('TERM', 'TERM is not set')}, {columns} × {lines}"
        if columns < _COLUMNS_WANTED or lines < _LINES_WANTED:
            advice = f"the workbench shows more from {_COLUMNS_WANTED} × {_LINES_WANTED} on; make the window larger"
            return Check("terminal", "warning", value, advice)
        return Check("terminal", "ok", value)
    return Check("terminal", "ok", "none: commands print plain lines, the workbench needs one")


def colours(environment: Mapping[str, str]) -> Check:
    """How many colours the terminal says it has."""
    term = environment.get("TERM", "")
    if environment.get("NO_COLOR"):
        return Check("colours", "ok", "none, as NO_COLOR asks for")
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return Check("colours", "ok", "16 million")
    if "256color" in term:
        return Check("colours", "ok", "256")
    if term in ("", "dumb"):
        return Check("colours", "warning", "unknown", "set TERM to what your terminal is, such as xterm-256color")
    return Check("colours", "warning", "8 or 16", "if the terminal has more, set COLORTERM=truecolor")


def runs_folder(root: Path) -> Check:
    """Whether runs can be written there."""
    name, path = "runs folder", root.absolute()
    there = _nearest(path)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        advice = "choose another folder with --runs-dir"
        return Check(name, "warning", f"{path} cannot be written to: {os_error_reason(error)}", advice)
    return Check(name, "ok", f"{path}" + ("" if there == path else " (made with the first run)"))


def free_space(root: Path) -> Check:
    """How much fits there."""
    try:
        free = shutil.disk_usage(_nearest(root.absolute())).free
    except OSError as error:
        return Check("free disk", "warning", os_error_reason(error), "choose another folder with --runs-dir")
    value = format_bytes(free)
    if free < _SPACE_WANTED:
        return Check("free disk", "warning", value, "make room, or lower train.checkpoint_budget_mb")
    return Check("free disk", "ok", value)


def compiler(environment: Mapping[str, str], headers: Path | None = None) -> Check:
    """Whether there is what torch.compile needs: compilers for C and C++, and the headers of Python.

    headers: the folder that has Python.h; that of this Python if left out.
    """
    found, missing = [], []
    for language, variable, names in (("C", "CC", ("gcc", "clang", "cc")), ("C++", "CXX", ("g++", "clang++", "c++"))):
        own = environment.get(variable)
        places = (shutil.which(name, path=environment.get("PATH")) for name in ((own,) if own else names))
        if place := next(filter(None, places), None):
            found.append(place)
        else:
            missing.append(f"no compiler for {language}" + (f" at {variable}={own}" if own else ""))
    if not ((headers or Path(sysconfig.get_path("include"))) / "Python.h").is_file():
        missing.append("no Python.h")
    value = ", ".join([*found, *missing])
    return Check("compiler", "ok", f"{value}; without, torch.compile does nothing" if missing else value)


def logout(folders: list[Path], environment: Mapping[str, str]) -> Check:
    """Whether systemd ends what a user left running when that user logs out."""
    name, user = "after logout", environment.get("USER") or environment.get("LOGNAME") or ""
    if not _kills_user_processes(folders):
        return Check(name, "ok", "background processes keep running")
    if user and Path("/var/lib/systemd/linger", user).exists():
        return Check(name, "ok", f"background processes keep running, because {user} lingers")
    return Check(name, "warning", "systemd ends background processes at logout (KillUserProcesses=yes), and "
                 "with them a run that was to continue without its terminal",
                 "run `loginctl enable-linger`, or start with `systemd-run --user --scope rlhf-tui`; what is ended "
                 "saves first and can be resumed")


def _kills_user_processes(folders: list[Path]) -> bool:
    """The setting in force: the last of the drop-ins by file name, whichever folder they lie in, over the main file.

    folders: from the one that counts most to the one that counts least, as systemd orders them (logind.conf(5)).
    """
    main = next((folder / "logind.conf" for folder in folders if (folder / "logind.conf").is_file()), None)
    drop_ins: dict[str, Path] = {}
    for folder in folders:
        for path in folder.glob("logind.conf.d/*.conf"):
            drop_ins.setdefault(path.name, path)
    setting = False
    for path in [*([main] if main else []), *(drop_ins[name] for name in sorted(drop_ins))]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for value in re.findall(r"^[ \t]*KillUserProcesses[ \t]*=[ \t]*(\S*)", text, re.M):
            setting = value.lower() in ("yes", "true", "on", "1", "y", "t")
    return setting


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest above that exists."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path
