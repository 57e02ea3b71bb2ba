"""The storyteller: a small language model that comes with the package, and the words it knows.

Importing this module loads no model and no torch; the files beside it made the model and can make it again.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

__all__ = ["MODEL_DIR", "PROMPTS", "lexicon", "prompts", "themes"]

_HERE = Path(__file__).parent
MODEL_DIR = _HERE / "model"


@cache
def lexicon() -> frozenset[str]:
    """Every word the grammar can produce, in lower case; the model says no others."""
    return frozenset((_HERE / "data" / "lexicon.txt").read_text(encoding="utf-8").split())


@cache
def themes() -> dict[str, tuple[str, ...]]:
    """Word lists by theme (animals, people, sea, food, happy, ...); all words are in the lexicon."""
    raw = tomllib.loads((_HERE / "data" / "themes.toml").read_text(encoding="utf-8"))
    return {name: tuple(words.split()) for name, words in raw.items()}


@cache
def _openers() -> dict[str, tuple[str, ...]]:
    raw = tomllib.loads((_HERE / "data" / "openers.toml").read_text(encoding="utf-8"))
    return {name: tuple(lines) for name, lines in raw.items()}


def prompts(theme: str | None = None) -> tuple[str, ...]:
    """Beginnings of stories without a trailing space: those for a theme, or those that suit any."""
    return _openers()[theme or "any"]


PROMPTS = _openers()["any"]
