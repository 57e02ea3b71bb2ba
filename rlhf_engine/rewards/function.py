"""A reward that is somebody's own Python function.

It is code, and runs only if this user trusts these very contents (`runs.trust`), whoever named the file. A run
writes down the SHA-256 of what it was started with, the file and the neighbours that it imports, and goes on with
another one only when a person says so. Files within a run's directory are never run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from rlhf_engine.config import fields
from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.rewards import FunctionRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import (
    CodeChangedError,
    CodeInQuestion,
    ConfigError,
    RewardError,
    RunError,
    first_line,
    kind_and_message,
    short,
)
from rlhf_engine.rewards.base import Columns, Score
from rlhf_engine.rewards.code import Code, read_code, run_code
from rlhf_engine.rewards.failures import print_traceback, raised, where_of
from rlhf_engine.runs.trust import UntrustedCodeError, is_trusted, trust, trust_once
from rlhf_engine.system.streams import captured

Function = Callable[..., Any]

# by file and digest of all of it: a live edit of another reward must not run a file anew, let alone a changed one
_loaded: dict[tuple[Path, str], ModuleType] = {}
# each, beside a config.toml, tells the folder of a run
_OF_RUNS = ("run.json", "status.json", "metrics.jsonl", "checkpoints")


class FunctionReward:
    """Scores by `function(prompts, responses)`: lists of texts in; for each response a number or a `Score` out, or None
    where this reward does not apply.

    Parameters behind these two are columns of the data by their names, each a list with an entry for each response;
    one that is called `columns` is a dict of all of them, and so is **. Where prompts are no rows of the data a
    function that cannot do without a column does not apply.

    It is called once a batch. What it prints goes to the log of the run, and its traceback too when it raises.
    """

    def __init__(self, name: str, function: Function) -> None:
        self.name = name
        self._function = function
        self._wanted = _parameters_behind_two(function)

    def score(
        self, prompts: Sequence[str], responses: Sequence[str], columns: Columns | None = None
    ) -> list[Score | None]:
        """One Score per response, or None. What the function gives is checked where rewards are added up.

        Raises RewardError when it raises, or asks for a column that the data does not have.
        """
        seen = self._seen(columns)
        if seen is None:
            return [None] * len(responses)
        with captured():
            try:
                found = self._function(list(prompts), list(responses), **seen)
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

    def _seen(self, columns: Columns | None) -> dict[str, Any] | None:
        """The columns that the function asks for; None where it needs one and there are none at all."""
        there = {name: list(values) for name, values in (columns or {}).items()}
        seen: dict[str, Any] = {}
        for parameter in self._wanted:
            optional = parameter.default is not Parameter.empty
            if parameter.kind is Parameter.VAR_KEYWORD:
                taken = {other.name for other in self._wanted} | {"prompts", "responses"}
                seen |= {name: values for name, values in there.items() if name not in taken}
            elif parameter.name == "columns":
                seen["columns"] = there
            elif parameter.name in there:
                seen[parameter.name] = there[parameter.name]
            elif not optional and columns is None:
                return None
            elif not optional:
                raise RewardError(f"Reward {self.name!r} asks for the column {parameter.name!r}, which the data does "
                                  f"not have; its columns are {short(', '.join(there), 200) or 'none'}.")
        return seen


def _parameters_behind_two(function: Function) -> list[Parameter]:
    """The parameters that name columns. A callable that does not say what it takes, takes none."""
    try:
        parameters = list(signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    positional = [one for one in parameters
                  if one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    return [one for one in parameters if one not in positional[:2]
              and one.kind not in (Parameter.VAR_POSITIONAL, Parameter.POSITIONAL_ONLY)]


def _as_score(value: Any) -> Any:
    """A number as a Score; everything else as it is."""
    try:
        return Score(float(value), {}) if hasattr(value, "__float__") else value
    except (TypeError, ValueError, OverflowError, RuntimeError):  # an array of several, say
        return value


@dataclass(frozen=True)
class CodeChange:
    """A file that differs from what a run was started with, or `with_neighbours` one that it imports does; `path` is
    that of the setting that holds the digest. `same_file`: the run wrote down the digest of the file alone, as was done
    before neighbours were found, and that is as it was."""

    path: str
    code: CodeInQuestion
    old: str
    same_file: bool

    @property
    def file(self) -> Path:
        """The file."""
        return self.code.file

    @property
    def new(self) -> str:
        """The digest of all of it now."""
        return self.code.digest

    @property
    def with_neighbours(self) -> bool:
        """True if there are files that it imports."""
        return len(self.code.files) > 1


def file_of(config: FunctionRewardConfig) -> tuple[Path, str]:
    """The whole path of a reward's file, which need not exist, and the name of the function in it. Raises ConfigError.
    """
    file, _, name = config.function.rpartition(":")
    return _whole(file), name


def load_function(config: FunctionRewardConfig) -> Function:
    """The function that a reward names; the one place where code of rewards is run.

    Raises ConfigError when it cannot be had, or the file is not the one meant, and UntrustedCodeError, having run
    nothing of it, when this user has not agreed to run it.
    """
    path, name = file_of(config)
    if config.sha256 and is_trusted(config.sha256) and (known := _loaded.get((path, config.sha256))):
        return _named(config, known, name)
    code = _trusted(config)
    trust_once(code.digest)  # what runs here goes on, here and in a process that takes over
    key = (path, code.digest)
    if key not in _loaded:
        _loaded[key] = _run(config, code)
    return _named(config, _loaded[key], name)


def require_trusted(config: RunConfig) -> None:
    """Raises UntrustedCodeError for the first code of `config` that this user has not agreed to run, and ConfigError
    for what cannot be had; nothing is run."""
    for reward in config.rewards:
        if isinstance(reward, FunctionRewardConfig):
            _trusted(reward)


def code_at(file: str | Path) -> CodeInQuestion:
    """The code in a file, for the person who decides about it. Raises ConfigError where it cannot be had."""
    return _in_question(_read(_whole(file), ""))


def pinned(config: RunConfig) -> RunConfig:
    """The config with whole paths, and the digest of each file, and of each reward model, that has none yet. Raises
    ConfigError as loading does."""
    require_trusted(config)
    changes: dict[str, Any] = {}
    for index, reward in enumerate(config.rewards):
        if isinstance(reward, FunctionRewardConfig):
            path, name = file_of(reward)
            changes[f"rewards.{index}.function"] = f"{path}:{name}"
            changes[f"rewards.{index}.sha256"] = _as_meant(reward).digest
            load_function(reward)
    config = fields.replace(config, changes) if changes else config
    if any(isinstance(reward, PreferenceRewardConfig) for reward in config.rewards):
        from rlhf_engine.rewards.trained_model import pinned_reward_models  # torch, which files of code do without

        return pinned_reward_models(config)
    return config


def code_changes(config: RunConfig) -> list[CodeChange]:
    """The code that is not what `config` wrote down. Raises ConfigError for files that cannot be read."""
    found = []
    for index, reward in enumerate(config.rewards):
        if isinstance(reward, FunctionRewardConfig) and reward.sha256:
            code = _code_of(reward)
            if code.digest != reward.sha256:
                found.append(CodeChange(f"rewards.{index}.sha256", _in_question(code), reward.sha256,
                                        same_file=code.own_digest == reward.sha256))
    return found


def accept_changes(config: RunConfig) -> None:
    """Agree to run the files that differ, or may, from those that the run used so far, as they are now. Raises
    ConfigError for those that cannot be read, and UntrustedCodeError for code that is as it was and not trusted."""
    for change in code_changes(config):
        with suppress(RunError):  # it holds for this process; that it was not kept is no reason not to go on
            trust(change.new, change.file)
    _require_trusted_now(config)


def require_same_code(config: RunConfig) -> None:
    """Raises CodeChangedError when files differ from those that the run used so far, and UntrustedCodeError when they
    do not, and this user has not agreed to run them."""
    if changes := [change for change in code_changes(config) if not change.same_file]:
        files = " and ".join(
            f"{item.file} {'or a file that it imports ' * item.with_neighbours}(SHA-256 {item.old[:12]}…, now "
            f"{item.new[:12]}…)" for item in changes)
        raise CodeChangedError(f"The run scores with code that has changed since: {files}.",
                               tuple(change.code for change in changes))
    _require_trusted_now(config)


# ---------------------------------------------------------------------------------------------------------------------


def _require_trusted_now(config: RunConfig) -> None:
    """`require_trusted`, of the files as they are, whatever the config wrote down."""
    changes: dict[str, Any] = {change.path: change.new for change in code_changes(config)}
    require_trusted(fields.replace(config, changes) if changes else config)


def _trusted(config: FunctionRewardConfig) -> Code:
    """The code, which may be run: these very bytes. Raises UntrustedCodeError, and ConfigError."""
    code = _as_meant(config)
    if not is_trusted(code.digest):
        raise UntrustedCodeError(_in_question(code))
    return code


def _in_question(code: Code) -> CodeInQuestion:
    own, source = code.files[code.name]
    neighbours = (path for name, (path, _) in sorted(code.files.items()) if name != code.name)
    return CodeInQuestion(own, code.digest, (own, *neighbours), source.decode("utf-8", "replace"))


def _as_meant(config: FunctionRewardConfig) -> Code:
    """The code. Raises ConfigError where it is not what the configuration wrote down."""
    code = _code_of(config)
    if config.sha256 is not None and config.sha256 not in (code.digest, code.own_digest):
        raise ConfigError(f"the reward {config.name!r}: {code.path} is no longer the file whose SHA-256 "
                          f"begins with {config.sha256[:12]}; sha256 = none takes it as it is now")
    return code


def _code_of(config: FunctionRewardConfig) -> Code:
    return _read(file_of(config)[0], f"the reward {config.name!r}: ")


def _read(path: Path, whose: str) -> Code:
    """The code in a file whose path is whole. whose: stands before what is wrong with it. Raises ConfigError."""
    _must_not_be_of_a_run(path, whose)
    try:
        code = read_code(path)
    except OSError as error:
        raise ConfigError(f"{whose}{error.filename or path} could not be read: {error.strerror}") from None
    for neighbour, _ in code.files.values():
        _must_not_be_of_a_run(neighbour, whose)
    return code


def _must_not_be_of_a_run(path: Path, whose: str) -> None:
    for folder in path.parents:
        # run.json is made with a run, but one without it can be opened, too
        if os.path.lexists(folder / "config.toml") and any(os.path.lexists(folder / name) for name in _OF_RUNS):
            raise ConfigError(f"{whose}{path} lies in a run's directory, and nothing there is run as code; keep the "
                              "file elsewhere")


def _run(config: FunctionRewardConfig, code: Code) -> ModuleType:
    try:
        with captured():
            return run_code(code)
    except SyntaxError as error:
        where = f"{Path(error.filename or str(code.path)).name}:{error.lineno or 1}"
        raise ConfigError(f"the reward {config.name!r}: {code.path} could not be run: {type(error).__name__}: "
                          f"{error.msg} at {where}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"the reward {config.name!r}: {code.path} could not be run: {kind_and_message(error)}"
                          f"{where_of(error)}") from error


def _whole(file: str | Path) -> Path:
    """A whole path without links. Raises ConfigError for one that no disk could have."""
    try:
        return Path(os.path.realpath(os.path.expanduser(file)))
    except ValueError as error:  # a NUL
        raise ConfigError(f"{str(file)!r} is no path: {first_line(error)}") from None


def _named(config: FunctionRewardConfig, module: ModuleType, name: str) -> Function:
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"the reward {config.name!r}: {module.__file__} has no function {name}; it has "
                          f"{', '.join(there[:8]) or 'none'}")
    return cast(Function, function)
