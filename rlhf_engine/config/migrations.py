"""Settings of earlier formats, brought to today's: presets, runs and checkpoints of any released version still open.

A format is a whole number that stands in the file as `format`; where none stands it is 1, or a text that a person
wrote. Each step is a pure function from plain data to plain data, made for one format and kept for good; it leaves
alone what is of the newer form already. Where a step only renames, `renamed` brings along the paths that live edits,
forks and `--set` name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from rlhf_engine.errors import ConfigError, short

FORMAT = 2
"""What presets and runs are written in."""

# format 2: the method has a section of its own, prompts are data, and adapters go to all linear modules by default
_SECTIONS_1 = {"ppo": "algorithm"}
_SETTINGS_1 = {
    "prompts": "data.prompts",
    "optimizer.actor_lr": "optimizer.learning_rate",
    "optimizer.critic_lr": "algorithm.critic_learning_rate",
    "optimizer.actor_max_grad_norm": "optimizer.max_grad_norm",
    "optimizer.critic_max_grad_norm": "algorithm.critic_max_grad_norm",
    "train.critic_warmup_steps": "algorithm.critic_warmup_steps",
}


def migrated(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data`, of any known format, in today's, without `format`. Raises ConfigError for a format that is not known."""
    found = data.get("format", 1)
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= FORMAT:
        raise ConfigError(f"format: {short(repr(found))} is not known here: this version reads 1 to {FORMAT}; a newer "
                          "rlhf-tui may have written this")
    new = {key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items() if key != "format"}
    for step in _STEPS[found - 1:]:
        step(new)
    return new


def migrate_in_place(document: MutableMapping[str, Any]) -> None:
    """The same for a document that keeps comments, whose `format` has been checked; it says today's afterwards."""
    for step in _STEPS[int(document.get("format", 1)) - 1:]:
        step(document)


def renamed(path: str) -> str:
    """The setting that an earlier version called `path`; others stay as they are."""
    if path in _SETTINGS_1:
        return _SETTINGS_1[path]
    section, dot, name = path.partition(".")
    return f"{_SECTIONS_1[section]}.{name}" if dot and section in _SECTIONS_1 else path


def earlier_names(path: str) -> list[str]:
    """What earlier versions called the setting at `path`."""
    names = [old for old, new in _SETTINGS_1.items() if new == path]
    section, dot, name = path.partition(".")
    return names + [f"{old}.{name}" for old, new in _SECTIONS_1.items() if dot and new == section]


# ---------------------------------------------------------------------------------------------------------------------


def _to_2(data: MutableMapping[str, Any]) -> None:
    ppo = data.get("ppo")
    if isinstance(ppo, MutableMapping) and ppo.get("level") == "sequence":
        ppo.setdefault("sequence_baseline", "response")  # there was no other
    is_old = False
    for old, new in _SECTIONS_1.items():
        if old in data and new not in data:
            data[new], is_old = data.pop(old), True
    for old, new in _SETTINGS_1.items():
        is_old |= _move(data, old, new)
    # only of a text that is written in format 1: one without `format` may be new, and means today's default
    if is_old and isinstance(lora := data.setdefault("lora", {}), MutableMapping):
        lora.setdefault("target_modules", [])


def _move(data: MutableMapping[str, Any], old: str, new: str) -> bool:
    """Moves one setting, unless the new one is there, or what should hold it is no table (which is told later); whether
    it did."""
    *parents, name = old.split(".")
    source = data.get(parents[0]) if parents else data
    section, new_name = new.split(".")
    if not isinstance(source, MutableMapping) or name not in source:
        return False
    target = data.setdefault(section, {})
    if not isinstance(target, MutableMapping) or new_name in target:
        return False
    target[new_name] = source.pop(name)
    return True


_STEPS: list[Callable[[MutableMapping[str, Any]], None]] = [_to_2]
