"""Presets read: TOML to `RunConfig`, with every mistake named by file and line. See `preset_writer` for the way back.

TOML has no null: settings that are off are written as the word "none".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rlhf_engine import fields
from rlhf_engine.config import RunConfig
from rlhf_engine.errors import ConfigError

TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'"
    r"|\#[^\n]*" r"|[\[\]{}]" r"|\n" r"""|[^\[\]{}"'\#\n]+""",
    re.DOTALL,
)


def parse(text: str, source: str, folder: Path | None = None) -> RunConfig:
    """The configuration in `text`. Raises ConfigError with one line a mistake: "source:line: key: what is allowed".

    folder: where files of prompts and words lie that are named in place of lists. Without it none is read: what a run
    recorded holds them, and must not read what lies about.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_error(text, source, error)) from None
    except RecursionError:
        raise ConfigError(f"{source}: is nested too deeply to be a preset.") from None
    wrong: list[tuple[str, str]] = []
    if folder is not None:
        data, wrong = fields.lists_from_files(data, folder)
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        wrong += [(path, _sentence(path, what, data)) for path, what in fields.problems(error)]
    if not wrong:
        return config
    lines = key_lines(text)
    found = sorted(((_line_of(path, lines), path, what) for path, what in wrong), key=lambda item: item[0])
    raise ConfigError([f"{source}:{line}: {path}: {what}" if line else f"{source}: {path}: {what}"
                       for line, path, what in found])


def key_lines(text: str) -> dict[str, int]:
    """The line (from 1) of every key and table of a valid TOML text, by dotted path; items of lists count from 0."""
    lines: dict[str, int] = {}
    prefix: list[str] = []
    counts: dict[str, int] = {}
    for line, statement in _statements(text):
        value = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            prefix = []
            while isinstance(value, dict | list) and value:
                if isinstance(value, list):
                    index = counts[".".join(prefix)] = counts.get(".".join(prefix), -1) + 1
                    prefix.append(str(index))
                    value = value[0]
                else:
                    key, value = next(iter(value.items()))
                    prefix.append(key)
                lines.setdefault(".".join(prefix), line)
        else:
            for path in _paths(value, prefix):
                lines.setdefault(path, line)
    return lines


# ---------------------------------------------------------------------------------------------------------------------


def _syntax_error(text: str, source: str, error: tomllib.TOMLDecodeError) -> str:
    what, at, where = str(error).rpartition(" (at ")
    number = re.match(r"line (\d+)", where)
    line = int(number[1]) if number else len(text.splitlines()) or 1  # else "end of document"
    return f"{source}:{line}: is not valid TOML: {what if at else error}"


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each `key = value` and each [table] header with the line it starts on; values may span lines."""
    line, start, depth, statement = 1, 1, 0, ""
    for token in TOKEN.findall(text + "\n"):
        if token == "\n" and depth == 0:
            if statement.strip():
                yield start, statement
            statement, start = "", line + 1
        elif not token.startswith("#"):
            statement += token
            depth += (token in ("[", "{")) - (token in ("]", "}"))
        line += token.count("\n")


def _paths(value: Any, prefix: list[str]) -> Iterator[str]:
    if prefix:
        yield ".".join(prefix)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, [*prefix, str(key)])


def _line_of(path: str, lines: dict[str, int]) -> int:
    """The line of a path, or of the nearest table around it; 0 if there is none."""
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path, 0)


def _sentence(path: str, what: str, data: dict[str, Any]) -> str:
    if what != "no such setting":
        return what
    return fields.unknown_key(path, _known_keys(data)).removeprefix(f"{path}: ")


def _known_keys(data: dict[str, Any]) -> list[str]:
    """Every path that a preset with these rewards may hold."""
    known = []
    for name, info in RunConfig.model_fields.items():
        known.append(name)
        known += [f"{name}.{key}" for key in getattr(info.annotation, "model_fields", ())]
    rewards = data.get("rewards")
    for index, reward in enumerate(rewards if isinstance(rewards, list) else []):
        model = fields.reward_kinds().get(str(reward.get("kind"))) if isinstance(reward, dict) else None
        known += [f"rewards.{index}.{key}" for key in (model.model_fields if model else ())]
    return known
