"""Which checkpoints a run has, and the settings in each, told from names and JSON alone. Nothing here imports torch.

What is told is what the files say; only `checkpoint.load` verifies them.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import ValidationError

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.reading import MOST_COUNTED, MOST_ENTRIES, MOST_WHOLE, read_bytes
from rlhf_engine.model_folders.fingerprint import Fingerprint
from rlhf_engine.runs.run_code import require_named_code
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_lines import read_object

STATE = "state.json"

MOST_SPACED = 32  # checkpoints kept to fork from: with so many, few of 10,000,000 steps are further apart than half

# A step that is saved again (after a change of course, say) gets a number behind it rather than the old one's place.
_NAME = re.compile(r"step-([0-9]{6,16})(?:\.([0-9]{1,9}))?")


def candidates(run_dir: RunDir) -> list[Path]:
    """The checkpoints of a run, newest first. Each is complete, though only `load` tells whether it is undamaged.

    Raises CheckpointError when they cannot be listed.
    """
    return [path for _, _, path in reversed(found(run_dir.checkpoints))]


def is_name(name: str) -> bool:
    """Whether a checkpoint may be called so."""
    return _NAME.fullmatch(name) is not None


def step_of(path: Path) -> int:
    """The step that a candidate was saved after."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def run_of(path: Path) -> RunDir:
    """The run that a candidate is of."""
    return RunDir(path.parent.parent)


def steps(run_dir: RunDir) -> list[int]:
    """The steps that there are checkpoints of, the newest first. Raises CheckpointError when they cannot be listed."""
    return sorted({step_of(path) for path in candidates(run_dir)}, reverse=True)


def is_due(step: int, every: int, budget: int) -> bool:
    """Whether a checkpoint is to be made after `step` of itself: every so many steps, and where early ones are kept
    (there is a budget for them) after the first steps 1, 2, 4, 8, ... too."""
    return step % every == 0 or (budget > 0 and step < every and step & (step - 1) == 0)


def thinned(steps: Sequence[int], sizes: Sequence[int], always: Collection[int], budget: int) -> set[int]:
    """Which of a run's checkpoints stay, by their place: those of `always`, and others spaced evenly in log(step + 1).

    steps: of each checkpoint, the oldest first; sizes: their bytes; always: the places of those that stay whatever
    their size (the newest, the best); budget: the most bytes that all together may have; 0: none but those of `always`.
    The others go one after another, each time the one whose neighbours lie closest to each other; the first goes last.
    Since that is so at every save, what stays is spaced so however long the run gets.
    """
    kept = list(range(len(steps))) if budget else sorted(always)
    while True:
        free = [at for at, place in enumerate(kept) if place not in always]
        if not free or (sum(sizes[place] for place in kept) <= budget and len(free) <= MOST_SPACED):
            return set(kept)
        del kept[min(free, key=lambda at: _gap_without(at, kept, steps))]


def _gap_without(at: int, kept: Sequence[int], steps: Sequence[int]) -> float:
    """The ratio of the steps (+ 1) on both sides of the checkpoint at `at`; infinite at the ends."""
    if at in (0, len(kept) - 1):
        return math.inf
    return (steps[kept[at + 1]] + 1) / (steps[kept[at - 1]] + 1)


def config_at(run_dir: RunDir, step: int | None) -> RunConfig:
    """The settings in force at the checkpoint of `step` (None: the newest). Raises CheckpointError."""
    for path in candidates(run_dir):
        if step in (None, step_of(path)):
            config = _config_in(path / STATE)
            require_named_code(run_dir, config)
            return config
    raise CheckpointError(missing(run_dir, step))


def base_at(run_dir: RunDir, step: int | None) -> Fingerprint | None:
    """The base model that the checkpoint of `step` (None: the newest) belongs to; None if it does not say."""
    path = next((path for path in candidates(run_dir) if step in (None, step_of(path))), None)
    return Fingerprint.read(read_object(path / STATE).get("base")) if path else None


def missing(run_dir: RunDir, step: int | None) -> str:
    """The sentence for a checkpoint that a run does not have."""
    if step is None:
        return f"The run {run_dir.name} has no checkpoint yet to resume from."
    there = sorted(steps(run_dir))
    if not there:
        return f"The run {run_dir.name} has no checkpoint of step {step}, nor of any other."
    listed = ", ".join(map(str, there))
    nearest = [at for at in (max((at for at in there if at < step), default=None),
                             min((at for at in there if at > step), default=None)) if at is not None]
    near = f" (nearest: {' and '.join(map(str, nearest))})" if len(there) > 1 else ""
    return f"The run {run_dir.name} has no checkpoint of step {step}; there are those of steps {listed}{near}."


def found(folder: Path) -> list[tuple[int, int, Path]]:
    """(step, attempt, path) of every checkpoint in `folder`, oldest first; links are none.

    Raises CheckpointError when they cannot be listed.
    """
    checkpoints = []
    try:
        if folder.is_symlink():
            raise CheckpointError(f"{folder} is a symbolic link, which is not followed.")
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number == MOST_ENTRIES:
                    raise CheckpointError(f"{folder} holds more than {MOST_ENTRIES:,} entries: it is no folder of "
                                          "checkpoints.")
                match = _NAME.fullmatch(entry.name)
                if match and int(match[1]) <= MOST_COUNTED and entry.is_dir(follow_symlinks=False):
                    checkpoints.append((int(match[1]), int(match[2] or 1), folder / entry.name))
    except (FileNotFoundError, NotADirectoryError):  # nothing was saved yet
        return []
    except OSError as error:
        reason = os_error_reason(error, "read")
        raise CheckpointError(f"The checkpoints in {folder} cannot be listed: {reason}.") from error
    return sorted(checkpoints)


def _config_in(path: Path) -> RunConfig:
    try:
        return RunConfig.model_validate(json.loads(read_bytes(path, MOST_WHOLE))["config"])
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {os_error_reason(error)}.") from error
    except ValidationError as error:
        raise CheckpointError(f"{path} holds settings that this version does not know.") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: it holds no settings.") from error
