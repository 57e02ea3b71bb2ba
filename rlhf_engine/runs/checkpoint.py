"""Checkpoints: everything a run needs to go on bit for bit, complete on disk or not there at all.

`checkpoints/step-000123/` holds `tensors.safetensors`, `state.json` and `manifest.json` with the SHA-256 of both:
safetensors loads a flipped byte without a word, so every file is verified before it is used; and since whoever can
write a file can write its SHA-256 too, so is what it says (`checkpoint_content`). A checkpoint is written aside,
fsynced and renamed into place; older ones go only afterwards, by a rename too, so that no half checkpoint ever bears a
checkpoint's name. No pickle is written or read.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError, ConfigError, RunError
from rlhf_engine.files.disk import fsync_directory, fsync_file, os_error_reason, remove_folder, write_new
from rlhf_engine.files.reading import MOST_WHOLE, number, read_bytes, whole_number
from rlhf_engine.model_folders.fingerprint import Fingerprint
from rlhf_engine.model_folders.tensor_file import read_tensors
from rlhf_engine.runs.checkpoint_content import require_sound_numbers, require_sound_tensors
from rlhf_engine.runs.checkpoint_list import STATE as STATE
from rlhf_engine.runs.checkpoint_list import candidates as candidates
from rlhf_engine.runs.checkpoint_list import found as _found
from rlhf_engine.runs.checkpoint_list import is_name, missing, run_of, thinned
from rlhf_engine.runs.checkpoint_list import step_of as step_of
from rlhf_engine.runs.reward_versions import at_home
from rlhf_engine.runs.run_care import bytes_under
from rlhf_engine.runs.run_code import require_named_code
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import require_settings_of
from rlhf_engine.system.units import format_bytes
from rlhf_engine.system.visible_text import escaped_json, one_line

TENSORS, MANIFEST = "tensors.safetensors", "manifest.json"
FORMAT = 1

_MOST_MANIFEST = 64 * 1024
_MOST_SAID = 300  # characters of what is wrong with a setting, which may be as long as that is
_MOST_NAMED = 3  # checkpoints that cannot be used


@dataclass(frozen=True)
class Quality:
    """How good the weights of a checkpoint are: the mean of a metric over the last steps, and which way is good."""

    metric: str
    value: float
    more_is_better: bool


@dataclass
class TrainingState:
    """A run after `step` steps: tensors of any shape and type by name, plain JSON values, and the settings in force."""

    step: int
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]
    config: RunConfig
    quality: Quality | None = None
    base: Fingerprint | None = None
    """The base model that the adapters belong to; None in what was saved before this was written down."""


def save(
    run_dir: RunDir, state: TrainingState, keep: int, *, budget: int = 0, given_up: Collection[Path] = ()
) -> Path:
    """Saves a checkpoint, then removes all but the `keep` newest, the best and, as far as `budget` bytes allow, some of
    earlier steps (`checkpoint_list.thinned`); and `given_up` and any of later steps, which are of another course. The
    best is told by the metric of `state`'s quality; without one there is none.

    The caller holds the run's lock. Raises RunError, with the earlier checkpoints intact, when the disk refuses, and
    ValueError for a number that JSON cannot hold.
    """
    folder = run_dir.checkpoints
    if folder.is_symlink():
        raise RunError(f"{folder} is a symbolic link, which is never followed for writing.")
    aside = folder / f".tmp-{secrets.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _remove_leftovers(folder)
        aside.mkdir(mode=0o700)
        _write(aside, state)
        path = aside.rename(_free_name(folder, state.step))
        fsync_directory(folder)
        fsync_directory(run_dir.path)
        _prune(folder, state, keep, budget, given_up)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise RunError(
            f"The checkpoint of step {state.step} could not be written under {folder}: {os_error_reason(error)}; "
            "earlier checkpoints are intact."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path


def size(path: Path) -> int:
    """Bytes of a checkpoint's files; those that are gone count nothing."""
    return bytes_under(path)


def load(path: Path) -> TrainingState:
    """Reads a checkpoint after verifying it: its files, and that what they hold is what its run can have saved.

    Raises CheckpointError, one sentence naming the file and what is wrong with it. Whether the tensors are those of the
    run's model is not known here: see `load_newest`.
    """
    state, digests = _read_state(path)
    file = path / TENSORS
    try:
        tensors = read_tensors(file, digests[TENSORS])
        require_sound_tensors(tensors, state.config)
    except OSError as error:
        raise CheckpointError(f"{file} could not be read: {os_error_reason(error)}.") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged: {error}.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{file} cannot be used: {str(error).rstrip('.')}.") from error
    return replace(state, tensors=tensors)


