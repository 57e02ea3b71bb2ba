"""Writing files so that a crash or a full disk leaves either the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf_engine.errors import RunError, first_line
from rlhf_engine.files.reading import UnexpectedFileError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "letters, digits, dots, - and _, at most 64, a letter or digit first"

_SENTENCES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would pass the size limit of this process, or of the disk",
    errno.EROFS: "the disk is read-only",
    errno.ELOOP: "it is a symbolic link, which is never followed for writing",
}


def os_error_reason(error: Exception, to: str = "write") -> str:
    """Why the disk refused, in words; safetensors and torch raise errors of their own that only quote the system's.

    to: what was tried.
    """
    if isinstance(error, UnexpectedFileError):
        return error.reason
    if isinstance(error, OSError):
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"this user may not {to} there"
        return _SENTENCES.get(error.errno or 0) or (error.strerror or str(error)).lower()
    if code := re.search(r"os error (\d+)", str(error)):
        return os_error_reason(OSError(int(code[1]), str(error)))
    return first_line(error) if str(error) else type(error).__name__


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError of its body into a RunError that names `path` and the reason."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} could not be written: {os_error_reason(error)}.") from error


def fsync_directory(path: Path) -> None:
    """Makes the entries of a directory (a rename, a new file) survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_file(path: Path) -> None:
    """Makes the contents of a file survive a power cut."""
    fsync_directory(path)  # the same calls; the name says what is meant


def folder_to_make(path: str | Path) -> Path:
    """The whole path of a folder that is to be made. Raises RunError where something would have to be replaced."""
    target = Path(os.path.expanduser(path)).absolute()
    try:
        if not os.path.lexists(target):
            return target
        if target.is_symlink() or not target.is_dir():
            raise RunError(f"{target} is there already, and is no folder; name a new one.")
        if any(target.iterdir()):
            raise RunError(f"The folder {target} is not empty, and nothing is replaced; name a new one.")
    except OSError as error:
        raise RunError(f"{target} cannot be looked at: {os_error_reason(error)}.") from error
    return target


def folder_identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from every other, whatever it is called; None where there is none."""
    try:
        there = folder.lstat()
    except OSError:
        return None
    return there.st_dev, there.st_ino


def remove_folder(path: Path) -> None:
    """Removes a folder with all that is in it, however deep; what links lead to stays. Raises OSError.

    Folders are moved up to `path` before they are emptied: neither recursion, nor open files, nor the length of a path
    limits the depth, as they do with `shutil.rmtree`.
    """
    only_folder = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    top = os.open(path, only_folder)
    try:
        mark = f".gone-{secrets.token_hex(8)}-"
        number, waiting = 0, _remove_files(top)
        while waiting:
            name = waiting.pop()
            folder = os.open(name, only_folder, dir_fd=top)
            try:
                for inner in _remove_files(folder):
                    number += 1
                    os.rename(inner, f"{mark}{number}", src_dir_fd=folder, dst_dir_fd=top)
                    waiting.append(f"{mark}{number}")
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def _remove_files(folder: int) -> list[str]:
    """Removes all of an open folder but folders that are not empty, whose names it gives."""
    left = []
    with os.scandir(folder) as listed:
        entries = list(listed)
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=folder)
            continue
        try:
            os.rmdir(entry.name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            left.append(entry.name)
    return left


def write_new(path: Path, text: str) -> None:
    """Writes `text` to a file that must not exist, readable by its owner alone, and fsyncs it. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_text(path: Path, text: str) -> None:
    """Puts `text` in the place of a file, atomically: readers see the old text or the new. Raises OSError."""
    replace_bytes(path, [text.encode()])


def replace_bytes(path: Path, parts: Iterable[bytes]) -> None:
    """`replace_text` with what `parts` make together, of which one at a time is held."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    fsync_directory(path.parent)


def append_line(path: Path, line: str) -> None:
    """Adds one line to a file, owner-readable, without following a link. Raises OSError.

    A line that a crash left torn is ended first, so that it spoils no line but itself.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        # half a surrogate pair has no UTF-8; as a backslash escape it is still valid JSON
        data = (("\n" if torn else "") + line + "\n").encode(errors="backslashreplace")
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)
