"""Take a trained run elsewhere: as files that transformers and peft load without us."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rlhf_engine.commands.console import out, print_json, say
from rlhf_engine.commands.shared import (
    AcceptBase,
    AsJson,
    BaseMoved,
    RunsDir,
    TrustRemoteCode,
    base_choice,
    run_at_step,
)
from rlhf_engine.errors import ConfigError, RlhfError
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT
from rlhf_engine.system.units import format_bytes


def export(
    source: Annotated[str, typer.Argument(metavar="[RUN[@STEP]]", help="A run, and which checkpoint: a step, or best; "
                                                                       "the newest if omitted.")],
    folder: Annotated[str | None, typer.Argument(metavar="DIR", help="The folder to write, which must not exist yet, "
                                                                     "or be empty.", show_default=False)] = None,
    merged: Annotated[bool, typer.Option("--merged", help="Write the whole model with the adapter merged in, rather "
                                                          "than the adapter alone.")] = False,
    moved: BaseMoved = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    trust: TrustRemoteCode = None,
    accept_base: AcceptBase = False,
    as_json: AsJson = False,
) -> int:
    """Write what a run has learnt as a folder that transformers and peft load, with tokenizer and model card.

    The adapter (LoRA) alone, which finds its base model by name, or with --merged one model that needs nothing else.
    The folder works as model.name, too.

    With --json: run, step, kind ("adapter" or "merged"), path, base (what the adapter was trained on), dtype (the
    number format that the run computed the base in, in which a merged model is written), kept (the share of what the
    adapter adds that rounding has left in merged weights; null for an adapter) and bytes.
    """
    if folder is None:
        folder, source = source, ""
        _must_not_be_a_run(folder, runs_dir)
    run_dir, step = run_at_step(source or None, runs_dir)
    from rlhf_engine.exporting.export import export as write

    base = base_choice(run_dir.config(), moved, accept_base)
    done = write(run_dir, Path(folder), step=step, merged=merged, base=base, tell=say)
    if as_json:
        print_json(asdict(done) | {"path": str(done.path)})
    else:
        what = f"merged model in {done.dtype}" if done.kind == "merged" else f"adapter for {done.base} in {done.dtype}"
        out(f"exported {done.run}@{done.step}, {what}, {format_bytes(done.bytes)}: {done.path}")
    return 0


def _must_not_be_a_run(folder: str, runs_dir: Path) -> None:
    """Raises ConfigError where the only argument means a run: the folder was forgotten then."""
    try:
        run_dir, _ = run_at_step(folder, runs_dir)
    except RlhfError:
        return
    raise ConfigError(f"export {folder} where to? Behind the run {run_dir.name} goes the folder to write")
