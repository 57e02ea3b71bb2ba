"""Code that comes with a model. It runs only where a person named that very model, for this one start of the program.

A preset or a run can never ask for it: what is trusted is kept by the process, not by a configuration.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_engine.config.model_names import folder_of
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import ConfigError, ModelError, first_line, short
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.reading import read_bytes
from rlhf_engine.model_folders.model_files import json_object, most_bytes

FLAG = "--trust-remote-code"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAMED = ("config.json", "tokenizer_config.json")  # files that name classes to be run


@dataclass(frozen=True)
class Trusted:
    """A repository of the hub at one commit, or a folder (revision None)."""

    name: str
    revision: str | None

    @property
    def argument(self) -> str:
        """What stands behind the flag."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


_trusted: Trusted | None = None


def trust(argument: str) -> str:
    """From now on this process may run the code of that model. Returns the sentence that a person must see.

    argument: `owner/name@commit`, the commit in full, or a folder. Raises ConfigError for anything else.
    """
    global _trusted
    folder = folder_of(argument)
    if argument and folder.is_dir():
        try:
            digest = _digest(folder)
        except OSError as error:
            raise ConfigError(f"{FLAG}: the code in {folder} could not be read: {os_error_reason(error)}") from None
        _trusted = Trusted(str(folder.resolve()), None)
        return f"running the model code in {_trusted.name} (SHA-256 {digest[:16]}…), as {FLAG} allows"
    name, at, revision = argument.rpartition("@")
    if not at or name.count("/") != 1 or not _COMMIT.fullmatch(revision):
        raise ConfigError(f"{FLAG}: {argument!r} is neither a folder nor owner/name@commit, with the 40 hexadecimal "
                          "digits of a commit")
    _trusted = Trusted(name, revision)
    return f"running the model code of {name} at commit {revision}, as {FLAG} allows"


def distrust() -> None:
    """Take it back."""
    global _trusted
    _trusted = None


def arguments() -> list[str]:
    """The flag as it was given, for a process that goes on with the same start."""
    return [FLAG, _trusted.argument] if _trusted else []


def is_trusted(config: ModelConfig) -> bool:
    """True when the person at this process said that the code of exactly this model may run."""
    folder = folder_of(config.name)
    if folder.is_dir():
        return _trusted == Trusted(str(folder.resolve()), None)
    return config.revision is not None and _trusted == Trusted(config.name, config.revision)


def options(config: ModelConfig, source: str, where: dict[str, Any]) -> dict[str, Any]:
    """What `from_pretrained` is told. Raises ModelError when trusted files name code of another repository.

    where: the other options that find the model's files.
    """
    # False, not left out: transformers would ask on the terminal
    if not is_trusted(config):
        return {"trust_remote_code": False}
    for file in _NAMED:
        for target in _classes(source, file, where):
            repository = target.partition("--")[0] if "--" in target else ""
            if repository not in ("", config.name):
                shown = short(repr(repository))
                raise ModelError(f"model.name: {config.name!r} names code of another repository, {shown}, which {FLAG} "
                                 "does not cover")
    return {"trust_remote_code": True} | ({"code_revision": config.revision} if config.revision else {})


def how_to(config: ModelConfig) -> str:
    """The sentence for a model that has code of its own and is not trusted."""
    folder = folder_of(config.name).is_dir()
    what = f"{FLAG} {config.name}" if folder else (
        f"{FLAG} {config.name}@COMMIT, and model.revision set to that commit")
    return f"model.name: {config.name!r} needs code of its own, which is run only with {what}; read that code first"


def _classes(source: str, file: str, where: dict[str, Any]) -> list[str]:
    """The classes that a file of the model names under auto_map, as `[repository--]module.Class`.

    Raises ModelError for a file that is no JSON object.
    """
    from transformers.utils import cached_file

    path = cached_file(source, file, _raise_exceptions_for_missing_entries=False, **where)
    if not path:
        return []
    try:
        found = json_object(Path(path))
    except ValueError as error:
        raise ModelError(f"model.name: {file} of {source} is damaged: {first_line(error)}") from None
    except OSError as error:
        raise ModelError(f"model.name: {file} of {source} could not be read: {os_error_reason(error)}") from None
    return list(_texts(found.get("auto_map")))


def _texts(value: Any) -> Iterator[str]:
    """All texts in it, however deep: what is null or a number names no class."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _digest(folder: Path) -> str:
    """SHA-256 over names and contents of the folder's Python files."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*.py") if path.is_file()):
        code = read_bytes(path, most_bytes(path), follow=True)
        total.update(os.fsencode(path.relative_to(folder)) + b"\0" + code + b"\0")
    return total.hexdigest()
