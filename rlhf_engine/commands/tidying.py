"""Keep order among runs: names, notes, and the trash."""

from __future__ import annotations

from typing import Annotated

import typer

from rlhf_engine.commands.console import confirm, out, print_json, print_table, say
from rlhf_engine.commands.shared import AsJson, Run, RunsDir, the_run
from rlhf_engine.errors import ConfigError
from rlhf_engine.runs.run_care import empty_trash, list_trash, move_to_trash, rename_run, restore
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT


def delete(run: Run, runs_dir: RunsDir = DEFAULT_RUNS_ROOT) -> int:
    """Delete a run: into the trash beside it, from where it can be restored. A run that a process drives is refused."""
    run_dir = the_run(run, runs_dir)
    trashed = move_to_trash(run_dir)
    at = f" --runs-dir {trashed.path.parent.parent}" if trashed.path.parent.parent != DEFAULT_RUNS_ROOT else ""
    out(f"{trashed.name} is deleted, into the trash: rlhf-tui trash --restore {trashed.entry}{at}")
    return 0


def trash(
    bring_back: Annotated[str | None, typer.Option("--restore", metavar="NAME", help="Restore this run.")] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Empty the trash for good; asks first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    as_json: AsJson = False,
) -> int:
    """List the runs that were deleted, restore one, or empty the trash for good.

    With --json: runs, each with entry (its name in the trash), name and bytes; after --restore: restored, its path;
    after --empty: removed and bytes.
    """
    if bring_back is not None and empty:
        raise ConfigError("--restore and --empty: one or the other")
    if bring_back is not None:
        path = str(restore(runs_dir, bring_back).path)
        print_json({"restored": path}) if as_json else out(f"restored: {path}")
        return 0
    found = list_trash(runs_dir)
    if empty:
        count, size = len(found), sum(trashed.bytes for trashed in found)
        runs = "1 run" if count == 1 else f"{count} runs"
        if count and not yes and not confirm(f"empty the trash of {runs} for good, {size:,} bytes?"):
            say("the trash was not emptied")
            return 1
        count, size = empty_trash(runs_dir, [trashed.entry for trashed in found])
        print_json({"removed": count, "bytes": size}) if as_json else out(f"emptied: {runs}, {size:,} bytes")
    elif as_json:
        print_json({"runs": [{"entry": run.entry, "name": run.name, "bytes": run.bytes} for run in found]})
    elif not found:
        out(f"the trash of {runs_dir} is empty")
    else:
        print_table(["run", "bytes"], [[run.entry, f"{run.bytes:,}"] for run in found])
    return 0


def rename(
    run: Run, name: Annotated[str, typer.Argument(help="The new name.")],
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
) -> int:
    """Give a run another name; its forks stay linked to it. A run that a process drives is refused."""
    out(f"renamed: {rename_run(the_run(run, runs_dir), name).path}")
    return 0


def note(
    run: Run,
    text: Annotated[str | None, typer.Argument(help="The note; without it, the note is printed.")]
    = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
) -> int:
    """Write a note on a run, or print it. An empty text removes the note."""
    run_dir = the_run(run, runs_dir)
    if text is None:
        out(*run_dir.note.split("\n"))
    else:
        run_dir.write_note(text)
    return 0
