"""Checkpoints: everything a run needs to go on bit for bit, complete on disk or not there at all.

`checkpoints/step-000123/` holds `tensors.safetensors`, `state.json` and `manifest.json` with the SHA-256 of both:
safetensors loads a flipped byte without a word, so every file is verified before it is used. A checkpoint is written
aside, fsynced and renamed into place; older ones go only afterwards, by a rename too, so that no half checkpoint ever
bears a checkpoint's name. No pickle is written or read.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from rlhf_engine.checkpoint_list import STATE as STATE
from rlhf_engine.checkpoint_list import candidates as candidates
from rlhf_engine.checkpoint_list import found as _found
from rlhf_engine.checkpoint_list import missing, run_of, thinned
from rlhf_engine.checkpoint_list import step_of as step_of
from rlhf_engine.config import RunConfig
from rlhf_engine.disk import fsync_directory, fsync_file, why, write_new
from rlhf_engine.errors import CheckpointError, RunError
from rlhf_engine.fingerprint import Fingerprint
from rlhf_engine.run_code import require_named_code
from rlhf_engine.run_dir import RunDir
from rlhf_engine.visible_text import escaped_json

TENSORS, MANIFEST = "tensors.safetensors", "manifest.json"
FORMAT = 1


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
            f"The checkpoint of step {state.step} could not be written under {folder}: {why(error)}; "
            "earlier checkpoints are intact."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path


def size(path: Path) -> int:
    """Bytes of a checkpoint's files; those that are gone count nothing."""
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else 0


def load(path: Path) -> TrainingState:
    """Reads a checkpoint after verifying it. Raises CheckpointError naming the file that is missing or damaged, or the
    reward code that it names and its run does not."""
    manifest = _json(path / MANIFEST, _read(path / MANIFEST))
    if manifest.get("format") != FORMAT or set(_dict(manifest.get("files"))) != {TENSORS, STATE}:
        raise CheckpointError(f"{path / MANIFEST} is damaged, or from another version: it is not of format {FORMAT}.")
    data = {name: _verified(path / name, digest) for name, digest in manifest["files"].items()}
    state = _json(path / STATE, data[STATE])
    try:
        tensors = safetensors.torch.load(data[TENSORS])
        config = RunConfig.model_validate(state["config"])
        require_named_code(run_of(path), config)
        base = Fingerprint.read(state.get("base"))
        return TrainingState(int(state["step"]), tensors, state["numbers"], config, _quality_in(state), base)
    except ValidationError as error:
        raise CheckpointError(f"{path / STATE} holds settings that this version does not know: {error}") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of this version: {error}.") from error


def best(run_dir: RunDir) -> Path | None:
    """The checkpoint of the best quality by the metric that the newest one was measured by; None if it was not."""
    paths = candidates(run_dir)[::-1]
    newest = _quality_of(paths[-1]) if paths else None
    return _best(paths, newest.metric) if newest else None


def newest_config(run_dir: RunDir) -> RunConfig:
    """The settings in the newest checkpoint whose settings are undamaged. Raises CheckpointError if there is none."""
    for path in candidates(run_dir):
        try:
            manifest = _json(path / MANIFEST, _read(path / MANIFEST))
            state = _json(path / STATE, _verified(path / STATE, _dict(manifest.get("files")).get(STATE)))
            config = RunConfig.model_validate(state.get("config"))
            require_named_code(run_dir, config)
            return config
        except (CheckpointError, ValidationError):
            continue
    return load_newest(run_dir)[0].config  # says why there is none


def load_newest(run_dir: RunDir) -> tuple[TrainingState, list[str]]:
    """The newest checkpoint that verifies, and one sentence for each newer one that does not.

    Raises CheckpointError when there is none to go on from.
    """
    notices: list[str] = []
    for path in candidates(run_dir):
        try:
            return load(path), notices
        except CheckpointError as error:
            notices.append(f"{error} Going back to the checkpoint before it.")
    if notices:
        raise CheckpointError(f"No checkpoint of {run_dir.name} can be used: {' '.join(notices)}")
    raise CheckpointError(missing(run_dir, None))


# ---------------------------------------------------------------------------------------------------------------------


def state_at(run_dir: RunDir, step: int | None) -> TrainingState:
    """The undamaged checkpoint of `step`, or the newest one if None. Raises CheckpointError saying which there are."""
    if step is None:
        return load_newest(run_dir)[0]
    problems = []
    for path in (path for path in candidates(run_dir) if step_of(path) == step):
        try:
            return load(path)
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(" ".join(problems))
    raise CheckpointError(missing(run_dir, step))


def _write(folder: Path, state: TrainingState) -> None:
    # clones, because safetensors refuses tensors that share memory or are not contiguous
    tensors = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
               for name, tensor in state.tensors.items()}
    safetensors.torch.save_file(tensors, folder / TENSORS)
    fsync_file(folder / TENSORS)
    content = {"step": state.step, "numbers": state.numbers, "config": state.config.model_dump(),
               "quality": asdict(state.quality) if state.quality else None,
               "base": dict(state.base.parts) if state.base else None}
    write_new(folder / STATE, escaped_json(json.dumps(content, allow_nan=False)) + "\n")
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (TENSORS, STATE)}
    write_new(folder / MANIFEST, json.dumps({"format": FORMAT, "files": digests}) + "\n")
    fsync_directory(folder)


def _free_name(folder: Path, step: int) -> Path:
    attempts = [attempt for taken, attempt, _ in _found(folder) if taken == step]
    return folder / (f"step-{step:06d}" + (f".{max(attempts) + 1}" if attempts else ""))


def _prune(folder: Path, state: TrainingState, keep: int, budget: int, given_up: Collection[Path]) -> None:
    found = _found(folder)
    past = [path for at, _, path in found if at <= state.step and path not in given_up]
    fixed = {*past[-max(keep, 1):], _best(past, state.quality.metric if state.quality else None)}
    places = thinned([step_of(path) for path in past], [size(path) for path in past],
                     {place for place, path in enumerate(past) if path in fixed}, budget)
    kept = {past[place] for place in places}
    for _, _, path in found:
        if path not in kept:
            shutil.rmtree(path.rename(folder / f".old-{secrets.token_hex(4)}"))


def _best(paths: list[Path], metric: str | None) -> Path | None:
    """The checkpoint of the best quality, the newest of equals; those measured by another metric do not count."""
    found = [(quality, path) for path in paths if (quality := _quality_of(path)) and quality.metric == metric]
    if not found:
        return None
    sign = 1 if found[-1][0].more_is_better else -1
    return max(reversed(found), key=lambda pair: sign * pair[0].value)[1]


def _quality_of(path: Path) -> Quality | None:
    try:
        return _quality_in(_json(path / STATE, _read(path / STATE)))
    except CheckpointError:
        return None


def _quality_in(state: dict[str, Any]) -> Quality | None:
    quality = _dict(state.get("quality"))
    try:
        return Quality(str(quality["metric"]), float(quality["value"]), bool(quality["more_is_better"]))
    except (KeyError, TypeError, ValueError):
        return None


def _remove_leftovers(folder: Path) -> None:
    """What a killed process left half written or half removed."""
    for path in [*folder.glob(".tmp-*"), *folder.glob(".old-*")]:
        shutil.rmtree(path, ignore_errors=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {why(error)}.") from error


def _verified(path: Path, digest: object) -> bytes:
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != digest:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}.")
    return data


def _json(path: Path, data: bytes) -> dict[str, Any]:
    try:
        return _dict(json.loads(data))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON ({error}).") from error


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
