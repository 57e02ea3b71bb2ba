"""Versions of reward models that learnt on within a run: `reward_models/version-002/` in its directory.

Each is written aside, fsynced and renamed into place, as a checkpoint is, and never changed. Which one rewards stands
in the settings of its reward, `version`: the number of its folder and the beginning of the digest of its files, so that
a resumed run goes on with the one that its checkpoint had. Settings that are read from a run know its directory
(`at_home`), wherever that lies by now. No torch here.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_engine.config import fields
from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.files.disk import fsync_directory, remove_folder, writing
from rlhf_engine.files.own_files import make_folder
from rlhf_engine.files.reading import number, read_bytes, whole_number
from rlhf_engine.model_folders.model_files import ADAPTER_WEIGHTS
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import REWARD_MODELS
from rlhf_engine.runs.run_lines import read_object, text_in

ABOUT = "reward_model.json"
"""What a folder with a reward model says of it."""
_FOLDER = re.compile(r"version-(\d{3,6})")
_MOST_WEIGHTS = 8 * 2**30  # bytes


@dataclass(frozen=True)
class RewardVersion:
    """A version: whose, its number, from which step on it rewards (`refused`: would reward, but that it was found worse
    than what it was before), how many judgements it has learnt from, and on `held_out` pairs the share of decided ones
    that it tells apart and its loss, each beside that of before (None: not measured)."""

    reward: str
    version: int
    first_step: int
    judgements: int
    accuracy: float | None = None
    held_out: int = 0
    accuracy_before: float | None = None
    loss: float | None = None
    loss_before: float | None = None
    refused: bool = False

    @property
    def text(self) -> str:
        """In a few words."""
        figures = []
        if self.accuracy is not None:
            before = f" ({self.accuracy_before:.0%} before)" if self.accuracy_before is not None else ""
            figures.append(f"{self.accuracy:.0%} told apart{before}")
        if self.loss is not None and self.loss_before is not None:
            figures.append(f"loss {self.loss:.3f} ({self.loss_before:.3f} before)")
        told = f"; {self.held_out} held-out pairs: {', '.join(figures)}" if figures else ""
        how = "is worse and does not reward" if self.refused else f"rewards from step {self.first_step} on"
        return f"{self.reward}: version {self.version} {how}; learnt from {self.judgements} judgements{told}"


def versions_folder(run_dir: RunDir) -> Path:
    """Where the versions of a run lie; made with the first one."""
    return run_dir.path / REWARD_MODELS


def number_of(version: str) -> int:
    """The number of the version that a setting names."""
    return int(version.partition("-")[0])


def folder_of(versions: Path, number: int) -> Path:
    """Where the version of that number lies."""
    return versions / f"version-{number:03d}"


def digest_of(files: Collection[Path]) -> str:
    """The SHA-256 of what a reward model consists of. Raises OSError."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(read_bytes(path, _MOST_WEIGHTS)).digest())
    return digest.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """What a folder with a reward model consists of."""
    return [folder / ABOUT, *sorted(folder.rglob(ADAPTER_WEIGHTS))]


def judgements_of(versions: Path, version: str) -> int:
    """How many judgements the version that a setting names has learnt from; 0 where it cannot be read."""
    with suppress(OSError, KeyError, TypeError, ValueError):
        return _version(folder_of(versions, number_of(version)), 0).judgements
    return 0


def next_version(versions: Path) -> int:
    """The number of the version that comes."""
    return max(_numbers(versions), default=0) + 1


def at_home(config: RunConfig, run_dir: RunDir) -> RunConfig:
    """The settings of a run, with its own directory as the place of its versions."""
    places: dict[str, Any] = {
        f"rewards.{index}.version_folder": str(versions_folder(run_dir).absolute())
        for index, reward in enumerate(config.rewards)
        if isinstance(reward, PreferenceRewardConfig) and (reward.version or reward.refused)}
    return fields.replace(config, places) if places else config


def versions_of(run_dir: RunDir) -> list[RewardVersion]:
    """The versions of a run in order; those that cannot be read are left out."""
    versions, found = versions_folder(run_dir), list[RewardVersion]()
    for at in sorted(_numbers(versions)):
        with suppress(OSError, KeyError, TypeError, ValueError):
            found.append(_version(folder_of(versions, at), at))
    return found


def drop_versions_after(run_dir: RunDir, step: int, config: RunConfig) -> None:
    """Removes the versions that were learnt after `step`, where a run goes on under `config`: they are of a course that
    is gone. The caller holds the run's lock."""
    versions = versions_folder(run_dir)
    used = {folder_of(versions, version) for version in _used(config)}
    for each in versions_of(run_dir):
        folder = folder_of(versions, each.version)
        if each.first_step > step and folder not in used and not versions.is_symlink():
            with suppress(OSError):  # then the next one has a number more
                remove_folder(folder)


def copy_versions(parent: RunDir, child: RunDir, step: int, config: RunConfig) -> None:
    """Gives a fork from the checkpoint of `step` the versions up to there, and those that `config` names. Raises
    RunError."""
    source, target = versions_folder(parent), versions_folder(child)
    wanted = {folder_of(source, each.version) for each in versions_of(parent) if each.first_step <= step}
    wanted |= {folder_of(source, version) for version in _used(config)}
    for folder in sorted(wanted):
        if folder.is_dir():
            with writing(target):
                make_folder(target)
                shutil.copytree(folder, target / folder.name, symlinks=True)
                fsync_directory(target)


# ---------------------------------------------------------------------------------------------------------------------


def _used(config: RunConfig) -> list[int]:
    return [number_of(version) for reward in config.rewards if isinstance(reward, PreferenceRewardConfig)
            for version in (reward.version, reward.refused) if version is not None]


def _numbers(versions: Path) -> list[int]:
    with suppress(OSError):
        return [int(match[1]) for path in versions.iterdir()
                if (match := _FOLDER.fullmatch(path.name)) and path.name == f"version-{int(match[1]):03d}"]
    return []


def _version(folder: Path, at: int) -> RewardVersion:
    about = read_object(folder / ABOUT)
    learnt = about["learnt_on"]
    after, before = (learnt.get(name) or {} for name in ("after", "before"))
    accuracy, accuracy_before, loss, loss_before = (None if value is None else number(value) for value in (
        learnt.get("accuracy"), before.get("eval/accuracy"), after.get("eval/loss"), before.get("eval/loss")))
    return RewardVersion(
        text_in(learnt, "reward"), at, whole_number(learnt["first_step"]), whole_number(learnt["judgements"]),
        accuracy, whole_number(learnt.get("held_out", 0)), accuracy_before, loss, loss_before,
        learnt.get("refused") is True)
