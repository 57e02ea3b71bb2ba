"""A new run that goes on from a checkpoint of another one, under other settings.

The child is a run like any other: its configuration is the parent's at that checkpoint with the changes made, its first
checkpoint is the parent's, and its metrics up to there are copied, so that its curves begin where the parent's do; its
probes too, where both answer the same prompt from the same random numbers. The parent is only read. Training it is
resuming it.

Where it goes on by another method, or under another preset, it begins at step 0 with the parent's actor alone: see
`other_method`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_engine.config.fields import METHOD, changed_settings
from rlhf_engine.config.fields import replace as replace_settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.pinning import pinned_data
from rlhf_engine.errors import RunError
from rlhf_engine.evaluation.probing import comparable
from rlhf_engine.rewards.function import pinned
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.base_model import MOVES, BaseChoice, base_fingerprint
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.runs.method_change import require_actor, taken_over
from rlhf_engine.runs.parent import Parent
from rlhf_engine.runs.reward_versions import copy_versions
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import fork_settings
from rlhf_engine.training.other_method import first_state
from rlhf_engine.training.saving import RunProgress


def fork(
    parent: RunDir, *, step: int | None = None, changes: Mapping[str, Any], root: Path, name: str | None = None,
    preset: tuple[str, RunConfig] | None = None, accept_base: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> RunDir:
    """A new run under `root` from the parent's checkpoint of `step` (the newest if None); changes: path -> value, of
    the settings of the checkpoint, or of `preset` (its name, and what it says).

    Where the base model lies may be among the changes, if it is the same one. accept_base: go on with another one,
    which resuming the child then accepts, too. tell: takes sentences about newer checkpoints that are damaged, and
    about what another method takes over.

    Raises ConfigError for changes that are not allowed or do not fit the adapters, CheckpointError when there is no
    such checkpoint, and RunError when the run cannot be made, of which nothing is then left.
    """
    state = checkpoint.state_at(parent, step, tell)
    before = state.config
    base = BaseChoice(accept_base, {path: value for path, value in changes.items() if path in MOVES})
    placed = base.placed(_under(preset[1], before) if preset else before)
    base.check(parent.name, state.base, base_fingerprint(placed.model), placed.model)
    others = {path: value for path, value in changes.items() if path not in MOVES}
    anew = preset is not None or others.get(METHOD, before.algorithm.kind) != before.algorithm.kind
    if anew:
        config = pinned(replace_settings(placed, others))
        require_actor(parent.name, before, config)
    else:
        config = pinned(fork_settings(placed, state.step, others))
    where = ("source", "subset", "split", "revision")
    if not preset and any(getattr(config.data, name) != getattr(placed.data, name) for name in where):
        config = replace_settings(config, {"data.sha256": None})  # that was another source's
    config = pinned_data(config)
    first = first_state(parent.name, state, config, base) if anew else _as_first(state, config)
    child = RunDir.create(root, config, name=name, preset=preset[0] if preset else parent.preset,
                          parent=_origin(parent, state, config, anew=anew, another_preset=preset is not None))
    try:
        with child.lock():
            if not anew:
                _copy_past(parent, child, state, config)
            copy_versions(parent, child, state.step, config)
            checkpoint.save(child, first, keep=1)
    except BaseException as error:
        shutil.rmtree(child.path, ignore_errors=True)  # made here a moment ago: a run that could not be gone on with
        if isinstance(error, RunError):
            raise RunError(f"The fork was not made: {error}") from error
        raise
    if anew:
        tell(taken_over(parent.name, state.step, config))
    return child


def _under(preset: RunConfig, before: RunConfig) -> RunConfig:
    """The preset, with adapters that are scaled as they were trained, and in the number format that they were trained
    in unless the preset names one."""
    dtype = before.model.dtype if preset.model.dtype == "auto" else preset.model.dtype
    return replace_settings(preset, {"lora.alpha": before.lora.alpha, "model.dtype": dtype})


def _origin(parent: RunDir, state: TrainingState, config: RunConfig, *, anew: bool, another_preset: bool
            ) -> Parent:
    """Where the child came from, with each setting that was changed; another preset is known by its name."""
    changed = changed_settings(state.config, config)
    if another_preset:
        changed = {METHOD: changed[METHOD]} if METHOD in changed else {}
    return Parent(parent.name, state.step, parent.id, tuple((path, *pair) for path, pair in changed.items()), anew)


def _copy_past(parent: RunDir, child: RunDir, state: TrainingState, config: RunConfig) -> None:
    """Metrics of the steps so far, and what the parent answered to the same probe."""
    for line in parent.each_step():
        if line.step <= state.step:
            child.append_metrics(line.step, line.seconds, line.metrics)
    for probe in parent.probes() if comparable(state.config, config) else ():
        if probe.step <= state.step:
            child.append_probe(probe)


def _as_first(state: TrainingState, config: RunConfig) -> TrainingState:
    """The parent's state as the child's: its own settings, and nothing counted that happened to the parent alone."""
    before, progress = state.config, RunProgress.of(state)
    progress = RunProgress(seconds=progress.seconds, threads=progress.threads)
    numbers = config.algorithm.forked_numbers(state.numbers, before, config) | vars(progress)
    tensors = state.tensors
    if before.train.seed != config.train.seed:  # the generators then start from the new seed
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("generator/")}
    return replace(state, tensors=tensors, numbers=numbers, config=config)
