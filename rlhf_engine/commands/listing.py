"""What there is: presets, settings, runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from rlhf_engine.commands.console import out, print_json, print_table
from rlhf_engine.commands.shared import AsJson, RunsDir
from rlhf_engine.config import fields, presets
from rlhf_engine.runs.reward_versions import versions_of
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT, RunDir
from rlhf_engine.runs.run_list import RunSummary, as_tree, list_runs


def list_presets(
    show_fields: Annotated[bool, typer.Option("--fields", help="List every setting of a preset and --set.")] = False,
    as_json: AsJson = False,
) -> int:
    """List the presets, or with --fields every setting.

    With --json: presets, each with name, description, origin and path; or fields, each with path, algorithm_kind and
    reward_kind (null, or the kind that has it), allowed, unit, live, default and help.
    """
    if show_fields:
        return _print_fields(as_json)
    found = presets.available()
    if as_json:
        print_json({"presets": [asdict(info) | {"path": str(info.path)} for info in found]})
    else:
        print_table(["preset", "", "description"], [[info.name, info.origin, info.description] for info in found])
    return 0


def runs(runs_dir: RunsDir = DEFAULT_RUNS_ROOT, as_json: AsJson = False) -> int:
    """List the runs, the last changed first, forks below the run they came from.

    With --json: runs, each with name, path, preset, state, step, total_steps, message, changed (seconds since 1970) and
    parent (null, or run and step), id (what stays when it is renamed), note, started (ISO 8601) and reward_versions:
    of reward models that learnt on within it, each with reward, version, first_step (from which on it rewards),
    judgements, accuracy (null, or the share of held_out pairs that it tells apart).
    """
    found = list_runs(runs_dir)
    if as_json:
        rows = [asdict(run) | {"path": str(run.path),
                               "parent": run.parent and {"run": run.parent.run, "step": run.parent.step},
                               "reward_versions": [asdict(each) for each in versions_of(RunDir(run.path))]}
                for run in found]
        print_json({"runs": rows})
    elif not found:
        out(f"no runs under {runs_dir} yet")
    else:
        table = [[_in_tree(depth, run), run.preset, run.state, f"{run.step}/{run.total_steps}", run.message]
                 for depth, run in as_tree(found)]
        print_table(["run", "preset", "state", "step", ""], table)
    return 0


def _in_tree(depth: int, run: RunSummary) -> str:
    if depth and run.parent:
        return f"{'   ' * (depth - 1)}└─ {run.name} (from step {run.parent.step})"
    return f"{run.name} (fork of {run.parent.run}@{run.parent.step})" if run.parent else run.name


def _print_fields(as_json: bool) -> int:
    rows = [{"path": item.path, "algorithm_kind": kind if item.section == "algorithm" else None,
             "reward_kind": kind if item.section != "algorithm" else None, "allowed": item.allowed,
             "unit": item.unit, "live": item.live, "default": item.default, "help": item.help}
            for kind, item in fields.catalogue()]
    if as_json:
        print_json({"fields": rows})
        return 0
    for row in rows:
        kind = row["algorithm_kind"] or row["reward_kind"]
        path = row["path"] + (f" ({kind})" if kind else "")
        unit = f" {row['unit']}" if row["unit"] else ""
        live = "; live (may change while training)" if row["live"] else ""
        out(path, f"    {row['help']}", f"    {row['allowed']}{unit}; default {fields.show(row['default'])}{live}")
    return 0
