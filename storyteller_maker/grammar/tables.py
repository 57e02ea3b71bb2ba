"""The grammar's data: settings, casts, phrases and plots, read from the TOML files beside this module."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OPTION = str | float


@dataclass(frozen=True)
class Setting:
    """A place, with everything that belongs to it."""

    name: str
    weight: float
    animal: float
    people: tuple[str, ...]
    beasts: tuple[str, ...]
    girls: tuple[str, ...]
    boys: tuple[str, ...]
    lists: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Plot:
    """Beats up to the turn, and a happy and a sad way out; a beat is a list of sentences to choose from."""

    name: str
    begin: tuple[tuple[OPTION, ...], ...]
    happy: tuple[tuple[OPTION, ...], ...]
    sad: tuple[tuple[OPTION, ...], ...]
    moral_happy: str
    moral_sad: str


@dataclass(frozen=True)
class Tables:
    """All of the grammar's data."""

    settings: dict[str, Setting]
    plots: dict[str, Plot]
    phrases: dict[str, tuple[str, ...]]
    by_kind: dict[str, dict[str, tuple[str, ...]]]
    traits: dict[str, tuple[str, ...]]
    pets: dict[str, tuple[str, ...]]


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))


def _setting(name: str, raw: dict[str, Any]) -> Setting:
    lists = {key: tuple(raw[key]) for key in ("open", "at", "go", "sight", "food", "thing", "odd", "chore")}
    own = {key: tuple(raw[key]) for key in ("people", "beasts", "girls", "boys")}
    return Setting(name=name, weight=raw["weight"], animal=raw["animal"], lists=lists, **own)


def _plot(name: str, raw: dict[str, Any]) -> Plot:
    beats = {key: tuple(tuple(beat) for beat in raw[key]) for key in ("begin", "happy", "sad")}
    return Plot(name=name, moral_happy=raw["moral_happy"], moral_sad=raw["moral_sad"], **beats)


def _tuples(raw: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(value) for key, value in raw.items()}


@cache
def tables() -> Tables:
    """Read the data once."""
    cast = _read("cast")
    return Tables(
        settings={name: _setting(name, raw) for name, raw in _read("settings").items()},
        plots={name: _plot(name, raw) for name, raw in _read("plots").items()},
        phrases=_tuples(_read("phrases")),
        by_kind={kind: _tuples(cast[kind]) for kind in ("human", "animal")},
        traits=_tuples(cast["traits"]),
        pets=_tuples(cast["pets"]),
    )
