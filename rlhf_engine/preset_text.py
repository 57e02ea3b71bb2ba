"""Presets as text: TOML to `RunConfig`, with every mistake named by file and line, and back with comments kept.

TOML has no null: settings that are off are written as the word "none".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import tomlkit
from pydantic import ValidationError
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, Table

from rlhf_engine import fields
from rlhf_engine.config import RunConfig
from rlhf_engine.errors import ConfigError

WIDTH = 110

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'"
    r"|\#[^\n]*" r"|[\[\]{}]" r"|\n" r"""|[^\[\]{}"'\#\n]+""",
    re.DOTALL,
)


def parse(text: str, source: str) -> RunConfig:
    """The configuration in `text`. Raises ConfigError with one line a mistake: "source:line: key: what is allowed"."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_error(text, source, error)) from None
    except RecursionError:
        raise ConfigError(f"{source}: is nested too deeply to be a preset.") from None
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        lines = key_lines(text)
        found = [(_line_of(path, lines), path, _sentence(path, what, data)) for path, what in fields.problems(error)]
        found.sort(key=lambda item: item[0])
        raise ConfigError([f"{source}:{line}: {path}: {what}" if line else f"{source}: {path}: {what}"
                           for line, path, what in found]) from None


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


def to_toml(config: RunConfig, base_text: str | None = None) -> str:
    """The configuration as TOML that `parse` reads back.

    With `base_text`, an earlier preset, its comments, order and layout stay, and only what differs is changed. If it
    is no valid TOML, or its shape stands in the way, a new text is made.
    """
    if base_text is not None:
        try:
            document = tomlkit.parse(base_text)
            _update(document, config)
            text = document.as_string()
            if parse(text, "") == config:
                return text
        except (TOMLKitError, ConfigError, TypeError, ValueError, KeyError, IndexError):
            pass  # keeping comments is a courtesy; the settings must be right
    document = tomlkit.document()
    _update(document, config, whole=True)
    return re.sub(r"(?<!\n)\n(?=\[)", "\n\n", document.as_string())  # a line between sections


# --- reading ---


def _syntax_error(text: str, source: str, error: tomllib.TOMLDecodeError) -> str:
    what, at, where = str(error).rpartition(" (at ")
    number = re.match(r"line (\d+)", where)
    line = int(number[1]) if number else len(text.splitlines()) or 1  # else "end of document"
    return f"{source}:{line}: is not valid TOML: {what if at else error}"


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each `key = value` and each [table] header with the line it starts on; values may span lines."""
    line, start, depth, statement = 1, 1, 0, ""
    for token in _TOKEN.findall(text + "\n"):
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


# --- writing ---


def _update(document: tomlkit.TOMLDocument, config: RunConfig, whole: bool = False) -> None:
    """Makes the document say what the config says; with `whole`, defaults are spelt out."""
    data, defaults = config.model_dump(), _defaults()
    for name, value in data.items():
        if name == "rewards":
            _update_rewards(document, value, whole)
        elif isinstance(value, dict):
            if name not in document and (whole or value != defaults[name]):
                document[name] = tomlkit.table()
            if name in document:
                _update_table(document[name], value, defaults[name], whole)
        else:
            _put(document, name, value, defaults.get(name), whole)


def _update_rewards(document: tomlkit.TOMLDocument, rewards: list[dict[str, Any]], whole: bool) -> None:
    tables = document.get("rewards")
    if not isinstance(tables, AoT):
        document.pop("rewards", None)
        tables = tomlkit.aot()
        document.append("rewards", tables)
        tables = document["rewards"]
    while len(tables) > len(rewards):
        del tables[-1]
    for index, reward in enumerate(rewards):
        fresh = index >= len(tables) or tables[index].get("kind") != reward["kind"]
        if fresh:
            table = tomlkit.table()
            table["kind"] = reward["kind"]
            if index < len(tables):
                tables[index] = table
            else:
                tables.append(table)
        model = fields.reward_kinds()[reward["kind"]]
        defaults = {key: info.get_default(call_default_factory=True) for key, info in model.model_fields.items()}
        _update_table(tables[index], reward, defaults, whole)


def _update_table(table: Table, values: dict[str, Any], defaults: dict[str, Any], whole: bool) -> None:
    for key in [key for key in table if key not in values]:
        del table[key]
    for key, value in values.items():
        _put(table, key, value, defaults.get(key), whole)


def _put(table: Any, key: str, value: Any, default: Any, whole: bool) -> None:
    value = "none" if value is None else value
    default = "none" if default is None else default
    if key in table:
        old = table[key]
        if _same(getattr(old, "unwrap", lambda: old)(), value):
            return
        table[key] = _list(value, old) if isinstance(value, list) else value
    elif whole or value != default:
        table[key] = _list(value) if isinstance(value, list) else value


def _same(old: Any, new: Any) -> bool:
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def _list(values: list[str], old: Any = None) -> Array:
    """A list as wide as a page, short words side by side; comments inside an old list go to its top."""
    comments = [token for token in _TOKEN.findall(old.as_string()) if token[0] == "#"] if isinstance(old, Array) else []
    items = [tomlkit.string(value).as_string() for value in values]
    if not comments and sum(len(item) + 2 for item in items) < WIDTH - 20:
        return tomlkit.parse(f"x = [{', '.join(items)}]")["x"]
    rows: list[str] = []
    for item in items:
        if rows and max(map(len, items)) <= 24 and len(rows[-1]) + len(item) < WIDTH:
            rows[-1] += f" {item},"
        else:
            rows.append(f"  {item},")
    lines = "\n".join([*(f"  {comment}" for comment in comments), *rows])
    return tomlkit.parse(f"x = [\n{lines}\n]")["x"]


def _defaults() -> dict[str, Any]:
    """The defaults of all sections, as plain data."""
    return {name: info.get_default(call_default_factory=True).model_dump() if hasattr(info.annotation, "model_fields")
            else info.get_default(call_default_factory=True) for name, info in RunConfig.model_fields.items()
            if not info.is_required()}
