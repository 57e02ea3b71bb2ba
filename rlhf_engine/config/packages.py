"""Kinds of something that other packages bring beside ours, found by entry points, and tables read as what their `kind`
says."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

from rlhf_engine.config.section import Section
from rlhf_engine.errors import kind_and_message, short

S = TypeVar("S", bound=Section)
_KNOWN = set(get_args(ErrorType))


class Kinds(Generic[S]):
    """The settings of each kind by its name: `ours`, and those that packages name in an entry point of `group`.

    what: what it is a kind of, for sentences. default: the kind of a table that names none; "": it must name one.
    """

    def __init__(self, group: str, base: type[S], what: str, ours: Mapping[str, type[S]], default: str = "") -> None:
        self.group, self.base, self.what, self.default = group, base, what, default
        self._ours = dict(ours)

    def all(self) -> dict[str, type[S]]:
        """Every kind that can be used, ours first."""
        others = {kind: found for kind, found in self._others().items() if not isinstance(found, str)}
        return self._ours | {kind: found for kind, found in others.items() if kind not in self._ours}

    def one(self, kind: str) -> type[S]:
        """The settings of one kind. Raises ValueError saying which there are, or what is wrong with its package."""
        if kind in self._ours:
            return self._ours[kind]  # searching packages takes a start some hundredths of a second
        found = self._others().get(kind)
        if isinstance(found, str):
            raise ValueError(f"the {self.what} {short(repr(kind))} {found}")
        if found is None:
            raise ValueError(f"kind {short(repr(kind))} is not one of {', '.join(self.all())}")
        return found

    def read(self, value: Any) -> Any:
        """A table as the settings of its kind, for pydantic, whose errors then name kind and field."""
        if not isinstance(value, Mapping):
            return value
        kind = value.get("kind", self.default)
        if not isinstance(kind, str):
            raise ValueError("kind is no text")
        if not kind:
            raise ValueError(f"kind is missing; it is one of {', '.join(self.all())}")
        chosen = self.one(kind)
        try:
            return chosen.model_validate({**value, "kind": kind})
        except ValidationError as error:
            raise ValidationError.from_exception_data(
                error.title, [_under(kind, dict(item)) for item in error.errors(include_url=False)]) from None

    def _others(self) -> dict[str, Any]:
        return _from_packages(self.group, self.base, tuple(sys.path))


@lru_cache(maxsize=4)
def _from_packages(group: str, base: type[Section], path: tuple[str, ...]) -> dict[str, type[Section] | str]:
    """What packages on `path` bring, by kind: settings, or why they cannot be used."""
    found: dict[str, type[Section] | str] = {}
    for entry in entry_points(group=group):
        try:
            loaded = entry.load()
        except Exception as error:  # somebody else's module
            found[entry.name] = f"of {entry.value} cannot be imported ({kind_and_message(error)})"
            continue
        is_one = isinstance(loaded, type) and issubclass(loaded, base)
        found[entry.name] = loaded if is_one else f"of {entry.value} is no {base.__name__}"
    return found


def _under(kind: str, item: dict[str, Any]) -> InitErrorDetails:
    """The error at its place behind `kind`: as a union that is told apart by it would name it."""
    told: Any = item["type"]
    if item["type"] not in _KNOWN:
        told = PydanticCustomError(item["type"], "{said}", {"said": item["msg"]})
    return InitErrorDetails(type=told, loc=(kind, *item["loc"]), input=item["input"], ctx=item.get("ctx") or {})
