"""What a fork to another method, or another preset, takes over and what it begins anew. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError

ACTOR = "actor"
_SHAPE = ("lora.rank", "lora.target_modules")


def settings_under(parent: str, before: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """The settings of a fork of `parent` by the method that `changes` name. Raises ConfigError saying why not."""
    after = fields.replace(before, dict(changes))
    require_actor(parent, before, after)
    return after


def require_actor(parent: str, before: RunConfig, after: RunConfig) -> None:
    """Raises ConfigError unless an actor that was trained under `before` fits `after`."""
    for config in (before, after):
        if not config.algorithm.needs.answers:
            raise ConfigError(f"algorithm.kind: what {config.algorithm.title} trains is no actor, so that a fork from "
                              f"{before.algorithm.title} to {after.algorithm.title} has nothing to take over")
    for path in _SHAPE:
        old, new = (fields.value_at(config, path) for config in (before, after))
        if old != new:
            raise ConfigError(f"{path}: the actor of {parent} has {fields.show(old) or '[]'}, and not "
                              f"{fields.show(new) or '[]'}; a fork takes it over as it is: --set "
                              f"{path}={fields.show(old) or '[]'}")


def taken_over(parent: str, step: int, config: RunConfig) -> str:
    """One sentence about what is taken over, and what is not."""
    others = [name for name in config.algorithm.needs.adapters if name != ACTOR]
    anew = f"{', '.join(others)} and optimizers begin" if others else "its optimizer begins"
    reference = " Its reference is the model without any adapter." if config.algorithm.needs.reference else ""
    return f"{config.algorithm.title} takes over the actor of {parent}@{step}; {anew} anew, at step 0.{reference}"
