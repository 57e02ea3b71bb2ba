"""Writes a version of a reward model into a run's directory: whole, or not at all.

What versions are: `reward_versions`.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from rlhf_engine.files.disk import fsync_directory, fsync_file, write_new, writing
from rlhf_engine.files.json_text import to_json
from rlhf_engine.files.own_files import make_folder
from rlhf_engine.model_folders.model_files import ADAPTER_WEIGHTS
from rlhf_engine.runs.reward_versions import ABOUT, digest_of, files_of, folder_of, next_version

_LETTERS = 12  # of a digest that a version is told by


@dataclass(frozen=True)
class MemberFiles:
    """A member's adapter and head by peft's names, on the CPU, and what writes its settings into a folder."""

    tensors: Mapping[str, Tensor]
    write_settings: Callable[[str], Any]


@dataclass(frozen=True)
class NewVersion:
    """What a version consists of. about: for its `reward_model.json`, to which the names of its members are added."""

    members: Sequence[MemberFiles]
    about: Mapping[str, Any]


def add_version(versions: Path, new: NewVersion) -> str:
    """Keeps a version; what the setting `version` of its reward is to say. The caller holds the run's lock. Raises
    RunError, with nothing left of it, when the disk refuses."""
    aside = versions / f".tmp-{secrets.token_hex(4)}"
    try:
        with writing(versions):
            make_folder(versions)
            aside.mkdir(mode=0o700)
            _write(aside, new)
            number = next_version(versions)
            found = f"{number:03d}-{digest_of(files_of(aside))[:_LETTERS]}"
            aside.rename(folder_of(versions, number))
            fsync_directory(versions)
            fsync_directory(versions.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return found


def _write(folder: Path, new: NewVersion) -> None:
    names = ["."] if len(new.members) == 1 else [f"member-{at}" for at in range(1, len(new.members) + 1)]
    for name, member in zip(names, new.members, strict=True):
        own = folder / name
        own.mkdir(mode=0o700, exist_ok=True)
        member.write_settings(str(own))
        safetensors.torch.save_file(dict(member.tensors), own / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        for path in own.iterdir():
            fsync_file(path)
    write_new(folder / ABOUT, to_json({**new.about, "members": names}, indent=2) + "\n")
    fsync_directory(folder)
