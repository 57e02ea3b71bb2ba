"""A sweep made ready: every run checked before the first one begins, and a sweep of that name gone on with. No torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rlhf_engine.config import presets
from rlhf_engine.config.grid import Cell, Grid, default_name, grid_of, validated, yardstick
from rlhf_engine.config.model_names import STORYTELLER, folder_of
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.pinning import pinned_data
from rlhf_engine.errors import ConfigError, RlhfError, RunError, first_few
from rlhf_engine.model_folders.judge_models import pinned_judges
from rlhf_engine.rewards.function import pinned
from rlhf_engine.runs.base_model import pinned_base
from rlhf_engine.runs.run_settings import differences
from rlhf_engine.runs.sweep_dir import Plan, SweepDir, require_name
from rlhf_engine.sweeping.cells import require_same_settings, run_of
from rlhf_engine.sweeping.drive import threads_for

RESPONSES, POOL = 200, 8192
"""Fresh responses of each final policy, and the most of each reference: more than `compare` draws, for all runs share
them."""
_TOLD = 3


@dataclass(frozen=True)
class SweepRequest:
    """What somebody wants of a sweep. preset: its name or path; settings: "key=value,value"; seeds: "3" or "0,7,9";
    name: None for one that the same grid gets again. responses, pool: None for the usual, or as they were."""

    preset: str
    settings: tuple[str, ...] = ()
    seeds: str = "1"
    name: str | None = None
    responses: int | None = None
    pool: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A sweep that can begin. configs: by run, its settings; measured_by: whose prompts, sampling and rewards. sweep:
    the one that is gone on with, if there is one."""

    name: str
    plan: Plan
    preset: RunConfig
    configs: Mapping[str, RunConfig]
    measured_by: RunConfig
    sweep: SweepDir | None = None

    def keep(self, root: Path) -> SweepDir:
        """Writes it down. Raises RunError."""
        if self.sweep is None:
            return SweepDir.create(root, self.name, self.plan, self.preset)
        self.sweep.write_plan(self.plan)
        return self.sweep


def prepare(asked: SweepRequest, root: Path, jobs: int = 1) -> Prepared:
    """Checks all of it. Raises ConfigError, one sentence a mistake, RunError, and UntrustedCodeError."""
    preset = presets.load(asked.preset)
    grid = grid_of(preset, asked.settings, asked.seeds)
    name = asked.name or default_name(asked.preset, [axis.path for axis in grid.axes])
    try:
        require_name(name)
    except RunError as error:
        raise ConfigError(f"--name: {error}") from None
    where = str(Path(asked.preset).absolute()) if asked.preset.endswith(".toml") else asked.preset
    has_threads = any(path == "train.threads" for path in _paths(grid))
    plan = Plan(where, grid, tuple(grid.cells(name)), jobs, 0 if has_threads else threads_for(jobs),
                RESPONSES if asked.responses is None else asked.responses, POOL if asked.pool is None else asked.pool)
    return _checked(name, plan, preset, SweepDir.find(root, name), root)


def prepare_again(
    name: str, root: Path, jobs: int | None = None, responses: int | None = None, pool: int | None = None
) -> Prepared:
    """The sweep of that name, to be gone on with, as it was where nothing else is said. Raises as `prepare` does, also
    where there is none."""
    sweep = SweepDir.find(root, name)
    if sweep is None:
        raise ConfigError(f"There is no sweep {name!r} under {root}.")
    plan = sweep.plan()
    plan = replace(plan, jobs=jobs or plan.jobs, responses=plan.responses if responses is None else responses,
                   pool=plan.pool if pool is None else pool)
    return _checked(name, plan, presets.load(plan.preset), sweep, root)


# ---------------------------------------------------------------------------------------------------------------------


def _checked(name: str, plan: Plan, preset: RunConfig, sweep: SweepDir | None, root: Path) -> Prepared:
    if sweep is not None:
        plan = _gone_on_with(sweep, plan, preset)
    made: dict[str, RunConfig] = {}

    def finish(config: RunConfig) -> RunConfig:
        data = config.data.model_dump_json() + config.algorithm.needs.batch
        if data not in made:
            made[data] = pinned_data(config)  # reads the source
        config = config.model_copy(update={"data": made[data].data})
        _require_model(config)
        return pinned(pinned_judges(pinned_base(config)))

    configs = dict(zip((cell.run for cell in plan.cells), validated(preset, plan.grid, plan.cells, finish),
                       strict=True))
    problems = []
    for cell in plan.cells:
        try:
            if run := run_of(root, cell, plan.ids.get(cell.run, "")):
                require_same_settings(run, configs[cell.run])
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(first_few(problems))
    return Prepared(name, plan, preset, configs, yardstick(preset, plan.grid.fixed), sweep)


def _gone_on_with(sweep: SweepDir, plan: Plan, preset: RunConfig) -> Plan:
    """The plan with what the sweep of that name has begun. Raises ConfigError unless that is all part of it."""
    before = sweep.plan()
    other = "another --name begins a new sweep"
    changed: list[str] = []
    with suppress(RlhfError):  # a preset of a later version, say; then its runs tell
        changed = [f"{item.path} was {item.left or 'not set'} and is {item.right or 'not set'}"
                   for item in differences(sweep.preset(), preset) if item.path != "description"]
    if changed:
        more = f" and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
        raise ConfigError(f"the preset {plan.preset} has changed since the sweep {sweep.name} began: "
                          f"{'; '.join(changed[:_TOLD])}{more}; {other}")
    if sorted(before.grid.fixed) != sorted(plan.grid.fixed):
        raise ConfigError(f"the sweep {sweep.name} was begun with {_sets(before.grid.fixed)}, and is asked "
                          f"for with {_sets(plan.grid.fixed)} now; {other}")
    known = {(cell.values, cell.seed): cell for cell in before.cells}
    wanted = {(cell.values, cell.seed) for cell in plan.cells}
    if gone := [cell for place, cell in known.items() if place not in wanted]:
        more = f" and {len(gone) - _TOLD} more" if len(gone) > _TOLD else ""
        raise ConfigError(f"the sweep {sweep.name} has other runs, which are not asked for now: "
                          f"{', '.join(cell.run for cell in gone[:_TOLD])}{more}; {other}, and what this one has may "
                          "only be added to")
    cells = tuple(known.get((cell.values, cell.seed), cell) for cell in plan.cells)
    return replace(plan, cells=_named_apart(cells), threads=before.threads, started=before.started, ids=before.ids)


def _named_apart(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells, each run's name once: those of a grid that has grown may be numbered anew."""
    found: list[Cell] = []
    taken: set[str] = set()
    for cell in cells:
        name, number = cell.run, 2
        while name in taken:
            name, number = f"{cell.run[:60]}-{number}", number + 1
        taken.add(name)
        found.append(replace(cell, run=name))
    return tuple(found)


def _require_model(config: RunConfig) -> None:
    """Raises ConfigError for a model that is meant to be a folder, where there is none; one of the hub may be fetched.
    """
    name = config.model.name
    if name != STORYTELLER and not os.path.isdir(folder_of(name)) and (
            name.startswith(("/", "./", "../", "~")) or name.count("/") > 1):
        raise ConfigError(f"--set model.name: there is no folder {name}")


def _paths(grid: Grid) -> list[str]:
    return [axis.path for axis in grid.axes] + [text.partition("=")[0] for text in grid.fixed]


def _sets(fixed: Sequence[str]) -> str:
    return " ".join(f"--set {text}" for text in fixed) or "no --set that holds for all"
