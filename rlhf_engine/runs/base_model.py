"""Which base model a run was trained on: its adapters mean nothing to any other.

A checkpoint holds the fingerprint of the base. Whoever puts its adapters on a base compares first, and goes on with
another one only when a person says so. No torch here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rlhf_engine.config import fields
from rlhf_engine.config.model_names import STORYTELLER, folder_of
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import BaseChangedError, CheckpointError, ModelError, RlhfError
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.model_folders.adapter_folder import adapter_of
from rlhf_engine.model_folders.fingerprint import Fingerprint, fingerprint_of
from rlhf_engine.model_folders.model_files import folder_in_use, located
from rlhf_engine.runs.checkpoint_list import base_at, config_at
from rlhf_engine.runs.run_dir import RunDir

ACCEPT = "--accept-changed-base"
CHANGED = "model.fingerprint"
"""What an edit is called that records an accepted change; there is no setting of that name."""
MOVES = ("model.name", "model.revision")
"""The settings that tell where a run's base is; a run goes on with others if it is the same base that lies there."""


class Shaped(Protocol):
    """A tensor, as far as anybody here looks at it."""

    @property
    def shape(self) -> Sequence[int]:
        """The size of each dimension."""

    @property
    def dtype(self) -> Any:
        """The type of its numbers."""


def base_fingerprint(config: ModelConfig) -> Fingerprint | None:
    """The fingerprint of the base that `config` names, as it lies there now; None when it is not on this machine.

    Raises ModelError for files that cannot be read.
    """
    try:
        adapter = adapter_of(config)
        folder = folder_in_use(adapter.base if adapter else config)
    except OSError as error:  # in a folder that may not be looked into
        raise ModelError(f"model.name: {config.name!r} cannot be looked at: {os_error_reason(error)}") from error
    return fingerprint_of(folder, adapter.folder if adapter else None) if folder else None


def commit_of(config: ModelConfig) -> str | None:
    """The commit that a hub model is at which was fetched; None for what is no hub model."""
    folder = None if os.path.isdir(folder_of(config.name)) or config.name == STORYTELLER else folder_in_use(config)
    return folder.name if folder and folder.parent.name == "snapshots" else None


def pinned_base(config: RunConfig) -> RunConfig:
    """The config with its base named so that the run finds it from every folder."""
    return config.model_copy(update={"model": located(config.model)})


def require_same_base(run: str, before: Fingerprint | None, now: Fingerprint | None, model: ModelConfig) -> None:
    """Raises BaseChangedError when `now`, which `model` names, is not the base that `run` was trained on (`before`).

    What is not known (None) is no change.
    """
    if before is not None and now is not None and before != now:
        raise BaseChangedError(f"The run {run} was trained on another base model than the one that {_place(model)} "
                               f"now: not the same {_listed(before.differing(now))}.")


def change_of_base(run_dir: RunDir) -> str:
    """What a person must agree to before the run goes on: its base model is another one now; empty if it is not."""
    try:
        model = config_at(run_dir, None).model
        require_same_base(run_dir.name, base_at(run_dir, None), base_fingerprint(model), model)
    except BaseChangedError as error:
        return str(error)
    except RlhfError:
        pass  # what else is wrong with the run is told when it is resumed
    return ""


@dataclass(frozen=True)
class BaseChoice:
    """What a person says about the base of a run. accept: go on with another one. moves: by their path, the settings
    (those of MOVES) that tell where it is now.
    """

    accept: bool = False
    moves: Mapping[str, Any] = field(default_factory=dict)

    def placed(self, config: RunConfig) -> RunConfig:
        """The run's config with its base where it is now. Raises ConfigError."""
        return pinned_base(fields.replace(config, dict(self.moves))) if self.moves else config

    def check(self, run: str, before: Fingerprint | None, now: Fingerprint | None, model: ModelConfig) -> None:
        """`require_same_base`, unless the person accepts whatever there is. A base that has moved must be known to be
        the same.
        """
        if self.accept:
            return
        if self.moves and before is None:
            raise BaseChangedError(f"The run {run} does not say what its base model was, so it is not known whether "
                                   f"{model.name} is the same.")
        require_same_base(run, before, now, model)


AS_IT_WAS = BaseChoice()


def require_fit(saved: Mapping[str, Shaped], wanted: Mapping[str, Shaped], what: str) -> None:
    """Raises CheckpointError unless the tensors of a checkpoint have the names, shapes and types of those wanted.

    what: as in "adapters of the checkpoint do not fit GPT2LMHeadModel".
    """
    differing = [name for name in {**saved, **wanted} if _size(saved.get(name)) != _size(wanted.get(name))]
    if differing:
        first, more = differing[0], f", and {len(differing) - 1} more like it" if differing[1:] else ""
        raise CheckpointError(f"The {what}: {first} is {_size(saved.get(first))} in the checkpoint and "
                              f"{_size(wanted.get(first))} in the model{more}")


# ---------------------------------------------------------------------------------------------------------------------


def _place(model: ModelConfig) -> str:
    if os.path.isdir(folder_of(model.name)):
        return f"lies in {model.name}"
    return f"is called {model.name}" + (f" at revision {model.revision}" if model.revision else "")


def _size(tensor: Shaped | None) -> str:
    if tensor is None:
        return "absent"
    return f"{' × '.join(map(str, tensor.shape)) or 'one number'} of {str(tensor.dtype).removeprefix('torch.')}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
