"""Is it sound? The checkpoints of a run, and the machine."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from rlhf_engine.commands.console import out, print_json, print_table
from rlhf_engine.commands.doctor import checks
from rlhf_engine.commands.shared import AsJson, RunOrNewest, RunsDir, run_or_newest
from rlhf_engine.errors import BaseChangedError, CheckpointError, RlhfError
from rlhf_engine.runs.base_model import base_fingerprint, require_same_base
from rlhf_engine.runs.checkpoint_list import base_at
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT, RunDir
from rlhf_engine.system.units import format_bytes


def verify(run: RunOrNewest = None, runs_dir: RunsDir = DEFAULT_RUNS_ROOT, as_json: AsJson = False) -> int:
    """Check every checkpoint of a run against its SHA-256 sums, and its base model against what it was.

    Also what the files hold, as far as that is known without the model: that weights, moments and counts are finite and
    in their bounds, of one shape and of the run's rank, and that settings are those of the run. resume asks the model,
    too.

    The exit code is 1 if a checkpoint is damaged, there is none, or the base model is another one now.

    With --json: run, sound (true if all are), base (state: "same", "changed" or "unknown"; message) and checkpoints,
    newest first, each with name, path, step, sound, best, bytes and message.
    """
    run_dir = run_or_newest(run, runs_dir)
    from rlhf_engine.runs import checkpoint

    best = checkpoint.best(run_dir)
    rows: list[dict[str, Any]] = []
    for path in checkpoint.candidates(run_dir):
        message = ""
        try:
            checkpoint.load(path)
        except CheckpointError as error:
            if not path.is_dir():  # removed since it was listed, by the run
                continue
            message = str(error)
        rows.append({"name": path.name, "path": str(path), "step": checkpoint.step_of(path), "sound": not message,
                     "best": path == best, "bytes": checkpoint.size(path), "message": message})
    sound = all(row["sound"] for row in rows)
    base, about_base = _base(run_dir) if rows else ("unknown", "")
    if as_json:
        print_json({"run": run_dir.name, "sound": sound, "base": {"state": base, "message": about_base},
                    "checkpoints": rows})
    elif rows:
        print_table(["checkpoint", "", "size", ""], [
            [row["name"], "sound" if row["sound"] else "DAMAGED", format_bytes(row["bytes"]),
             row["message"] or ("best" if row["best"] else "")] for row in rows])
    else:
        out(f"the run {run_dir.name} has no checkpoint")
    if about_base and not as_json:
        out(about_base)
    return 0 if rows and sound and base != "changed" else 1


def _base(run_dir: RunDir) -> tuple[str, str]:
    """Whether the base of the newest checkpoint is still there, in a word, and in a sentence."""
    from rlhf_engine.runs.checkpoint import newest_config

    try:
        model, before = newest_config(run_dir).model, base_at(run_dir, None)
        now = base_fingerprint(model)
        require_same_base(run_dir.name, before, now, model)
    except BaseChangedError as error:
        return "changed", str(error)
    except RlhfError as error:
        return "unknown", str(error)
    if before is None:
        return "unknown", "what the base model was is not written down in the newest checkpoint; the next one says it"
    if now is None:
        return "unknown", f"the base model {model.name} is not on this machine, or has moved"
    return "same", f"the base model {model.name} is the one that the run was trained on"


def doctor(runs_dir: RunsDir = DEFAULT_RUNS_ROOT, as_json: AsJson = False) -> int:
    """Look at what a long run needs of this machine: terminal, disk, torch, and what happens at logout.

    With --json: checks, each with name, level ("ok" or "warning"), value and advice.
    """
    found = []
    for check in checks(runs_dir, os.environ):
        found.append(check)
        if not as_json:
            mark = "warning: " if check.level == "warning" else ""
            out(f"{check.name:15} {mark}{check.value}" + (f"; {check.advice}" if check.advice else ""))
    if as_json:
        print_json({"checks": [asdict(check) for check in found]})
    return 0
