"""Models that judge: a run names them by whole paths and by digests of their files, and goes on with others only when
a person says so. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_engine.config.classifier import ClassifierRewardConfig
from rlhf_engine.config.fields import replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError, DataChangedError, ModelError, RlhfError
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.model_folders.adapter_folder import adapter_of
from rlhf_engine.model_folders.fingerprint import fingerprint_of
from rlhf_engine.model_folders.model_files import folder_in_use, located


@dataclass(frozen=True)
class JudgeChange:
    """A judging model whose files differ from those that a run was started with. path: of the setting that holds the
    digest; model: its name; new: the digest of what lies there now."""

    path: str
    model: str
    old: str
    new: str


def judge_folder(reward: ClassifierRewardConfig) -> Path | None:
    """Where the files of the classifier lie; None where they are not on this machine yet. Raises ConfigError."""
    try:
        return folder_in_use(reward.source)
    except OSError as error:  # in a folder that may not be looked into, or no name of one
        raise ConfigError(f"the reward {reward.name!r}: {reward.model!r} cannot be looked at: "
                          f"{os_error_reason(error)}") from error


def judge_digest(reward: ClassifierRewardConfig) -> str | None:
    """The digest of the classifier's weights, architecture, tokenizer and code, and of the base's if it is an adapter;
    None where they are not on this machine yet. Raises ConfigError for files that cannot be read."""
    folder = judge_folder(reward)
    try:
        adapter = adapter_of(reward.source, "SEQ_CLS")
        base = folder_in_use(adapter.base) if adapter else folder
        return fingerprint_of(base, adapter.folder if adapter else None).hex if base else None
    except ModelError as error:
        raise ConfigError(f"the reward {reward.name!r}: {str(error).removeprefix('model.name: ')}") from error


def pinned_judges(config: RunConfig) -> RunConfig:
    """The config with whole paths of its classifiers, and the digest of each that is on this machine. Raises
    ConfigError for files that cannot be read, and for those that are not what the config wrote down."""
    changes: dict[str, Any] = {}
    for index, reward in _judges(config):
        now = judge_digest(reward)
        if now is not None and reward.sha256 not in (None, now):
            raise ConfigError(f"the reward {reward.name!r}: {reward.model} is no longer the classifier whose SHA-256 "
                              f"begins with {reward.sha256[:12]}; sha256 = none takes it as it is now")
        changes[f"rewards.{index}.model"] = located(reward.source).name
        changes[f"rewards.{index}.sha256"] = now or reward.sha256
    return replace(config, changes) if changes else config


def judge_changes(config: RunConfig) -> list[JudgeChange]:
    """The classifiers whose files are not what `config` wrote down. What is not there at all is told when it is loaded.
    """
    found = []
    for index, reward in _judges(config):
        try:
            now = judge_digest(reward)
        except RlhfError:
            continue
        if reward.sha256 and now and now != reward.sha256:
            found.append(JudgeChange(f"rewards.{index}.sha256", reward.model, reward.sha256, now))
    return found


def require_same_judges(config: RunConfig) -> None:
    """Raises DataChangedError when classifiers are not those that the run was scored by so far."""
    if changes := judge_changes(config):
        told = " and ".join(f"{item.model} (SHA-256 {item.old[:12]}…, now {item.new[:12]}…)" for item in changes)
        raise DataChangedError(f"The run scores with a classifier that has changed since: {told}.")


def _judges(config: RunConfig) -> list[tuple[int, ClassifierRewardConfig]]:
    return [(index, reward) for index, reward in enumerate(config.rewards)
            if isinstance(reward, ClassifierRewardConfig)]
