"""A run names what it learns from, and the models that judge it, by whole paths and by their SHA-256, and goes on with
others only when a person says so. Lists that stand in the settings are part of the run, and cannot change."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from rlhf_engine.config.fields import replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import load_data
from rlhf_engine.data.tables import digest_of
from rlhf_engine.errors import ConfigError, DataChangedError, RlhfError
from rlhf_engine.model_folders.judge_models import pinned_judges, require_same_judges
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import settings_now

ACCEPT = "--accept-changed-data"


@dataclass(frozen=True)
class DataChange:
    """Data that is not what a run wrote down. new: what it is now."""

    source: str
    old: str | None
    new: str

    path = "data.sha256"


def pinned_data(config: RunConfig) -> RunConfig:
    """The config with the whole path of its source and the digest of what lies there, and the same for models that
    judge. Raises ConfigError for what cannot be read, and for what is not what the config wrote down."""
    config = pinned_judges(config)
    if config.data.source is None:
        return config
    changes: dict[str, Any] = {}
    if os.path.exists(there := os.path.expanduser(config.data.source)):
        changes["data.source"] = os.path.realpath(there)
    loaded = load_data(replace(config, changes))
    if config.data.sha256 not in (None, loaded.sha256):
        raise ConfigError(f"data.source: {config.data.source} is no longer what its SHA-256 {config.data.sha256[:12]}… "
                          "was taken of; data.sha256 = none takes it as it is now")
    changes["data.sha256"] = loaded.sha256
    if loaded.commit:
        changes["data.revision"] = loaded.commit
    return replace(config, changes)


def data_change(config: RunConfig, now: str | None = None) -> DataChange | None:
    """How the source differs from what a run wrote down; None if it does not. now: its digest, if it has been read
    already. Raises ConfigError if it cannot be read."""
    data = config.data
    if data.source is None:
        return None
    now = now or digest_of(data) or load_data(config).sha256
    assert now is not None
    return None if now == data.sha256 else DataChange(data.source, data.sha256, now)


def require_same_data(config: RunConfig, now: str | None = None) -> None:
    """Raises DataChangedError when the source is not what the run learnt from so far, or the run does not say what
    that was. now: see `data_change`."""
    if change := data_change(config, now):
        was = (f"SHA-256 {change.old[:12]}…, now {change.new[:12]}…" if change.old
               else "the run does not say what it was")
        raise DataChangedError(f"The run learns from data that has changed since: {change.source} ({was}).")


def change_of_data(run_dir: RunDir) -> str:
    """What a person must agree to before the run goes on: its data, or a model that judges it, is not what it
    was; empty if nothing has changed."""
    try:
        require_same_data(config := settings_now(run_dir))
        require_same_judges(config)
    except DataChangedError as error:
        return str(error)
    except RlhfError:
        pass  # what else is wrong with the run is told when it is resumed
    return ""
