"""The storyteller: a small language model that comes with the package, and the words it knows.

Importing this module loads no model and no torch. `storyteller_maker`, beside the packages, made all of it and can make
it again.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

__all__ = ["DATA_DIR", "MODEL_DIR", "PROMPTS", "lexicon", "prompts", "themes"]

_HERE = Path(__file__).parent
MODEL_DIR = _HERE / "model"
DATA_DIR = _HERE / "data"


@cache
def lexicon() -> frozenset[str]:
    """Every word the grammar can produce, in lower case; the model says no others."""
    return frozenset((DATA_DIR / "lexicon.txt").read_text(encoding="utf-8").split())


@cache
def themes() -> dict[str, tuple[str, ...]]:
    """Word lists by theme (animals, people, sea, food, happy, ...); all words are in the lexicon."""
    raw = tomllib.loads((DATA_DIR / "themes.toml").read_text(encoding="utf-8"))
    return {name: tuple(words.split()) for name, words in raw.items()}


@cache
def _openers() -> dict[str, tuple[str, ...]]:
    raw = tomllib.loads((DATA_DIR / "openers.toml").read_text(encoding="utf-8"))
    return {name: tuple(lines) for name, lines in raw.items()}


def prompts(theme: str | None = None) -> tuple[str, ...]:
    """Beginnings of stories without a trailing space: those for a theme, or those that suit any."""
    return _openers()[theme or "any"]


PROMPTS = _openers()["any"]
