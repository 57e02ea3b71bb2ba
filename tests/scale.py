"""How much of a kind is tried: a little in `make test`, a lot in `make soak`."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import settings

T = TypeVar("T")


def few_or_many(few: T, many: T) -> T:
    """`many` in a soak: that is, with hypothesis's profile of that name."""
    return many if settings.get_current_profile_name() == "soak" else few
