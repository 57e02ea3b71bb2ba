"""The story grammar: data in TOML files, and a small engine that tells stories from it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from storyteller_maker.grammar.teller import Told, Wanted, tell

__all__ = ["Told", "Wanted", "stories", "tell"]


def stories(count: int, seed: int = 0) -> Iterator[str]:
    """The texts of `count` stories; the same seed gives the same stories."""
    rng = Random(seed)
    for _ in range(count):
        yield tell(rng).text
