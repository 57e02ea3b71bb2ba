"""Walks over `RunConfig`: every setting by its dotted path, with what a person may type into it.

Paths read as in TOML: `algorithm.clip_range`, and rewards by position: `rewards.0.liked`.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from rlhf_engine.config.kinds import DEFAULT, algorithm_kind, algorithm_kinds, reward_kind, reward_kinds
from rlhf_engine.config.methods.base import AlgorithmConfig
from rlhf_engine.config.migrations import migrated, renamed
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError, first_few, first_line, short
from rlhf_engine.files.text_files import file_named, read_texts
from rlhf_engine.files.toml_text import loads

Kind = Literal["bool", "int", "float", "choice", "text", "list"]
METHOD = "algorithm.kind"
"""The path of the setting that says how the model learns."""


@dataclass(frozen=True)
class Setting:
    """One leaf of the configuration, as shown to a person.

    `optional` settings take the word `none`. `live` ones may change while training.
    """

    path: str
    kind: Kind
    help: str
    unit: str
    live: bool
    optional: bool
    default: Any
    choices: tuple[str, ...] = ()
    allowed: str = ""
    whole_texts: bool = False
    """Of a list: its items are texts that may hold commas, so that what is no list names a file."""
    label: str = ""
    """A short name, where `name` is not what people call it."""

    @property
    def section(self) -> str:
        """The part of the path before the last dot; empty for top-level settings."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


def settings(config: RunConfig, method: str | None = None) -> list[Setting]:
    """Every setting of `config` in the order it is declared, rewards by their position.

    method: the kind of another algorithm, whose settings then stand in the place of its own. Raises ConfigError where
    there is none of that kind.
    """
    found: list[Setting] = []
    _collect(config, "", found)
    if method is None or method == config.algorithm.kind:
        return found
    try:
        model = algorithm_kind(method)
    except ValueError as error:
        raise ConfigError(f"{METHOD}: {first_line(error)}") from None
    first = next(index for index, item in enumerate(found) if item.section == "algorithm")
    others = [item for item in found if item.section != "algorithm"]
    return [*others[:first], *_of_method(model), *others[first:]]


def catalogue() -> list[tuple[str | None, Setting]]:
    """Every setting that a preset may hold, in the order of declaration, each with the kind of method or reward that it
    belongs to, or None. Paths of rewards have N in the place of a position."""
    found: list[tuple[str | None, Setting]] = []
    for name, info in RunConfig.model_fields.items():
        section = info.annotation
        if name == "rewards":
            found += [(kind, _setting(f"rewards.N.{key}", field)) for kind, model in reward_kinds().items()
                      for key, field in model.model_fields.items() if key != "kind"]
        elif name == "algorithm":
            found.append((None, _of_method(algorithm_kind(DEFAULT))[0]))
            found += [(kind, item) for kind, model in algorithm_kinds().items() for item in _of_method(model)[1:]]
        elif isinstance(section, type) and issubclass(section, BaseModel):
            found += [(None, _setting(f"{name}.{key}", field)) for key, field in section.model_fields.items()]
        else:
            found.append((None, _setting(name, info)))
    return found


def setting_at(config: RunConfig, path: str, method: str | None = None) -> Setting:
    """The setting at `path`, of another `method` if one is given. Raises ConfigError with the nearest names when there
    is none."""
    by_path = {item.path: item for item in settings(config, method)}
    if found := by_path.get(renamed(path)):
        return found
    raise ConfigError(unknown_key(path, list(by_path)))


def value_at(config: RunConfig, path: str) -> Any:
    """The value at `path`, which must exist."""
    node: Any = config
    for part in path.split("."):
        node = node[int(part)] if isinstance(node, list) else getattr(node, part)
    return node


