"""Runs renamed, deleted, restored, and gone for good. Nothing here imports torch.

A run that is deleted moves to `.trash/` beside it: nothing of it is lost until the trash is emptied. A run that
anybody drives, also one that is paused, is left alone, and so is everything behind a symbolic link.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rlhf_engine.errors import RunError
from rlhf_engine.files.disk import NAME, NAME_RULE, fsync_directory, os_error_reason, remove_folder, writing
from rlhf_engine.runs.run_dir import RunDir

TRASH = ".trash"
_AGAIN = "@"  # no name of a run holds it: stands before the number of a second run of that name in the trash
_MOST_COUNTED = 200_000  # files of a run, of which no one has more than some hundred


@dataclass(frozen=True)
class TrashedRun:
    """A run in the trash: `entry` is its name there, `name` the one it had."""

    entry: str
    name: str
    path: Path
    bytes: int


def rename_run(run_dir: RunDir, name: str) -> RunDir:
    """The run under another name. Its forks still know it, by what stays the same.

    Raises RunError for a name not allowed or taken, and for a run that is driven.
    """
    if not NAME.fullmatch(name):
        raise RunError(f"The run name {name!r} is not allowed: {NAME_RULE}.")
    target = run_dir.path.with_name(name)
    with run_dir.lock():
        _move(run_dir.path, target, f"There is already a run named {name} in {target.parent}; choose another name.")
    return RunDir(target)


def move_to_trash(run_dir: RunDir) -> TrashedRun:
    """Moves the run to the trash beside it. Raises RunError for one that is driven, or a link."""
    RunDir.open(run_dir.path)
    with run_dir.lock():
        trash = _trash(run_dir.path.parent)
        with writing(trash):
            trash.mkdir(mode=0o700, exist_ok=True)
            os.chmod(trash, 0o700)
        number = 1
        while True:
            entry = run_dir.path.name + (f"{_AGAIN}{number}" if number > 1 else "")
            if not os.path.lexists(trash / entry):
                break
            number += 1
        _move(run_dir.path, trash / entry, f"{trash / entry} is there already.")
    return TrashedRun(entry, run_dir.path.name, trash / entry, bytes_under(trash / entry))


def list_trash(root: Path) -> list[TrashedRun]:
    """The runs in the trash of `root`, the last deleted first. Raises RunError when it cannot be listed."""
    trash = _trash(root)
    try:
        paths = [(path.stat().st_ctime, path) for path in trash.iterdir() if path.is_dir() and not path.is_symlink()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"The trash {trash} cannot be listed: {os_error_reason(error)}.") from error
    return [TrashedRun(path.name, path.name.partition(_AGAIN)[0], path, bytes_under(path))
            for _, path in sorted(paths, reverse=True)]


def restore(root: Path, entry: str) -> RunDir:
    """Brings a run back from the trash under the name it had. Raises RunError if that is taken, or it is not there."""
    there = {trashed.entry: trashed for trashed in list_trash(root)}
    if entry not in there:
        listed = ", ".join(list(there)[:8]) + (" …" if len(there) > 8 else "")
        raise RunError(f"There is no run {entry!r} in the trash of {root}; there is {listed or 'none'}.")
    trashed = there[entry]
    with RunDir(trashed.path).lock():
        _move(trashed.path, root / trashed.name,
              f"There is a run named {trashed.name} in {root} again; rename that one first, then restore this one.")
    return RunDir(root / trashed.name)


def empty_trash(root: Path, entries: list[str] | None = None) -> tuple[int, int]:
    """Removes the runs in the trash (those of `entries` only, if given) for good; how many, and how many bytes.

    Raises RunError naming what could not be removed, after removing the rest.
    """
    gone = size = 0
    problems = []
    for trashed in list_trash(root):
        if entries is not None and trashed.entry not in entries:
            continue
        try:
            with RunDir(trashed.path).lock():
                remove_folder(trashed.path)
        except RunError as error:
            problems.append(str(error).rstrip("."))
        except OSError as error:
            problems.append(f"{trashed.path} could not be removed: {os_error_reason(error)}")
        else:
            gone, size = gone + 1, size + trashed.bytes
    if problems:
        raise RunError("; ".join(problems) + ".")
    return gone, size


def bytes_under(path: Path) -> int:
    """Bytes of all files under `path`; links count nothing, nor does what goes while it is counted.

    Of a folder that holds far more than any run does, so much as a moment suffices for.
    """
    total, folders, left = 0, [path], _MOST_COUNTED
    while folders and left > 0:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in islice(entries, left):
                    left -= 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


# ---------------------------------------------------------------------------------------------------------------------


def _trash(root: Path) -> Path:
    trash = root / TRASH
    if trash.is_symlink():
        raise RunError(f"{trash} is a symbolic link, which is never followed for writing.")
    return trash


def _move(source: Path, target: Path, taken: str) -> None:
    """Renames a folder where there is nothing yet; what is there is never replaced (an empty folder would be)."""
    if os.path.lexists(target):
        raise RunError(taken)
    with writing(source):
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise RunError(taken) from None
            raise
        for folder in {source.parent, target.parent}:
            fsync_directory(folder)
