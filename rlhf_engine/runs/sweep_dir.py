"""A sweep on disk: which runs belong together, beside the runs themselves. Nothing here imports torch.

    <runs>/.sweeps/<name>/
        sweep.json        the grid, its cells and the runs they are; replaced atomically
        preset.toml       the preset as the sweep began with it
        sweep.lock        flock: who holds it drives the sweep
        logs/<run>.log    what the process of that run printed
        output.log        what the sweep printed, where it was started without a terminal
        measured/         fresh responses of each final policy, and of each reference
        result.json       what it came to, as `sweep --json` tells it at the end
        pools/            scores of a reference's responses, to hold all against best-of-n

The runs are ordinary ones, made by `train` and resumed by `resume`; a sweep only names them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from rlhf_engine import __version__
from rlhf_engine.config import preset_text
from rlhf_engine.config.grid import MOST_CELLS, Axis, Cell, Grid
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RunError, first_line
from rlhf_engine.events import Sample
from rlhf_engine.files.disk import (
    NAME,
    NAME_RULE,
    append_line,
    os_error_reason,
    remove_folder,
    replace_bytes,
    replace_text,
    write_new,
    writing,
)
from rlhf_engine.files.json_text import to_json
from rlhf_engine.files.own_files import make_folder
from rlhf_engine.files.reading import MOST_ENTRIES, MOST_WHOLE, number, read_text, whole_number
from rlhf_engine.runs.driven_folder import DrivenFolder
from rlhf_engine.runs.run_lines import read_lines, read_object, readable, sample, sample_row

SWEEPS = ".sweeps"
FORMAT = 1
MOST_JOBS = 64
"""Runs at once."""
_ABOUT, _PRESET, _RESULT = "sweep.json", "preset.toml", "result.json"
_MOST_TEXT = 10_000  # characters of a value, a path or a name


@dataclass(frozen=True)
class Plan:
    """What a sweep does. preset: its name or path. jobs: how many runs at once, when it was last begun. threads:
    `train.threads` of each run (0: as the preset has it). responses: fresh ones of each final policy; pool: most of
    each reference, in all (0: none). ids: by name of a run what stays when it is renamed, as far as they have begun."""

    preset: str
    grid: Grid
    cells: tuple[Cell, ...]
    jobs: int = 1
    threads: int = 0
    responses: int = 200
    pool: int = 0
    started: str = ""
    ids: Mapping[str, str] = field(default_factory=dict)


class SweepDir:
    """One sweep's folder. Make one with `create` or `open`."""

    def __init__(self, path: Path) -> None:
        self.path, self.driven = path, DrivenFolder(path, "sweep")

    @classmethod
    def create(cls, root: Path, name: str, plan: Plan, preset: RunConfig) -> SweepDir:
        """A new sweep of runs under `root`. Raises RunError for a name not allowed, or taken."""
        from rlhf_engine.config.preset_writer import to_toml

        require_name(name)
        path = root / SWEEPS / name
        if os.path.lexists(path):
            raise RunError(f"There is already a sweep named {name} in {root}; choose another name.")
        with writing(path):
            make_folder(root, 0o755)
            make_folder(path)
            write_new(path / _PRESET, to_toml(preset))
        made = cls(path)
        made.write_plan(replace(plan, started=datetime.now(UTC).isoformat(timespec="seconds")))
        return made

    @classmethod
    def find(cls, root: Path, name: str) -> SweepDir | None:
        """The sweep of that name, if there is one."""
        path = root / SWEEPS / name
        return cls(path) if NAME.fullmatch(name) and os.path.lexists(path / _ABOUT) else None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.name

    @property
    def root(self) -> Path:
        """Where its runs lie."""
        return self.path.parent.parent

    def plan(self) -> Plan:
        """What it does. Raises RunError where that cannot be read."""
        told = read_object(self.path / _ABOUT)
        try:
            if told.get("format") != FORMAT:
                raise ValueError("no format that this version knows")
            return _plan(told)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"{self.path / _ABOUT} cannot be read: {first_line(error)}.") from None

    def write_plan(self, plan: Plan) -> None:
        """Keeps it, in the place of what was there. Raises RunError."""
        row = {"format": FORMAT, "version": __version__, "preset": plan.preset, "started": plan.started,
               "fixed": list(plan.grid.fixed), "axes": [asdict(axis) for axis in plan.grid.axes],
               "seeds": list(plan.grid.seeds), "jobs": plan.jobs, "threads": plan.threads, "responses": plan.responses,
               "pool": plan.pool,
               "cells": [{"run": cell.run, "id": plan.ids.get(cell.run, ""), "values": dict(cell.values),
                          "seed": cell.seed} for cell in plan.cells]}
        with writing(self.path / _ABOUT):
            replace_text(self.path / _ABOUT, to_json(row) + "\n")

    def preset(self) -> RunConfig:
        """The preset as the sweep began with it. Raises RunError, or ConfigError if damaged."""
        path = self.path / _PRESET
        try:
            return preset_text.parse(read_text(path, MOST_WHOLE), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{path} could not be read: {os_error_reason(error)}.") from error

    def remove(self) -> None:
        """Forgets the sweep, for good; its runs stay. Raises RunError while a process drives it."""
        with self.driven.lock(), writing(self.path):
            remove_folder(self.path)

    # --- what was measured ---

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Keeps what the sweep came to. Raises RunError."""
        with writing(self.path / _RESULT):
            replace_text(self.path / _RESULT, to_json(result) + "\n")

    def result(self) -> dict[str, Any]:
        """What it came to when it was last measured; empty if it was not."""
        return read_object(self.path / _RESULT)

    def write_measured(self, name: str, about: Mapping[str, Any], samples: Sequence[Sample]) -> None:
        """Keeps fresh responses, and what they are of. Raises RunError."""
        path = self.path / "measured" / f"{name}.jsonl"
        rows = [{"about": dict(about)}, *(sample_row(response, traced=False) for response in samples)]
        with writing(path):
            make_folder(path.parent)
            replace_bytes(path, ((to_json(row, ascii_only=False) + "\n").encode(errors="backslashreplace")
                                 for row in rows))

    def measured(self, name: str) -> tuple[dict[str, Any], list[Sample]]:
        """What was kept; nothing where there is nothing, or it cannot be read."""
        try:
            rows, _ = read_lines(self.path / "measured" / f"{name}.jsonl")
            return dict(rows[0]["about"]), readable(rows[1:], sample)
        except (RunError, LookupError, TypeError, ValueError):
            return {}, []

    def add_to_pool(self, pool: str, prompt: str, block: int, scores: Sequence[float]) -> None:
        """Keeps the scores of one block of the reference's responses to a prompt. Raises RunError."""
        path = self.path / "pools" / f"{pool}.jsonl"
        with writing(path):
            make_folder(path.parent)
            append_line(path, to_json({"prompt": prompt, "block": block, "scores": list(scores)}, ascii_only=False))

    def pool(self, pool: str) -> dict[tuple[str, int], list[float]]:
        """The scores that were kept, by prompt and block. Raises RunError if they cannot be read."""
        rows, _ = read_lines(self.path / "pools" / f"{pool}.jsonl")
        return dict(readable(rows, _block))


def require_name(name: str) -> None:
    """Raises RunError for a name that a sweep cannot have."""
    if not NAME.fullmatch(name):
        raise RunError(f"The sweep name {name!r} is not allowed: {NAME_RULE}.")


def list_sweeps(root: Path) -> list[tuple[SweepDir, Plan]]:
    """The sweeps of runs under `root` that can be read, the newest first."""
    try:
        paths = list(islice((root / SWEEPS).iterdir(), MOST_ENTRIES))
    except OSError:
        return []
    found = []
    for path in paths:
        sweep = SweepDir.find(root, path.name)
        if sweep is None:
            continue
        try:
            found.append((sweep, sweep.plan()))
        except RunError:
            continue
    return sorted(found, key=lambda pair: (pair[1].started, pair[0].name), reverse=True)


# ---------------------------------------------------------------------------------------------------------------------


def _plan(told: Mapping[str, Any]) -> Plan:
    rows = list(told["cells"])
    if len(rows) > MOST_CELLS:
        raise ValueError(f"it has more than {MOST_CELLS} runs")
    cells = tuple(Cell(_name(row["run"]), tuple((_text(path), _text(value)) for path, value in row["values"].items()),
                       whole_number(row["seed"], most=2**63)) for row in rows)
    axes = tuple(Axis(_text(row["path"]), tuple(map(_text, row["values"]))) for row in told["axes"])
    grid = Grid(tuple(map(_text, told["fixed"])), axes, tuple(whole_number(seed, most=2**63) for seed in told["seeds"]))
    ids = {cell.run: _text(row["id"]) for cell, row in zip(cells, rows, strict=True) if row["id"]}
    return Plan(_text(told["preset"]), grid, cells, whole_number(told.get("jobs", 1), 1, MOST_JOBS),
                whole_number(told["threads"]), whole_number(told["responses"]), whole_number(told["pool"]),
                _text(told["started"]), ids)


def _name(value: Any) -> str:
    name = _text(value)
    if not NAME.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is no name of a run")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise ValueError("what should be a text is none, or too long")
    return value


def _block(row: Mapping[str, Any]) -> tuple[tuple[str, int], list[float]]:
    return (str(row["prompt"]), whole_number(row["block"])), [number(score) for score in row["scores"]]