def replace(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    """A new, validated config with `changes` (path -> value) made. Raises ConfigError, one problem a line.

    Another `algorithm.kind` keeps those settings of the section that its method has too; the others have their
    defaults.
    """
    method = changes.get(METHOD)
    data = config.model_dump()
    if method is not None and method != config.algorithm.kind:
        known = {item.name for item in settings(config, method) if item.section == "algorithm"}
        data["algorithm"] = {name: value for name, value in data["algorithm"].items() if name in known}
    for given, value in changes.items():
        path = setting_at(config, given, method).path
        node: Any = data
        *parents, leaf = path.split(".")
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        node[leaf] = value
    return validate(data)


def validate(data: dict[str, Any]) -> RunConfig:
    """`RunConfig` from plain data, of today's format or an earlier one. Raises ConfigError, one sentence a mistake."""
    try:
        return RunConfig.model_validate(migrated(data))
    except ValidationError as error:
        raise ConfigError(first_few([f"{path}: {what}" if path else what for path, what in problems(error)])) from None


def parse(setting: Setting, text: str) -> Any:
    """What a person typed, as a value. Raises ConfigError saying what is allowed; bounds are left to `replace`.

    A list is written as in TOML, or with commas between its items; or it is a file's, relative to the working folder
    (see `list_in_file`).
    """
    text = text.strip()
    if setting.optional and text.lower() in ("none", ""):
        return None
    if setting.kind == "list" and text and not text.startswith("["):
        texts = list_in_file(setting, text, Path())
        if texts is not None:
            return texts
    try:
        return _READERS[setting.kind](text)
    except ValueError:
        raise ConfigError(f"{setting.path}: {short(repr(text))} is not {setting.allowed}") from None


def list_in_file(setting: Setting, text: str, folder: Path) -> list[str] | None:
    """The list that stands in the file named by a text in its place: "@words.txt", "words.txt", and for prompts any
    text. None where it names no file; raises ConfigError where the file cannot be read.
    """
    path = file_named(text, always=setting.whole_texts)
    if path is None:
        return None
    try:
        return read_texts(path, folder, "prompt" if setting.whole_texts else "text")
    except ConfigError as error:
        raise ConfigError(f"{setting.path}: {error}") from None


def lists_from_files(data: dict[str, Any], folder: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Settings as TOML gives them, with what stands in files in place of their names, relative to `folder`; and
    (path, sentence) for each file that cannot be read."""
    problems: list[tuple[str, str]] = []

    def filled(table: Any, model: Any, prefix: str) -> Any:
        if not isinstance(table, dict) or not isinstance(model, type) or not issubclass(model, BaseModel):
            return table
        return {name: value_of(name, value, model, prefix) for name, value in table.items()}

    def value_of(name: str, value: Any, model: type[BaseModel], prefix: str) -> Any:
        info, path = model.model_fields.get(name), prefix + name
        if name == "rewards" and not prefix and isinstance(value, list):
            return [filled(reward, reward_model(reward), f"{path}.{index}.") for index, reward in enumerate(value)]
        if info is None or not isinstance(value, str | dict):
            return value
        if isinstance(value, dict):  # below a section none belongs: told when it is validated
            return value if prefix else filled(value, section_model(name, value), f"{path}.")
        if get_origin(info.annotation) is not list:
            return value
        try:
            texts = list_in_file(_setting(path, info), value, folder)
        except ConfigError as error:
            problems.append((path, str(error).removeprefix(f"{path}: ")))
            return [path]  # what it would hold is not known, and no mistake of its own
        return value if texts is None else texts

    return filled(data, RunConfig, ""), problems


def show(value: Any) -> str:
    """A value as a person would type it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)


def changed_settings(before: RunConfig, after: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Paths whose value differs, as (before, after); both configs must hold the same kinds of rewards. Settings that
    only one of two methods has are not among them."""
    there = {item.path for item in settings(after)}
    paths = [item.path for item in settings(before) if item.path in there]
    pairs = {path: (value_at(before, path), value_at(after, path)) for path in paths}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def problems(error: ValidationError) -> list[tuple[str, str]]:
    """A pydantic error as (path, sentence) pairs, in our words and with what is allowed."""
    return [(_path_of(item["loc"]), _sentence(dict(item))) for item in error.errors(include_url=False)]


def unknown_key(path: str, known: list[str]) -> str:
    """The sentence for a key that does not exist, naming the nearest ones."""
    return f"{shown_path(path)}: {no_such_setting(path, known)}"


def no_such_setting(path: str, known: list[str]) -> str:
    """`unknown_key` without the key itself."""
    import difflib

    near = difflib.get_close_matches(path, known, n=3, cutoff=0.6) if len(path) < 100 else []
    hint = f"; did you mean {' or '.join(near)}?" if near else "; `rlhf-tui presets --fields` lists all"
    return f"no such setting{hint}"


def shown_path(path: str) -> str:
    """The path of a setting, or what stands in the place of one: a key of TOML may be any text."""
    return short(path)


# ---------------------------------------------------------------------------------------------------------------------


def _collect(model: BaseModel, prefix: str, found: list[Setting]) -> None:
    for name, info in type(model).model_fields.items():
        value, path = getattr(model, name), prefix + name
        if isinstance(value, AlgorithmConfig):
            found += _of_method(type(value))
        elif isinstance(value, BaseModel):
            _collect(value, path + ".", found)
        elif name == "rewards":
            for index, reward in enumerate(value):
                _collect(reward, f"{path}.{index}.", found)
        elif name != "kind":
            found.append(_setting(path, info))


def _of_method(model: type[AlgorithmConfig]) -> list[Setting]:
    """The settings of a method, after that which chooses it."""
    kinds = tuple(algorithm_kinds())
    which = Setting(
        path=METHOD, kind="choice", help="how the model learns; another method takes over the settings that both have",
        unit="", live=False, optional=False, default=DEFAULT, choices=kinds,
        allowed=_allowed("choice", kinds, FieldInfo()), label="method")
    return [which, *(_setting(f"algorithm.{name}", info) for name, info in model.model_fields.items()
                     if name != "kind")]


def _setting(path: str, info: FieldInfo) -> Setting:
    annotation, optional = info.annotation, False
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [arg for arg in get_args(annotation) if arg is not type(None)]
        annotation, optional = inner[0], True
    choices: tuple[str, ...] = ()
    kind: Kind
    if get_origin(annotation) is Literal:
        kind, choices = "choice", tuple(get_args(annotation))
    elif get_origin(annotation) is list:
        kind = "list"
    else:
        kind = {bool: "bool", int: "int", float: "float", str: "text"}[annotation]  # type: ignore[index,assignment]
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    default = info.get_default(call_default_factory=True) if not info.is_required() else None
    return Setting(
        path=path, kind=kind, help=info.description or "", unit=str(extra.get("unit", "")),
        live=bool(extra.get("live", False)), optional=optional, default=default, choices=choices,
        whole_texts=bool(extra.get("whole_texts", False)), label=str(extra.get("label", "")),
        allowed=(str(extra.get("allowed", "")) or _allowed(kind, choices, info)) + (", or none" if optional else ""),
    )


def _allowed(kind: Kind, choices: tuple[str, ...], info: FieldInfo) -> str:
    if kind == "choice":
        words = "one of " + ", ".join(choices)
    elif kind == "bool":
        words = "true or false"
    elif kind == "list":
        words = "a list of words or texts" + (", one at least" if _has(info, "min_length") else "")
    elif kind == "text":
        words = "a text" + (" that is not empty" if _has(info, "min_length") else "")
    else:
        words = ("a whole number" if kind == "int" else "a number") + _bounds(info)
    return words


def _has(info: FieldInfo, rule: str) -> bool:
    return any(getattr(item, rule, None) is not None for item in info.metadata)


def _bounds(info: FieldInfo) -> str:
    limits = {name: getattr(item, name) for item in info.metadata for name in ("ge", "gt", "le", "lt")
              if getattr(item, name, None) is not None}
    words = []
    if "ge" in limits:
        words.append(f"from {limits['ge']}")
    if "gt" in limits:
        words.append(f"above {limits['gt']}")
    if "le" in limits:
        words.append(f"to {limits['le']}" if "ge" in limits else f"up to {limits['le']}")
    if "lt" in limits:
        words.append(f"below {limits['lt']}")
    return " " + " and ".join(words).replace(" and to ", " to ") if words else ""


def _read_bool(text: str) -> bool:
    truth = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in truth:
        raise ValueError(text)
    return truth[text.lower()]


def _read_list(text: str) -> list[str]:
    if text.startswith("["):
        items = loads(f"x = {text}")["x"]
        if not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
            raise ValueError(text)
        return [str(item) for item in items]
    return [word for word in (part.strip() for part in re.split("[,，、\n]", text)) if word]


_READERS: dict[Kind, Callable[[str], Any]] = {
    "bool": _read_bool, "int": int, "float": float, "choice": str, "text": str, "list": _read_list,
}


def _path_of(location: tuple[int | str, ...]) -> str:
    # the kind of a reward stands behind its index, that of a method behind its section: no part of what the user wrote
    at = {"rewards": 2, "algorithm": 1}.get(str(location[0])) if location else None
    return ".".join(str(part) for index, part in enumerate(location) if index != at)


def _sentence(item: dict[str, Any]) -> str:
    kind, context, given = item["type"], item.get("ctx") or {}, item.get("input")
    if kind == "value_error":
        return str(context.get("error", item["msg"]))
    if kind == "extra_forbidden":
        return "no such setting"
    if kind == "missing":
        return f"is missing: {_allowed_at(item['loc'])}"
    if kind == "string_unicode":
        return (f"{short(repr(given))} is not UTF-8 text; rename what it names, or set a locale that reads it as such "
                "(LC_ALL=C.UTF-8)")
    if kind == "too_long":
        return f"has more than {context['max_length']:,}, the most that are allowed"
    if kind == "string_too_long":
        return f"a text of {len(str(given)):,} characters is longer than the {context['max_length']:,} that are allowed"
    shown = short(repr(given) if isinstance(given, str) else _shown(given))
    if isinstance(given, dict | list):
        shown = ("a " if given else "an empty ") + ("table" if isinstance(given, dict) else "list")
    return f"{shown} is not {_allowed_at(item['loc']) or item['msg']}"


def section_model(section: str, table: Any) -> Any:
    """The model of what stands in a section, of which `table` is what a text says there; None where there is none."""
    if section != "algorithm":
        return RunConfig.model_fields[section].annotation
    try:
        return algorithm_kind(str(table.get("kind", DEFAULT) if isinstance(table, dict) else DEFAULT))
    except ValueError:  # told when it is validated
        return None


def reward_model(table: Any) -> type[BaseModel] | None:
    """The model of one of the [[rewards]], of which `table` is what a text says there; None where there is none."""
    try:
        return reward_kind(str(table.get("kind"))) if isinstance(table, dict) else None
    except ValueError:  # told when it is validated
        return None


def needed_settings(kind: str) -> list[Setting]:
    """The settings that a new reward of `kind` must be given: its name, and what has no default of its own.

    Where the defaults do not make a reward together, that is every text and list.
    """
    model = reward_kind(kind)
    try:
        model.model_validate({"kind": kind})
        missing: set[str] = set()
    except ValidationError as error:
        missing = {str(item["loc"][0]) if item["loc"] else "" for item in error.errors()}
    known = [_setting(name, info) for name, info in model.model_fields.items() if name != "kind"]
    return [item for item in known if item.name == "name" or item.name in missing
            or ("" in missing and item.kind in ("text", "list"))]


def _shown(value: Any) -> str:
    """`show`, of a value that is none of ours."""
    try:
        return show(value)
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"


def _allowed_at(location: tuple[int | str, ...]) -> str:
    """What may stand at a pydantic location, in words; empty where we have no better words than pydantic."""
    model: type[BaseModel] = RunConfig
    *parents, name = location
    if parents and isinstance(name, int) and parents[0] != "rewards":
        return "a text"
    if location[0] == "rewards":
        if len(location) < 3:
            return "one or more [[rewards]] tables"
        model = reward_kind(str(location[2]))
        if isinstance(name, int):
            return "a text"
    elif parents and parents[0] == "algorithm":
        model = algorithm_kind(str(location[1]))
        if len(location) < 3:
            return "a table"
    elif parents:
        section = model.model_fields[str(parents[0])].annotation
        model = section if isinstance(section, type) else model
    info = model.model_fields[str(name)]
    if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
        return f"a [{name}] table"
    return _setting(str(name), info).allowed