def best(run_dir: RunDir) -> Path | None:
    """The checkpoint of the best quality by the metric that the newest one was measured by; None if it was not."""
    paths = candidates(run_dir)[::-1]
    newest = _quality_of(paths[-1]) if paths else None
    return _best(paths, newest.metric) if newest else None


def newest_config(run_dir: RunDir) -> RunConfig:
    """The settings in the newest checkpoint whose settings are undamaged. Raises CheckpointError if there is none."""
    for path in candidates(run_dir):
        try:
            return _read_state(path)[0].config
        except CheckpointError:
            continue
    return load_newest(run_dir)[0].config  # says why there is none


def load_newest(
    run_dir: RunDir, fits: Callable[[TrainingState], None] = lambda state: None
) -> tuple[TrainingState, list[str]]:
    """The newest checkpoint that verifies, and one sentence for each newer one that does not.

    fits: raises CheckpointError for a state that the one who asks has no use for, which is then like a damaged one.
    Raises CheckpointError when there is none to go on from.
    """
    notices: list[str] = []
    for path in candidates(run_dir):
        try:
            return _load_fitting(path, fits), notices
        except CheckpointError as error:
            if not path.is_dir():  # removed since they were listed, by a run that has saved a newer one
                return load_newest(run_dir, fits)
            notices.append(f"{error} Going back to the checkpoint before it.")
    if notices:
        raise CheckpointError(f"No checkpoint of {run_dir.name} can be used: {' '.join(in_few(notices))}")
    raise CheckpointError(missing(run_dir, None))


def in_few(notices: list[str]) -> list[str]:
    """The first of such sentences, and how many more there are: one names what is wrong, a thousand hide it."""
    more = len(notices) - _MOST_NAMED
    return [*notices[:_MOST_NAMED], *([f"So it is with {more} more checkpoints."] if more > 0 else [])]


def state_at(run_dir: RunDir, step: int | None, tell: Callable[[str], None]) -> TrainingState:
    """The undamaged checkpoint of `step`, or the newest one if None. Raises CheckpointError saying which there are.

    tell: takes one sentence for each newer checkpoint that is not the newest one because it is damaged.
    """
    if step is None:
        state, notices = load_newest(run_dir)
        for text in in_few(notices):
            tell(text)
        return state
    problems = []
    for path in (path for path in candidates(run_dir) if step_of(path) == step):
        try:
            return load(path)
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(" ".join(problems))
    raise CheckpointError(missing(run_dir, step))


# ---------------------------------------------------------------------------------------------------------------------


def _load_fitting(path: Path, fits: Callable[[TrainingState], None]) -> TrainingState:
    """`load`, in a function of its own, so that a state that is of no use is let go of before the next is read."""
    state = load(path)
    try:
        fits(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be used: {str(error).rstrip('.')}.") from None
    return state


def _write(folder: Path, state: TrainingState) -> None:
    # clones, because safetensors refuses tensors that share memory or are not contiguous
    tensors = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
               for name, tensor in state.tensors.items()}
    safetensors.torch.save_file(tensors, folder / TENSORS)
    fsync_file(folder / TENSORS)
    content = {"step": state.step, "numbers": state.numbers, "config": state.config.model_dump(),
               "quality": asdict(state.quality) if state.quality else None,
               "base": dict(state.base.parts) if state.base else None}
    text = escaped_json(json.dumps(content, ensure_ascii=False, allow_nan=False)) + "\n"
    if len(text.encode()) > MOST_WHOLE:  # it would be saved, and never be read again
        raise RunError(f"The checkpoint of step {state.step} was not written: the run's settings, prompts among them, "
                       f"are more than {format_bytes(MOST_WHOLE)}.")
    write_new(folder / STATE, text)
    digests = {name: _digest(folder / name) for name in (TENSORS, STATE)}
    write_new(folder / MANIFEST, json.dumps({"format": FORMAT, "files": digests}) + "\n")
    fsync_directory(folder)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _free_name(folder: Path, step: int) -> Path:
    attempts = {attempt for taken, attempt, _ in _found(folder) if taken == step}
    free = max(attempts, default=0) + 1
    path = _named(folder, step, free)
    # others may have made one that is the last that can be counted: what came after it would not be found again
    return path if is_name(path.name) else _named(folder, step, min(set(range(1, len(attempts) + 2)) - attempts))


def _named(folder: Path, step: int, attempt: int) -> Path:
    return folder / (f"step-{step:06d}" + (f".{attempt}" if attempt > 1 else ""))


