"""The run on disk: what a run was told, what it did, where it stands. See `checkpoint.py` for its weights.

The directory is the truth: any process may read it while one, the holder of `run.lock`, writes. Lines are read
leniently, because a crash may tear the last one and a newer version may add to them. No file of a run holds an
environment variable. What each file is for: `run_files.py`. Nothing here imports torch.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlhf_engine import __version__
from rlhf_engine.config import preset_text
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RunError
from rlhf_engine.events import Alarm, EditApplied, RunState, Sample
from rlhf_engine.files.disk import (
    NAME,
    NAME_RULE,
    append_line,
    fsync_directory,
    os_error_reason,
    remove_folder,
    replace_text,
    write_new,
    writing,
)
from rlhf_engine.files.json_text import to_json
from rlhf_engine.files.own_files import make_folder
from rlhf_engine.files.reading import MOST_WHOLE, open_regular, read_text, require_regular
from rlhf_engine.runs import run_lock
from rlhf_engine.runs.parent import Parent, parent_in
from rlhf_engine.runs.run_driver import Driver, find_driver
from rlhf_engine.runs.run_files import (
    ABOUT,
    ALARMS,
    CONFIG,
    EDITS,
    LOCK,
    METRICS,
    NOTE,
    OUTPUT,
    PROBES,
    REWARD_MODELS,
    SAMPLES,
    STATUS,
)
from rlhf_engine.runs.run_lines import (
    MetricsLine,
    alarm,
    each_line,
    edit,
    metrics_line,
    newest_rows,
    read_lines,
    read_object,
    readable,
    sample,
    sample_row,
    text_in,
    to_line,
)
from rlhf_engine.runs.run_names import make_directory
from rlhf_engine.runs.run_output import open_log
from rlhf_engine.runs.run_status import Status, is_missed, status_now, write_status
from rlhf_engine.runs.truncation import truncate_after
from rlhf_engine.system.visible_text import visible

DEFAULT_RUNS_ROOT = Path("runs")

NOTE_LENGTH = 4000  # characters of a note
_TAIL_BYTES = 16 * 1024  # holds some lines of metrics


class RunDir:
    """One run's directory. Make one with `create` or `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls, root: Path, config: RunConfig, *, name: str | None = None, preset: str = "", parent: Parent | None = None
    ) -> RunDir:
        """A new run under `root`, for this user's eyes only. Raises RunError for a name not allowed, or taken."""
        from rlhf_engine.config.preset_writer import to_toml  # tomlkit: only a start waits for it

        if name is not None and not NAME.fullmatch(name):
            raise RunError(f"The run name {name!r} is not allowed: {NAME_RULE}.")
        with writing(root):
            make_folder(root, 0o755)  # never for others to write to
            path = make_directory(root, name)
        try:
            with writing(path):
                started = datetime.now(UTC).isoformat(timespec="seconds")
                about = {"id": secrets.token_hex(8), "preset": preset, "started": started, "version": __version__,
                         "parent": asdict(parent) if parent else None}
                write_new(path / ABOUT, to_json(about) + "\n")
                write_new(path / CONFIG, to_toml(config))
                fsync_directory(path)
                fsync_directory(root)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)  # made above, and by nobody else: no run, so it must not look so
            raise
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """An existing run. Raises RunError when there is none at `path`, or none that can be read."""
        try:
            require_regular(path / CONFIG, MOST_WHOLE)
        except FileNotFoundError:
            raise RunError(f"{path} is no run: it has no {CONFIG}.") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is no run that can be read: {CONFIG}: {os_error_reason(error)}.") from error
        return cls(path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.resolve().name

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie; made with the first one."""
        return self.path / "checkpoints"

    @property
    def preset(self) -> str:
        """The preset that the run was started from; empty if there was none, or nobody knows."""
        return text_in(read_object(self.path / ABOUT), "preset")

    @property
    def id(self) -> str:
        """What stays the same when the run is renamed; empty if nobody knows."""
        return text_in(read_object(self.path / ABOUT), "id")

    @property
    def parent(self) -> Parent | None:
        """Where a fork came from; None if this run is none, or nobody knows."""
        return parent_in(read_object(self.path / ABOUT))

    @property
    def note(self) -> str:
        """What a person wrote about the run; empty if nothing, or if it cannot be read."""
        try:
            with open_regular(self.path / NOTE) as file:
                return file.read(4 * NOTE_LENGTH).decode(errors="replace")[:NOTE_LENGTH]
        except OSError:
            return ""

    def config(self) -> RunConfig:
        """The configuration as started; `edits` tells what changed. Raises RunError, or ConfigError if damaged."""
        try:
            return preset_text.parse(read_text(self.path / CONFIG, MOST_WHOLE), str(self.path / CONFIG))
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{self.path / CONFIG} could not be read: {os_error_reason(error)}.") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for writing. Raises RunError, naming the process, while another one holds it.

        The lock goes with its process, however that ends: a dead holder's lock is free.
        """
        if self.path.is_symlink():
            raise RunError(f"{self.path} is a symbolic link, which is never followed for writing.")
        with run_lock.hold(self.lock_file, self.name):
            yield

    @property
    def lock_file(self) -> Path:
        """Whoever holds its lock drives the run."""
        return self.path / LOCK

    def driver(self) -> Driver | None:
        """The process that drives the run; None if none does."""
        return find_driver(self.lock_file)

    # --- written by anyone, at any time ---

    def write_note(self, text: str) -> None:
        """Keeps `text` as the run's note. Raises RunError when it cannot, or `text` is longer than NOTE_LENGTH."""
        if len(text) > NOTE_LENGTH:
            raise RunError(f"The note was not kept: it has {len(text)} characters, {len(text) - NOTE_LENGTH} more than "
                           f"the {NOTE_LENGTH} that are allowed.")
        if self.path.is_symlink():
            raise RunError(f"{self.path} is a symbolic link, which is never followed for writing.")
        with writing(self.path / NOTE):
            replace_text(self.path / NOTE, visible(text))

    # --- written by the holder of the lock ---

    def discard_if_bare(self, *, copied: bool = False) -> bool:
        """Removes a run that holds nothing but how it was to start; True if that was so.

        copied: nor but what a fork copies from its parent.
        """
        bare = {CONFIG, ABOUT, STATUS, LOCK, OUTPUT}
        bare |= {METRICS, PROBES, EDITS, self.checkpoints.name, REWARD_MODELS} if copied else set()
        with suppress(OSError):
            if not self.path.is_symlink() and set(os.listdir(self.path)) <= bare:
                remove_folder(self.path)
                fsync_directory(self.path.parent)
                return True
        return False

    def append_metrics(self, step: int, seconds: float, metrics: Mapping[str, float]) -> None:
        """Adds one step's metrics. Raises RunError when the disk refuses."""
        self._append(METRICS, {"step": step, "seconds": seconds, "metrics": dict(metrics)})

    def append_samples(self, samples: Sequence[Sample], traced: int = 0) -> None:
        """Adds responses of a step, the first `traced` of them token by token. Raises RunError when the disk refuses.
        """
        for number, response in enumerate(samples):
            self._append(SAMPLES, sample_row(response, traced=number < traced))

    def append_probe(self, response: Sample) -> None:
        """Adds an answer to the probe. Raises RunError when the disk refuses."""
        self._append(PROBES, sample_row(response, traced=False))

    def append_edit(self, change: EditApplied) -> None:
        """Adds a live change. Raises RunError when the disk refuses."""
        self._append(EDITS, asdict(change))

    def append_alarm(self, raised: Alarm) -> None:
        """Adds an alarm. Raises RunError when the disk refuses."""
        self._append(ALARMS, asdict(raised))

    def open_output(self) -> int | None:
        """A descriptor of the log, for reading and appending; None when the disk refuses. Of a log that has grown too
        long, the newer half is kept."""
        return open_log(self.path / OUTPUT)

    def write_status(
        self, state: RunState, step: int, total_steps: int, message: str = "", *, peak_memory: int = 0,
        peak_cuda: int = 0,
    ) -> None:
        """Says where the run stands, and that it is this process that says so. Peaks: see `Status`."""
        write_status(self.path / STATUS, state, step, total_steps, message, peak_memory, peak_cuda)

    def truncate_after(self, step: int, edits: int) -> list[str]:
        """Drops everything that happened after `step`, for a resume from there; one sentence for each damaged file.

        edits: how many live changes the checkpoint holds; a change made between two steps may be in it or not.
        """
        return truncate_after(self.path, step, edits)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with writing(self.path / name):
            append_line(self.path / name, to_line(row))

    # --- read by anyone, at any time ---

    def metrics(self) -> list[MetricsLine]:
        """The metrics of all steps so far; lines that cannot be read are left out."""
        return list(self.each_step())

    def each_step(self) -> Iterator[MetricsLine]:
        """`metrics`, of which one step at a time is held: all of a long run would fill the memory."""
        for _, row, _ in each_line(self.path / METRICS):
            yield from readable([row], metrics_line) if row is not None else ()

    def last_metrics(self) -> MetricsLine | None:
        """The metrics of the last step, read from the end of the file; None before the first."""
        rows = newest_rows(self.path / METRICS, _TAIL_BYTES)
        return next((found for row in rows for found in readable([row], metrics_line)), None)

    def newest_samples(self) -> list[Sample]:
        """Some of the responses kept, the newest first, read from the end of the file."""
        return readable(list(newest_rows(self.path / SAMPLES, 16 * _TAIL_BYTES)), sample)

    def samples(self) -> list[Sample]:
        """The responses kept of all steps so far; lines that cannot be read are left out."""
        return readable(read_lines(self.path / SAMPLES)[0], sample)

    def probes(self) -> list[Sample]:
        """The answers to the probe so far; lines that cannot be read are left out."""
        return readable(read_lines(self.path / PROBES)[0], sample)

    def edits(self) -> list[EditApplied]:
        """The live changes so far; lines that cannot be read are left out."""
        return readable(read_lines(self.path / EDITS, MOST_WHOLE)[0], edit)

    def alarms(self) -> list[Alarm]:
        """The alarms so far; lines that cannot be read are left out."""
        return readable(read_lines(self.path / ALARMS)[0], alarm)

    def status(self) -> Status | None:
        """Where the run stands; None before it said so for the first time, or if that cannot be read."""
        return status_now(self.path / STATUS, self.lock_file)

    @property
    def status_damaged(self) -> bool:
        """True when what is in the place of the status tells none, or there is nothing there although the run has begun
        and nobody drives it."""
        begun = (SAMPLES, ALARMS, EDITS)  # a fork that has not begun yet has metrics and probes, of its parent
        return self.status() is None and is_missed(
            self.path / STATUS, self.lock_file, begun=any(os.path.lexists(self.path / name) for name in begun))
