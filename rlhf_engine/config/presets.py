"""Presets: named TOML files, found in the user's folder first and then among those that ship with us."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs

from rlhf_engine.config import fields, preset_text
from rlhf_engine.config.classifier import ClassifierRewardConfig
from rlhf_engine.config.model_names import STORYTELLER, folder_of
from rlhf_engine.config.rewards import FunctionRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.section import MOST_LETTERS
from rlhf_engine.errors import ConfigError, first_few, short
from rlhf_engine.files import toml_text
from rlhf_engine.files.disk import NAME, NAME_RULE, os_error_reason, replace_text, writing
from rlhf_engine.files.own_files import make_folder
from rlhf_engine.files.reading import read_text

Origin = Literal["yours", "shipped"]


@dataclass(frozen=True)
class PresetInfo:
    """A preset that can be loaded by its name. `description` says so where the file cannot be read."""

    name: str
    description: str
    path: Path
    origin: Origin


def user_folder() -> Path:
    """Where this user's own presets are saved."""
    return Path(platformdirs.user_config_dir("rlhf-tui")) / "presets"


def shipped_folder() -> Path:
    """Presets that come with us: inside the installed package, or in the checkout it is run from."""
    packaged = Path(__file__).parents[1] / "shipped_presets"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "presets"


def available() -> list[PresetInfo]:
    """Every preset by name; one of the user's hides a shipped one of the same name."""
    return [PresetInfo(name, _description(path), path, origin) for name, (path, origin) in sorted(_files().items())]


def find(name_or_path: str) -> Path:
    """The file of a preset: the path itself if it ends in .toml, else a name. Raises ConfigError if there is none."""
    if name_or_path.endswith(".toml"):
        if not os.path.lexists(name_or_path):
            raise ConfigError(f"There is no preset file {name_or_path}.")
        return Path(name_or_path)
    presets = {name: path for name, (path, _) in sorted(_files().items())}
    if name_or_path in presets:
        return presets[name_or_path]
    near = difflib.get_close_matches(name_or_path[:100], presets, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    there = f"There are {', '.join(presets)}; the path of another must end in .toml."
    raise ConfigError(f"There is no preset {short(repr(name_or_path))}{hint} {there}")


def load(name_or_path: str) -> RunConfig:
    """A preset's configuration, with files that it names relative to its own folder by their whole paths; those of
    prompts and words are read.

    Raises ConfigError with one line a mistake: file, line, key and what is allowed.
    """
    path = find(name_or_path)
    return placed(preset_text.parse(_read(path), str(path), path.parent), path.absolute().parent)


def placed(config: RunConfig, folder: Path) -> RunConfig:
    """The config with what it names relative to `folder` named so that it is found from everywhere: the files of reward
    functions, classifiers, and a model or the source of the data that lies there."""
    changes: dict[str, Any] = {}
    for index, reward in enumerate(config.rewards):
        if isinstance(reward, FunctionRewardConfig):
            file, _, function = reward.function.rpartition(":")
            changes[f"rewards.{index}.function"] = f"{folder / os.path.expanduser(file)}:{function}"
        elif isinstance(reward, ClassifierRewardConfig) and os.path.isdir(there := folder / folder_of(reward.model)):
            changes[f"rewards.{index}.model"] = str(there)
    if config.data.source is not None and os.path.exists(source := folder / os.path.expanduser(config.data.source)):
        changes["data.source"] = str(source)
    model = folder / folder_of(config.model.name)
    if config.model.name != STORYTELLER and os.path.isdir(model):
        changes["model.name"] = str(model)
    return fields.replace(config, changes) if changes else config


def load_with_overrides(name_or_path: str, overrides: list[str]) -> RunConfig:
    """`load`, with "key=value" changes on top. Raises ConfigError with all mistakes of the changes at once."""
    config = load(name_or_path)
    return fields.replace(config, parse_overrides(config, overrides))


def parse_overrides(config: RunConfig, overrides: list[str]) -> dict[str, Any]:
    """Changes written "key=value" as path -> value, checked. Raises ConfigError with all their mistakes at once."""
    changes: dict[str, Any] = {}
    problems: list[str] = []
    methods = [text.strip() for path, _, text in (override.partition("=") for override in overrides)
               if path.strip() == fields.METHOD]
    method = methods[-1] if methods else None
    try:
        fields.settings(config, method)
    except ConfigError as error:
        raise ConfigError(f"--set {error}") from None
    for override in overrides:
        path, equals, text = override.partition("=")
        try:
            if not equals:
                raise ConfigError(f"{short(override)}: is not of the form key=value")
            setting = fields.setting_at(config, path.strip(), method)
            changes[setting.path] = fields.parse(setting, text)
        except ConfigError as error:
            problems += error.problems
    try:
        fields.replace(config, changes)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(first_few([f"--set {problem}" for problem in problems]))
    return changes


def save(name: str, config: RunConfig, overwrite: bool = False) -> Path:
    """Saves a preset into the user's folder; comments of the preset that bears the name so far survive. Files that the
    config names relative to the current folder are named by their whole paths.

    Raises ConfigError for a name that is not allowed, or taken without `overwrite`, and RunError if the disk refuses.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"The preset name {name!r} is not allowed: {NAME_RULE}.")
    path = user_folder() / f"{name}.toml"
    if path.is_symlink():
        raise ConfigError(f"{path} is a symbolic link, which is never followed for writing.")
    if path.exists() and not overwrite:
        raise ConfigError(f"There is already a preset named {name}; choose another name, or overwrite it.")
    earlier, _ = _files().get(name, (None, None))
    from rlhf_engine.config.preset_writer import to_toml  # tomlkit: only a save waits for it

    text = to_toml(placed(config, Path.cwd()), _read(earlier) if earlier else None)
    with writing(path):
        make_folder(path.parent)
        replace_text(path, text)
    return path


def remove(name: str) -> None:
    """Removes a preset of the user's own for good. Raises ConfigError for any other, RunError if the disk refuses."""
    path, origin = _files().get(name, (None, None))
    if path is None:
        raise ConfigError(f"There is no preset {name!r}.")
    if origin != "yours":
        raise ConfigError(stays(name))
    with writing(path):
        path.unlink()


def stays(name: str) -> str:
    """Why a preset that ships with us cannot be removed."""
    return f"{name} comes with rlhf-tui and stays; only presets of your own can be removed."


def _files() -> dict[str, tuple[Path, Origin]]:
    """Every preset's file by its name, none of them opened."""
    folders: list[tuple[Origin, Path]] = [("shipped", shipped_folder()), ("yours", user_folder())]
    return {path.stem: (path, origin) for origin, folder in folders for path in folder.glob("*.toml")
            if NAME.fullmatch(path.stem)}


def _read(path: Path) -> str:
    try:
        return read_text(path, toml_text.MOST_BYTES, follow=True)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    except OSError as error:
        raise ConfigError(f"{path} could not be read: {os_error_reason(error)}.") from None


def _description(path: Path) -> str:
    try:
        return short(str(toml_text.loads(_read(path)).get("description", "")), MOST_LETTERS)
    except (ConfigError, toml_text.TomlError):
        return "(cannot be read; load it to see why)"
