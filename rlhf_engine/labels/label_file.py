"""A file of judgements, written one by one: each is on the disk before the next pair is shown."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from rlhf_engine.errors import ConfigError, RunError
from rlhf_engine.files.disk import fsync_directory, replace_bytes, writing
from rlhf_engine.files.file_locks import try_lock
from rlhf_engine.files.json_text import to_json
from rlhf_engine.files.own_files import make_folder, open_to_add
from rlhf_engine.labels.judgement import Judgement, row
from rlhf_engine.labels.label_lines import LabelLines

LABELS_ROOT = Path("labels")
"""The folder of label files, beside that of the runs."""


def label_path(name: str, root: Path = LABELS_ROOT) -> Path:
    """Where the judgements of a preset's or a run's answers are kept unless somebody names another file."""
    return root / f"{name}.jsonl"


def read_labels(path: Path) -> list[Judgement]:
    """The judgements of a file, the latest of each key, also while another process adds to it. Raises ConfigError."""
    try:
        return LabelLines(path).judgements()
    except FileNotFoundError:
        raise ConfigError(f"there is no label file {path}") from None


class LabelFile:
    """The label file of one person at work. While it is open no other process can write to it.

    judgements: those of all who judged, the latest of each key, in order. notices: sentences about what was found.
    The file and its folder are made with the first judgement.
    """

    def __init__(self, path: Path, rater: str) -> None:
        """Use `LabelFile.open`."""
        self.path, self.rater = path, rater
        self.notices: tuple[str, ...] = ()
        self._latest: dict[tuple[str, str, int], Judgement] = {}
        self._handle: int | None = None
        self._whole = self._torn = self._superseded = 0  # bytes of whole lines, of one that is none, lines

    @classmethod
    def open(cls, path: Path, *, rater: str) -> LabelFile:
        """Opens a label file, or one that is not there yet. Raises ConfigError for what is no label file, and RunError
        where another process has it, or it cannot be written."""
        file = cls(path, rater)
        if os.path.lexists(path):
            file._take()
        return file

    @property
    def judgements(self) -> list[Judgement]:
        """The latest of each key, in the order in which each was first made."""
        return list(self._latest.values())

    def has(self, pair: str, rater: str) -> bool:
        """Whether that person has judged the pair of that id, as it came first."""
        return (pair, rater, 0) in self._latest

    def add(self, judgement: Judgement) -> None:
        """Keeps a judgement; when this returns, neither a crash nor a power cut can lose it. Raises RunError.

        Nobody holds a file that is not there yet: where another process has begun it since, one with the same key that
        lies there by now is superseded.
        """
        if judgement.key in self._latest:
            raise ValueError(f"{judgement.key} was judged before; that is amended")
        self._append(judgement)

    def amend(self, judgement: Judgement) -> None:
        """Puts a judgement in the place of the one with the same key, as safely as `add`. Raises RunError."""
        if judgement.key not in self._latest:
            raise ValueError(f"{judgement.key} was not judged before")
        self._append(judgement)

    def close(self) -> None:
        """Leaves out what was superseded, in one replacement of the file, and lets go of it. Raises RunError, with the
        file as it was; no judgement depends on this."""
        try:
            if self._superseded and self._holds_path():
                lines = LabelLines(self.path)
                lines.judgements()
                with writing(self.path):
                    replace_bytes(self.path.resolve(), lines.latest_lines())
        finally:
            self._release()

    def __enter__(self) -> LabelFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
                 ) -> None:
        self.close()

    def _append(self, judgement: Judgement) -> None:
        if not self._holds_path():
            with writing(self.path):
                make_folder(self.path.parent)
            self._take()
        with writing(self.path):
            self._write(to_json(row(judgement), ascii_only=False))
        self._superseded += judgement.key in self._latest
        self._latest[judgement.key] = judgement

    def _holds_path(self) -> bool:
        """False before the first judgement, and where an editor has put another file in the place of ours."""
        if self._handle is None:
            return False
        try:
            there, held = os.stat(self.path), os.fstat(self._handle)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def _write(self, line: str) -> None:
        """Adds a line, whole or not at all. Raises OSError."""
        handle = self._handle
        assert handle is not None
        size = os.fstat(handle).st_size
        if self._torn and size == self._whole + self._torn:
            os.ftruncate(handle, self._whole)
            size = self._whole
        self._torn = 0
        ended = not size or os.pread(handle, 1, size - 1) == b"\n"
        # half a surrogate pair has no UTF-8; as a backslash escape it is still valid JSON
        data = (("" if ended else "\n") + line + "\n").encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(handle, data):]
            os.fsync(handle)
            if not size:
                fsync_directory(self.path.parent)
        except OSError:
            os.ftruncate(handle, size)  # what a full disk took of it
            raise

    def _take(self) -> None:
        """Takes the lock, and reads what is there."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        with writing(self.path):
            while not self._holds_path():  # it may be replaced as somebody else closes it
                if self._handle is not None:
                    os.close(self._handle)
                self._handle = open_to_add(self.path)
                if not try_lock(self._handle):
                    self._release()
                    raise RunError(f"{self.path} is open in another process, where somebody judges; close it there, "
                                   "or name another file.")
        try:
            lines = LabelLines(self.path)
            self._latest = {judgement.key: judgement for judgement in lines.judgements()}
        except BaseException:
            self._release()
            raise
        self._whole, self._torn, self._superseded = lines.end, lines.torn, lines.superseded
        if self._torn:
            self.notices = (f"{self.path} ended within a line, as a crash leaves it; that judgement was not finished "
                            "and is left out.",)

    def _release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None
