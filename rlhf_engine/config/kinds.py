"""Which methods there are, by `kind`: those that ship with us, and those of other packages, found by entry points.

A package that brings a method names its `AlgorithmConfig` in its own pyproject.toml:

    [project.entry-points."rlhf_tui.algorithms"]
    my_method = "my_package.my_method:MyMethodConfig"
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

from rlhf_engine.config.methods.base import AlgorithmConfig
from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.errors import kind_and_message, short

GROUP = "rlhf_tui.algorithms"
DEFAULT = "ppo"
_KNOWN = set(get_args(ErrorType))
_OURS: dict[str, type[AlgorithmConfig]] = {"ppo": PPOConfig}


@lru_cache(maxsize=1)
def _from_packages(path: tuple[str, ...]) -> dict[str, type[AlgorithmConfig] | str]:
    """Methods of other packages on `path` by kind, or why one cannot be used."""
    found: dict[str, type[AlgorithmConfig] | str] = {}
    for entry in entry_points(group=GROUP):
        try:
            loaded = entry.load()
        except Exception as error:  # somebody else's module
            found[entry.name] = f"of {entry.value} cannot be imported ({kind_and_message(error)})"
            continue
        is_one = isinstance(loaded, type) and issubclass(loaded, AlgorithmConfig)
        found[entry.name] = loaded if is_one else f"of {entry.value} is no AlgorithmConfig"
    return found


def algorithm_kinds() -> dict[str, type[AlgorithmConfig]]:
    """The settings of every method by its kind, ours first."""
    others = {kind: found for kind, found in _from_packages(tuple(sys.path)).items() if isinstance(found, type)}
    return _OURS | {kind: found for kind, found in others.items() if kind not in _OURS}


def algorithm_kind(kind: str) -> type[AlgorithmConfig]:
    """The settings of the method called `kind`. Raises ValueError saying which there are."""
    if kind in _OURS:
        return _OURS[kind]  # packages are searched for others only: it takes a start some hundredths of a second
    found = _from_packages(tuple(sys.path)).get(kind)
    if isinstance(found, str):
        raise ValueError(f"the algorithm {short(repr(kind))} {found}")
    if found is None:
        raise ValueError(f"kind {short(repr(kind))} is not one of {', '.join(algorithm_kinds())}")
    return found


def algorithm_from(value: Any) -> Any:
    """A table [algorithm] as the settings of its method, for pydantic, whose errors then name kind and field."""
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind", DEFAULT)
    if not isinstance(kind, str):
        raise ValueError("kind is no text")
    chosen = algorithm_kind(kind)
    try:
        return chosen.model_validate({**value, "kind": kind})
    except ValidationError as error:
        raise ValidationError.from_exception_data(
            error.title, [_under(kind, dict(item)) for item in error.errors(include_url=False)]) from None


def _under(kind: str, item: dict[str, Any]) -> InitErrorDetails:
    """The error at its place behind `kind`: as a union that is told apart by it would name it."""
    told: Any = item["type"]
    if item["type"] not in _KNOWN:
        told = PydanticCustomError(item["type"], "{said}", {"said": item["msg"]})
    return InitErrorDetails(type=told, loc=(kind, *item["loc"]), input=item["input"], ctx=item.get("ctx") or {})
