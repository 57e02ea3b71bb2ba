"""The settings of runs, side by side, and those of a fork. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError, ConfigError, RunError
from rlhf_engine.events import EditApplied
from rlhf_engine.runs.base_model import MOVES
from rlhf_engine.runs.reward_versions import at_home
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import CONFIG

# the adapters of a checkpoint fit one base model, and one shape: a fork keeps these
KEPT = ("model.name", "model.revision", "lora.rank", "lora.target_modules")
# besides what is live: where the base lies now, the number format that a trial chose, the digest of changed code that a
# person accepted, and what a reward model has become by learning on, or would have
_RECORDED = (*MOVES, "model.dtype", ".sha256", ".version", ".refused")
# what the adapters of a run mean something to
_ADAPTED = ("model.", "lora.")
_ABSENT = object()
_MOST_SETTINGS = 500  # that live changes may name: there are some eighty


@dataclass(frozen=True)
class Difference:
    """A setting that two runs do not share: its path, and what each has, as a person would type it (None: not there).

    Of lists, only what the other one does not hold, if it is not merely their order that differs.
    """

    path: str
    left: str | None
    right: str | None


def settings_now(run_dir: RunDir) -> RunConfig:
    """The settings as started, with the live changes made since. Raises RunError or ConfigError if unreadable."""
    return at_home(edited(run_dir.config(), run_dir.edits()), run_dir)


def edited(config: RunConfig, edits: Iterable[EditApplied]) -> RunConfig:
    """`config` with live changes made, the newest of each setting, but for those that this version does not know, and
    those of what no run changes: which file a reward is, say."""
    newest: dict[str, Any] = {}
    for edit in edits:
        newest.pop(edit.path, None)  # in the order of the last ones
        newest[edit.path] = edit.new
    made = {path: new for path, new in list(newest.items())[-_MOST_SETTINGS:] if _may_change(config, path)}
    with suppress(ConfigError):
        return fields.replace(config, made)
    for path, new in made.items():
        try:
            config = fields.replace(config, {path: new})
        except ConfigError:  # written by another version
            continue
    return config


def require_settings_of(run_dir: RunDir, config: RunConfig) -> None:
    """Raises CheckpointError when `config`, of a checkpoint, is of another model, or other adapters, than the run.

    Those of the run stand in its config.toml and in the edits since. Where that cannot be read nothing is known.
    """
    try:
        started = run_dir.config()
    except (ConfigError, RunError):
        return
    if [reward.kind for reward in config.rewards] != [reward.kind for reward in started.rewards]:
        raise CheckpointError(f"its rewards are of other kinds than those in the run's {CONFIG}")
    changed = fields.changed_settings(config, started).items()
    others = {path: now for path, (now, _) in changed if path.startswith(_ADAPTED)}
    try:
        edits = run_dir.edits() if others else []  # a long file, and checkpoints are many
    except RunError:
        return
    for path, now in others.items():
        if not any(edit.path == path and now in (edit.old, edit.new) for edit in edits):
            raise CheckpointError(f"its {path} is {fields.show(now)[:80]!r}, which neither the run's {CONFIG} nor an "
                                  "edit says")


def differences(left: RunConfig, right: RunConfig) -> list[Difference]:
    """What differs, in the order of the settings."""
    values = [_values(left), _values(right)]
    paths = list(dict.fromkeys([*values[0], *values[1]]))
    pairs = ((path, *(side.get(path, _ABSENT) for side in values)) for path in paths)
    return [Difference(path, *_shown(one, other)) for path, one, other in pairs if one != other]


def fork_settings(before: RunConfig, step: int, changes: Mapping[str, Any]) -> RunConfig:
    """The settings of a fork from the checkpoint of `step`, which holds `before`. Raises ConfigError saying why not."""
    config = fields.replace(before, dict(changes))
    differing = fields.changed_settings(before, config)
    if fixed := [path for path in differing if path in KEPT]:
        raise ConfigError([f"{path}: a fork keeps the model and the shape of its adapters; start a new run with it"
                           for path in fixed])
    if step >= config.train.steps:
        raise ConfigError(f"train.steps: the checkpoint is of step {step} already; a fork needs more than that")
    return config


# ---------------------------------------------------------------------------------------------------------------------


def _may_change(config: RunConfig, path: str) -> bool:
    try:
        return path.endswith(_RECORDED) or fields.setting_at(config, path).live
    except ConfigError:
        return False


def _values(config: RunConfig) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in fields.settings(config):
        if item.path.startswith("rewards.") and item.section not in values:
            index = int(item.path.split(".")[1])
            values[item.section] = config.rewards[index].kind  # which reward stands there
        values[item.path] = fields.value_at(config, item.path)
    return values


def _shown(left: Any, right: Any) -> tuple[str | None, str | None]:
    if isinstance(left, list) and isinstance(right, list):
        return _only_here(left, right), _only_here(right, left)
    shown = [None if value is _ABSENT else fields.show(value) for value in (left, right)]
    return shown[0], shown[1]


def _only_here(items: list[Any], others: list[Any]) -> str:
    own = [item for item in items if item not in others]
    shared = len(items) - len(own)
    if not own and len(items) == len(others):
        return fields.show(items)  # the same in another order
    return "; ".join(filter(None, (fields.show(own), f"and {shared} in both" if shared else "")))