def _prune(folder: Path, state: TrainingState, keep: int, budget: int, given_up: Collection[Path]) -> None:
    found = _found(folder)
    past = [path for at, _, path in found if at <= state.step and path not in given_up]
    fixed = {*past[-max(keep, 1):], _best(past, state.quality.metric if state.quality else None)}
    places = thinned([step_of(path) for path in past], [size(path) for path in past],
                     {place for place, path in enumerate(past) if path in fixed}, budget)
    kept = {past[place] for place in places}
    for _, _, path in found:
        if path not in kept:
            # what cannot be removed is a leftover, and costs no run its end
            old = path.rename(folder / f".old-{secrets.token_hex(4)}")
            with suppress(OSError):
                remove_folder(old)


def _best(paths: list[Path], metric: str | None) -> Path | None:
    """The checkpoint of the best quality, the newest of equals; those measured by another metric do not count."""
    found = [(quality, path) for path in paths if (quality := _quality_of(path)) and quality.metric == metric]
    if not found:
        return None
    sign = 1 if found[-1][0].more_is_better else -1
    return max(reversed(found), key=lambda pair: sign * pair[0].value)[1]


def _quality_of(path: Path) -> Quality | None:
    try:
        return _quality_in(_read_json(path / STATE, MOST_WHOLE).get("quality"))
    except (CheckpointError, ValueError):
        return None


def _read_state(path: Path) -> tuple[TrainingState, dict[str, Any]]:
    """What a checkpoint says beside its tensors, verified, and the SHA-256 that each of its files should have."""
    manifest = _read_json(path / MANIFEST, _MOST_MANIFEST)
    digests = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(digests, dict) or digests.keys() != {TENSORS, STATE}:
        raise CheckpointError(f"{path / MANIFEST} is damaged, or from another version: it is not of format {FORMAT}.")
    file = path / STATE
    data = _read(file, MOST_WHOLE)
    if hashlib.sha256(data).hexdigest() != digests[STATE]:
        raise CheckpointError(f"{file} is damaged: its SHA-256 is not the one in {MANIFEST}.")
    found = _json(file, data)
    try:
        return _state_in(found, path), digests
    except KeyError as error:
        raise CheckpointError(f"{file} is damaged, or from another version: it has no {error}.") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged, or from another version: {error}.") from error
    except ConfigError as error:
        problem = one_line(error.problems[0][:_MOST_SAID])
        raise CheckpointError(f"{file} holds settings that this version does not know: {problem}.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{file} cannot be used: {str(error).rstrip('.')}.") from error


def _state_in(found: dict[str, Any], path: Path) -> TrainingState:
    """The state in a checkpoint's `found`, still without tensors. Raises KeyError, ValueError, ConfigError and
    CheckpointError, which are no whole sentences."""
    step, numbers, base = whole_number(found["step"]), found["numbers"], Fingerprint.read(found.get("base"))
    if step != step_of(path):
        raise CheckpointError(f"it is of step {step}, and its folder is called {path.name}")
    if not isinstance(numbers, dict) or not isinstance(found["config"], dict):
        raise ValueError("numbers and config are no tables")
    if base is None and found.get("base") is not None:
        raise ValueError("base is no fingerprint of a model")
    config = at_home(fields.validate(found["config"]), run_of(path))
    require_sound_numbers(numbers, config)
    require_named_code(run_of(path), config)
    require_settings_of(run_of(path), config)
    return TrainingState(step, {}, numbers, config, _quality_in(found.get("quality")), base)


def _quality_in(found: object) -> Quality | None:
    """The quality that a checkpoint tells of. Raises ValueError for what is none."""
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("metric"), str):
        raise ValueError("quality is of no metric")
    value = number(found.get("value"))
    if not math.isfinite(value):
        raise ValueError("quality is not finite")
    if not isinstance(found.get("more_is_better"), bool):
        raise ValueError("quality is neither the better for more nor for less")
    return Quality(found["metric"], value, found["more_is_better"])


def _remove_leftovers(folder: Path) -> None:
    """What a killed process left half written or half removed."""
    for path in [*folder.glob(".tmp-*"), *folder.glob(".old-*")]:
        with suppress(OSError):
            remove_folder(path)  # of what a link leads to nothing goes, nor the link


def _read_json(path: Path, most: int) -> dict[str, Any]:
    return _json(path, _read(path, most))


def _read(path: Path, most: int) -> bytes:
    try:
        return read_bytes(path, most)
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {os_error_reason(error)}.") from error


def _json(path: Path, data: bytes) -> dict[str, Any]:
    """A JSON object whose numbers are all finite. Raises CheckpointError."""
    try:
        found = json.loads(data, parse_constant=_finite, parse_float=_finite)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON ({error}).") from error
    except RecursionError as error:
        raise CheckpointError(f"{path} is damaged: it is nested too deeply.") from error
    return found if isinstance(found, dict) else {}


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:40]} is no number")
    return value
