"""Presets read: TOML to `RunConfig`, with every mistake named by file and line. See `preset_writer` for the way back.

TOML has no null: settings that are off are written as the word "none".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rlhf_engine.config import fields
from rlhf_engine.config.migrations import earlier_names, migrated
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError, first_few
from rlhf_engine.files import toml_text

_LOOKED_UP = 20


def parse(text: str, source: str, folder: Path | None = None) -> RunConfig:
    """The configuration in `text`. Raises ConfigError with one line a mistake: "source:line: key: what is allowed".

    folder: where files of prompts and words lie that are named in place of lists. Without it none is read: what a run
    recorded holds them, and must not read what lies about.
    """
    try:
        data = toml_text.loads(text)
    except toml_text.TomlError as error:
        raise ConfigError(f"{source}:{error.line}: {error}" if error.line else f"{source}: {error}") from None
    try:
        data = migrated(data)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    wrong: list[tuple[str, str]] = []
    if folder is not None:
        data, wrong = fields.lists_from_files(data, folder)
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        wrong += fields.problems(error)
    if not wrong:
        return config
    lines = key_lines(text)
    wrong = [(_as_written(path, lines), what) for path, what in wrong]
    found = sorted(((_line_of(path, lines), path, what) for path, what in wrong), key=lambda item: item[0])
    # those that are not shown are not looked up either: of ten thousand keys, each is held against all that there are
    raise ConfigError(first_few([_problem(source, line, path, _sentence(path, what, data) if at < _LOOKED_UP else what)
                                 for at, (line, path, what) in enumerate(found)]))


def key_lines(text: str) -> dict[str, int]:
    """The line (from 1) of every key and table of a valid TOML text, by dotted path; tables of lists count from 0.

    What stands inside the value of a key is on the line of the key.
    """
    lines: dict[str, int] = {}
    prefix: list[str] = []
    counts: dict[str, int] = {}
    for line, head in _heads(text):
        table = head.startswith("[")
        value = toml_text.loads(head if table else f"{head} = 0")
        path = [] if table else prefix.copy()
        while isinstance(value, dict | list) and value:
            if isinstance(value, list):
                index = counts[".".join(path)] = counts.get(".".join(path), -1) + 1
                path.append(str(index))
                value = value[0]
            else:
                key, value = next(iter(value.items()))
                path.append(key)
            lines.setdefault(".".join(path), line)
        prefix = path if table else prefix
    return lines


# ---------------------------------------------------------------------------------------------------------------------


def _problem(source: str, line: int, path: str, what: str) -> str:
    return ": ".join(filter(None, (f"{source}:{line}" if line else source, fields.shown_path(path), what)))


def _heads(text: str) -> Iterator[tuple[int, str]]:
    """Each key that is given a value, and each [table] header, as it is written, with the line it starts on."""
    line, start, depth, head, open_ended = 1, 1, 0, "", True
    for token in toml_text.tokens(text + "\n"):
        if token == "\n" and depth == 0:
            if head.strip():
                yield start, head.strip()
            head, start, open_ended = "", line + 1, True
        elif open_ended and depth == 0 and token == "=":
            open_ended = False
        elif open_ended and token[0] != "#":
            head += token
        depth += (token in ("[", "{")) - (token in ("]", "}"))
        line += token.count("\n")


def _as_written(path: str, lines: dict[str, int]) -> str:
    """The path of a setting, or what an earlier version called it, if that is what stands in the text."""
    if path in lines:
        return path
    return next((name for name in earlier_names(path) if name in lines), path)


def _line_of(path: str, lines: dict[str, int]) -> int:
    """The line of a path, or of the nearest table around it; 0 if there is none."""
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path, 0)


def _sentence(path: str, what: str, data: dict[str, Any]) -> str:
    if what != "no such setting":
        return what
    return fields.no_such_setting(path, _known_keys(data))


def _known_keys(data: dict[str, Any]) -> list[str]:
    """Every path that a preset with these rewards may hold."""
    known = []
    for name in RunConfig.model_fields:
        known.append(name)
        model = fields.section_model(name, data.get(name))
        known += [f"{name}.{key}" for key in getattr(model, "model_fields", ())]
    rewards = data.get("rewards")
    for index, reward in enumerate(rewards if isinstance(rewards, list) else []):
        model = fields.reward_model(reward)
        known += [f"rewards.{index}.{key}" for key in (model.model_fields if model else ())]
    return known
