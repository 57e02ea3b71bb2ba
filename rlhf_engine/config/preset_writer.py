"""Presets written: `RunConfig` to TOML, with the comments and the layout of an earlier text kept.

Apart from reading, since tomlkit, which keeps comments, is needed for this alone.
"""

from __future__ import annotations

import re
from typing import Any

import tomlkit
from pydantic import BaseModel
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, String, StringType, Table, Trivia

from rlhf_engine.config.kinds import algorithm_kind, reward_kind
from rlhf_engine.config.migrations import FORMAT, migrate_in_place
from rlhf_engine.config.preset_text import parse
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.files import toml_text
from rlhf_engine.system.units import format_bytes
from rlhf_engine.system.visible_text import escaped_toml

WIDTH = 110
_MOST_KEPT = 1_000_000  # characters of an earlier text: tomlkit reads so many in two seconds
_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x20), 0x7F)} | {
    ord(letter): escape for letter, escape in
    {'"': '\\"', "\\": r"\\", "\n": r"\n", "\t": r"\t", "\r": r"\r", "\b": r"\b", "\f": r"\f"}.items()}
_MOST_PARSED = 100_000  # characters of a list


def to_toml(config: RunConfig, base_text: str | None = None) -> str:
    """The configuration as TOML that `parse` reads back.

    With `base_text`, an earlier preset, its comments, order and layout stay, and only what differs is changed. If it
    is no valid TOML, or its shape stands in the way, a new text is made.
    """
    if base_text is not None and len(base_text) <= _MOST_KEPT:
        try:
            toml_text.loads(base_text)  # within bounds that tomlkit copes with
            document = tomlkit.parse(base_text)
            migrate_in_place(document)
            _update(document, config)
            text = escaped_toml(document.as_string())  # in a '…' of the earlier text that is no escape: then anew
            if parse(text, "") == config:
                return text
        except (TOMLKitError, ConfigError, TypeError, ValueError, KeyError, IndexError):
            pass  # keeping comments is a courtesy; the settings must be right
    document = tomlkit.document()
    _update(document, config, whole=True)
    text = re.sub(r"(?<!\n)\n(?=\[)", "\n\n", escaped_toml(document.as_string()))  # a line between sections
    if len(text.encode()) > toml_text.MOST_BYTES:
        raise ConfigError(f"the settings take more than the {format_bytes(toml_text.MOST_BYTES)} that a preset or a "
                          "run may have of them: fewer or shorter prompts do")
    return text


# ---------------------------------------------------------------------------------------------------------------------


def _update(document: tomlkit.TOMLDocument, config: RunConfig, whole: bool = False) -> None:
    """Makes the document say what the config says; with `whole`, defaults are spelt out."""
    data, defaults = config.model_dump(), _defaults(config)
    if whole or "format" in document:
        document["format"] = FORMAT
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
    if not rewards and not tables:
        return
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
        model = reward_kind(reward["kind"])
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
        table[key] = _item(value, old)
    elif whole or value != default:
        table[key] = _item(value)


def _same(old: Any, new: Any) -> bool:
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def _item(value: Any, old: Any = None) -> Any:
    if isinstance(value, list):
        return _list(value, old)
    return String(StringType.SLB, value, _quoted(value)[1:-1], Trivia()) if isinstance(value, str) else value


def _quoted(text: str) -> str:
    """A text as TOML; tomlkit takes minutes for a long one that is full of escapes."""
    return f'"{text.translate(_ESCAPES)}"'


def _list(values: list[str], old: Any = None) -> Array:
    """A list as wide as a page, short words side by side; comments inside an old list go to its top."""
    before = toml_text.tokens(old.as_string()) if isinstance(old, Array) else ()
    comments = [token for token in before if token[0] == "#"]
    items = [_quoted(value) for value in values]
    if not comments and sum(len(item) + 2 for item in items) < WIDTH - 20:
        return tomlkit.parse(f"x = [{', '.join(items)}]")["x"]
    side_by_side = max(map(len, items), default=0) <= 24
    rows: list[str] = []
    for item in items:
        if rows and side_by_side and len(rows[-1]) + len(item) < WIDTH:
            rows[-1] += f" {item},"
        else:
            rows.append(f"  {item},")
    lines = "\n".join([*(f"  {comment}" for comment in comments), *rows])
    whole = f"[\n{lines}\n]"
    return tomlkit.parse(f"x = {whole}")["x"] if len(whole) <= _MOST_PARSED else _LongList(whole)


class _LongList(Array):
    """A list that is written as it stands: tomlkit takes seconds to read a hundred thousand texts that it is only to
    write."""

    def __init__(self, text: str) -> None:
        super().__init__([], Trivia())
        self._text = text

    def as_string(self) -> str:
        """The list as TOML."""
        return self._text


def _defaults(config: RunConfig) -> dict[str, Any]:
    """The defaults of all sections, as plain data; those of [algorithm] are its method's."""
    fresh = {name: info.get_default(call_default_factory=True) for name, info in RunConfig.model_fields.items()}
    defaults = {name: value.model_dump() if isinstance(value, BaseModel) else value for name, value in fresh.items()}
    method = algorithm_kind(config.algorithm.kind)
    return defaults | {"algorithm": {name: info.get_default(call_default_factory=True)
                                     for name, info in method.model_fields.items()} | {"kind": config.algorithm.kind}}
