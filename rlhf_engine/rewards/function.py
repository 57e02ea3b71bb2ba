"""A reward that is somebody's own Python function.

It is code, so a run writes down the SHA-256 of what it was started with, the file and the neighbours that it imports,
and goes on with another one only when a person says so. Files within a run's directory are never run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from rlhf_engine import fields
from rlhf_engine.config import RunConfig
from rlhf_engine.errors import CodeChangedError, ConfigError, RewardError
from rlhf_engine.reward_config import FunctionRewardConfig
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.code import Code, read_code, run_code
from rlhf_engine.rewards.failures import print_traceback, raised, where_of
from rlhf_engine.streams import captured

Function = Callable[[list[str], list[str]], Any]

# by file and digest: a live edit of another reward must not run a file anew, let alone a changed one
_loaded: dict[tuple[Path, str], ModuleType] = {}


class FunctionReward:
    """Scores by `function(prompts, responses)`: lists of texts in; for each response a number or a `Score` out, or None
    where this reward does not apply.

    It is called once a batch. What it prints goes to the log of the run, and its traceback too when it raises.
    """

    def __init__(self, name: str, function: Function) -> None:
        self.name = name
        self._function = function

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score | None]:
        """One Score per response, or None. What the function gives is checked where rewards are added up."""
        with captured():
            try:
                found = self._function(list(prompts), list(responses))
                found = found.tolist() if hasattr(found, "tolist") else found  # arrays and tensors
            except (Exception, SystemExit) as error:
                print_traceback(error)
                raise raised(self.name, error, responses) from error
        if isinstance(found, Coroutine):
            found.close()
        if not isinstance(found, Sequence) or isinstance(found, str | bytes | bytearray):
            raise RewardError(f"Reward {self.name!r} returned a {type(found).__name__}; it must return a list with a "
                              "number or a Score for each response, or None where it does not apply.")
        return [_as_score(value) for value in found]


def _as_score(value: Any) -> Any:
    """A number as a Score; everything else as it is."""
    try:
        return Score(float(value), {}) if hasattr(value, "__float__") else value
    except (TypeError, ValueError, OverflowError, RuntimeError):  # an array of several, say
        return value


@dataclass(frozen=True)
class CodeChange:
    """A file that differs from what a run was started with, or `with_neighbours` one that it imports does; `path` is
    that of the setting that holds the digest."""

    path: str
    file: Path
    old: str
    new: str
    with_neighbours: bool = False


def file_of(config: FunctionRewardConfig) -> tuple[Path, str]:
    """The whole path of a reward's file, which need not exist, and the name of the function in it."""
    file, _, name = config.function.rpartition(":")
    return Path(os.path.expanduser(file)).resolve(), name


def load_function(config: FunctionRewardConfig) -> Function:
    """The function that a reward names. Raises ConfigError when it cannot be had, or the file is not the one meant."""
    path, name = file_of(config)
    if config.sha256 and (known := _loaded.get((path, config.sha256))):
        return _named(config, known, name)
    code = _as_meant(config)
    key = (path, config.sha256 or code.digest)
    if key not in _loaded:
        _loaded[key] = _run(config, code)
    return _named(config, _loaded[key], name)


def pinned(config: RunConfig) -> RunConfig:
    """The config with whole paths, and the digest of each file that has none yet. Raises ConfigError as loading does.
    """
    changes: dict[str, Any] = {}
    for index, reward in enumerate(config.rewards):
        if isinstance(reward, FunctionRewardConfig):
            path, name = file_of(reward)
            changes[f"rewards.{index}.function"] = f"{path}:{name}"
            changes[f"rewards.{index}.sha256"] = _as_meant(reward).digest
            load_function(reward)
    return fields.replace(config, changes) if changes else config


def code_changes(config: RunConfig) -> list[CodeChange]:
    """The files that are not what `config` wrote down. Raises ConfigError for one that cannot be read."""
    found = []
    for index, reward in enumerate(config.rewards):
        if isinstance(reward, FunctionRewardConfig) and reward.sha256:
            code = _read(reward)
            if not _is(code, reward.sha256):
                found.append(CodeChange(f"rewards.{index}.sha256", code.path, reward.sha256, code.digest,
                                        with_neighbours=len(code.files) > 1))
    return found


def require_same_code(config: RunConfig) -> None:
    """Raises CodeChangedError when files differ from those that the run used so far."""
    if changes := code_changes(config):
        files = " and ".join(
            f"{item.file} {'or a file that it imports ' * item.with_neighbours}(SHA-256 {item.old[:12]}…, now "
            f"{item.new[:12]}…)" for item in changes)
        raise CodeChangedError(f"The run scores with code that has changed since: {files}.")


# ---------------------------------------------------------------------------------------------------------------------


def _is(code: Code, digest: str) -> bool:
    return digest in (code.digest, code.own_digest)


def _as_meant(config: FunctionRewardConfig) -> Code:
    """The code. Raises ConfigError where it is not what the configuration wrote down."""
    code = _read(config)
    if config.sha256 is not None and not _is(code, config.sha256):
        raise ConfigError(f"the reward {config.name!r}: {code.path} is no longer the file whose SHA-256 "
                          f"begins with {config.sha256[:12]}; sha256 = none takes it as it is now")
    return code


def _read(config: FunctionRewardConfig) -> Code:
    path, _ = file_of(config)
    _must_not_be_of_a_run(config, path)
    try:
        code = read_code(path)
    except OSError as error:
        raise ConfigError(f"the reward {config.name!r}: {error.filename or path} could not be read: {error.strerror}"
                          ) from None
    for neighbour, _ in code.files.values():
        _must_not_be_of_a_run(config, neighbour)
    return code


def _must_not_be_of_a_run(config: FunctionRewardConfig, path: Path) -> None:
    for folder in path.parents:
        # run.json is made with a run, but one without it can be opened, too
        if (folder / "config.toml").is_file() and any((folder / name).exists() for name in ("run.json", "checkpoints")):
            raise ConfigError(f"the reward {config.name!r}: {path} lies in a run's directory, and nothing there is run "
                              "as code; keep the file elsewhere")


def _run(config: FunctionRewardConfig, code: Code) -> ModuleType:
    try:
        with captured():
            return run_code(code)
    except SyntaxError as error:
        where = f"{Path(error.filename or str(code.path)).name}:{error.lineno or 1}"
        raise ConfigError(f"the reward {config.name!r}: {code.path} could not be run: {type(error).__name__}: "
                          f"{error.msg} at {where}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"the reward {config.name!r}: {code.path} could not be run: {type(error).__name__}: {error}"
                          f"{where_of(error)}") from error


def _named(config: FunctionRewardConfig, module: ModuleType, name: str) -> Function:
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"the reward {config.name!r}: {module.__file__} has no function {name}; it has "
                          f"{', '.join(there[:8]) or 'none'}")
    return cast(Function, function)
