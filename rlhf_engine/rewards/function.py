"""A reward that is somebody's own Python function.

It is code, so a run writes down the SHA-256 of the file it was started with, and goes on with another one only when a
person says so. The file alone is watched, not what it imports. Files within a run's directory are never run.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import SourceLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, cast

from rlhf_engine import fields
from rlhf_engine.config import RunConfig
from rlhf_engine.errors import CodeChangedError, ConfigError, RewardError
from rlhf_engine.reward_config import FunctionRewardConfig
from rlhf_engine.rewards.base import Score

Function = Callable[[list[str], list[str]], Any]

# by file, function and digest: a live edit of another reward must not run a file anew, let alone a changed one
_loaded: dict[tuple[Path, str, str], Function] = {}


class FunctionReward:
    """Scores by `function(prompts, responses)`: lists of texts in, for each response a number or a `Score` out."""

    def __init__(self, name: str, function: Function) -> None:
        self.name = name
        self._function = function

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        """One Score per response. What the function gives is checked where rewards are added up."""
        found = self._function(list(prompts), list(responses))
        found = found.tolist() if hasattr(found, "tolist") else found  # arrays and tensors
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise RewardError(f"Reward {self.name!r} returned a {type(found).__name__}; it must return a list with a "
                              "number or a Score for each response.")
        return [Score(float(value), {}) if hasattr(value, "__float__") else value for value in found]


@dataclass(frozen=True)
class CodeChange:
    """A file that differs from what a run was started with; `path` is that of the setting that holds its digest."""

    path: str
    file: Path
    old: str
    new: str


def file_of(config: FunctionRewardConfig) -> tuple[Path, str]:
    """The whole path of a reward's file, which need not exist, and the name of the function in it."""
    file, _, name = config.function.rpartition(":")
    return Path(os.path.expanduser(file)).resolve(), name


def load_function(config: FunctionRewardConfig) -> Function:
    """The function that a reward names. Raises ConfigError when it cannot be had, or the file is not the one meant."""
    path, name = file_of(config)
    if config.sha256 and (known := _loaded.get((path, name, config.sha256))):
        return known
    source, digest = _as_meant(config)
    key = (path, name, digest)
    if key not in _loaded:
        _loaded[key] = _run(config, path, name, source)
    return _loaded[key]


def pinned(config: RunConfig) -> RunConfig:
    """The config with whole paths, and the digest of each file that has none yet. Raises ConfigError as loading does.
    """
    changes: dict[str, Any] = {}
    for index, reward in enumerate(config.rewards):
        if isinstance(reward, FunctionRewardConfig):
            path, name = file_of(reward)
            changes[f"rewards.{index}.function"] = f"{path}:{name}"
            changes[f"rewards.{index}.sha256"] = _as_meant(reward)[1]
            load_function(reward)
    return fields.replace(config, changes) if changes else config


def code_changes(config: RunConfig) -> list[CodeChange]:
    """The files that are not what `config` wrote down. Raises ConfigError for one that cannot be read."""
    return [
        CodeChange(f"rewards.{index}.sha256", file_of(reward)[0], reward.sha256, _digest(reward))
        for index, reward in enumerate(config.rewards)
        if isinstance(reward, FunctionRewardConfig) and reward.sha256 and _digest(reward) != reward.sha256
    ]


def require_same_code(config: RunConfig) -> None:
    """Raises CodeChangedError when files differ from those that the run used so far."""
    if changes := code_changes(config):
        files = " and ".join(f"{item.file} (SHA-256 {item.old[:12]}…, now {item.new[:12]}…)" for item in changes)
        raise CodeChangedError(f"The run scores with code that has changed since: {files}.")


# ---------------------------------------------------------------------------------------------------------------------


def _digest(config: FunctionRewardConfig) -> str:
    return hashlib.sha256(_source(config)).hexdigest()


def _as_meant(config: FunctionRewardConfig) -> tuple[bytes, str]:
    """The file and its digest. Raises ConfigError for another file than the one that the configuration wrote down."""
    source = _source(config)
    digest = hashlib.sha256(source).hexdigest()
    if config.sha256 not in (None, digest):
        raise ConfigError(f"the reward {config.name!r}: {file_of(config)[0]} is no longer the file whose SHA-256 "
                          f"begins with {str(config.sha256)[:12]}; sha256 = none takes it as it is now")
    return source, digest


def _source(config: FunctionRewardConfig) -> bytes:
    path, _ = file_of(config)
    for folder in path.parents:
        # run.json is made with a run, but one without it can be opened, too
        if (folder / "config.toml").is_file() and any((folder / name).exists() for name in ("run.json", "checkpoints")):
            raise ConfigError(f"the reward {config.name!r}: {path} lies in a run's directory, and nothing there is run "
                              "as code; keep the file elsewhere")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the reward {config.name!r}: {path} could not be read: {error.strerror}") from None


class _ReadBefore(SourceLoader):
    """Runs the bytes that were hashed, not the file: it may change in between. No bytecode is read or written."""

    def __init__(self, path: Path, source: bytes) -> None:
        self._path, self._source = path, source

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str) -> bytes:
        return self._source


def _run(config: FunctionRewardConfig, path: Path, name: str, source: bytes) -> Function:
    loader = _ReadBefore(path, source)
    spec = spec_from_loader(f"reward_{hashlib.sha256(source).hexdigest()}", loader)
    assert spec is not None
    module = sys.modules[spec.name] = module_from_spec(spec)  # dataclasses look there for the module of a class
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"the reward {config.name!r}: {path} could not be run: {type(error).__name__}: {error}"
                          ) from error
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"the reward {config.name!r}: {path} has no function {name}; it has "
                          f"{', '.join(there[:8]) or 'none'}")
    return cast(Function, function)
