"""What the folder of a run may say about code: nothing but what its configuration shows, and whose runs have code run.

A person who wants to know what a run would execute reads its `config.toml`. So a checkpoint, which is read in its
place, may name no other code than that file does, but for the digests of changed files that a person has accepted and
`edits.jsonl` records. And for a run that another user could have written, no code is run at all. No torch here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rlhf_engine.config.rewards import FunctionRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError, ConfigError, RlhfError
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_driver import user_name
from rlhf_engine.runs.run_files import CONFIG, EDITS


class ForeignCodeError(ConfigError):
    """The code of a run that is not this user's alone; nothing of it is run."""


def require_named_code(run_dir: RunDir, config: RunConfig) -> None:
    """Raises CheckpointError when `config`, which a checkpoint of the run holds, names code that the run's config.toml
    and its recorded changes do not."""
    wanted = _code_of(config)
    if not wanted:
        return
    try:
        started = run_dir.config()
        edits = run_dir.edits()
    except RlhfError as error:
        raise CheckpointError(f"A checkpoint of {run_dir.name} names reward code, and what the run was started with is "
                              f"not known: {error}") from error
    named = dict(_code_of(started))
    known = {(function, digest) for function, digest in named.values()}
    for edit in edits:
        place = edit.path.removesuffix(".sha256")
        if place != edit.path and place in named and isinstance(edit.new, str):
            known.add((named[place][0], edit.new))
    for function, digest in wanted.values():
        if (function, digest) not in known:
            what = f"with the SHA-256 {digest}" if any(function == other for other, _ in known) else ""
            raise CheckpointError(f"A checkpoint of {run_dir.name} names the reward code {function} {what}".rstrip()
                                  + f", which neither {CONFIG} nor a change in {EDITS} does.")


def require_own_run(run_dir: RunDir, config: RunConfig) -> None:
    """Raises ForeignCodeError when `config` names code and the run, or what it is read from, is another user's."""
    if not _code_of(config):
        return
    for path in _read_for_code(run_dir):
        try:
            owner = os.stat(path, follow_symlinks=path == run_dir.path).st_uid
        except OSError:  # what is not there says nothing
            continue
        if owner != os.geteuid():
            what = "belongs" if path == run_dir.path else f"has a file, {path.relative_to(run_dir.path)}, that belongs"
            raise ForeignCodeError(f"the reward code of the run {run_dir.name} is not run, for the run {what} to "
                                   f"another user ({user_name(owner)}); a fork of it is a run of your own")


# ---------------------------------------------------------------------------------------------------------------------


def _code_of(config: RunConfig) -> dict[str, tuple[str, str | None]]:
    """The function and the digest of each reward that is code, by the path of its settings."""
    return {f"rewards.{index}": (reward.function, reward.sha256) for index, reward in enumerate(config.rewards)
            if isinstance(reward, FunctionRewardConfig)}


def _read_for_code(run_dir: RunDir) -> Iterator[Path]:
    yield run_dir.path
    yield from (run_dir.path / CONFIG, run_dir.path / EDITS, run_dir.checkpoints)
    if run_dir.checkpoints.is_dir():
        for folder in sorted(run_dir.checkpoints.glob("step-*")):
            yield folder
            yield from sorted(folder.glob("*"))
