"""A new run that goes on from a checkpoint of another one, under other settings.

The child is a run like any other: its configuration is the parent's at that checkpoint with the changes made, its first
checkpoint is the parent's, and its metrics up to there are copied, so that its curves begin where the parent's do; its
probes too, where both answer the same prompt from the same random numbers. The
parent is only read. Training it is resuming it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_engine import checkpoint, fields
from rlhf_engine.checkpoint import TrainingState
from rlhf_engine.config import RunConfig
from rlhf_engine.errors import CheckpointError, ConfigError
from rlhf_engine.probing import comparable
from rlhf_engine.run_dir import Parent, RunDir
from rlhf_engine.saving import Counts

# the adapters of a checkpoint fit one base model, and one shape
_FIXED = ("model.name", "model.revision", "lora.rank", "lora.target_modules")


def fork(
    parent: RunDir, *, step: int | None = None, changes: Mapping[str, Any], root: Path, name: str | None = None
) -> RunDir:
    """A new run under `root` from the parent's checkpoint of `step` (the newest if None); changes: path -> value.

    Raises ConfigError for changes that are not allowed or do not fit the adapters, CheckpointError when there is no
    such checkpoint, and RunError when the run cannot be made.
    """
    state = state_at(parent, step)
    config = _changed(state, dict(changes))
    child = RunDir.create(root, config, name=name, preset=parent.preset, parent=Parent(parent.name, state.step))
    with child.lock():
        for line in parent.metrics():
            if line.step <= state.step:
                child.append_metrics(line.step, line.seconds, line.metrics)
        for probe in parent.probes() if comparable(state.config, config) else ():
            if probe.step <= state.step:
                child.append_probe(probe)
        checkpoint.save(child, _as_first(state, config), keep=1)
    return child


def state_at(run_dir: RunDir, step: int | None) -> TrainingState:
    """The undamaged checkpoint of `step`, or the newest one if None. Raises CheckpointError saying which there are."""
    if step is None:
        return checkpoint.load_newest(run_dir)[0]
    there = {path: checkpoint.step_of(path) for path in checkpoint.candidates(run_dir)}
    problems = []
    for path in (path for path, at in there.items() if at == step):
        try:
            return checkpoint.load(path)
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(" ".join(problems))
    steps = ", ".join(str(at) for at in sorted(set(there.values()))) or "none"
    raise CheckpointError(f"The run {run_dir.name} has no checkpoint of step {step}; there are those of steps {steps}.")


def _changed(state: TrainingState, changes: dict[str, Any]) -> RunConfig:
    before = state.config
    config = fields.replace(before, changes)
    differing = fields.changed_settings(before, config)
    if fixed := [path for path in differing if path in _FIXED]:
        raise ConfigError([f"{path}: a fork keeps the model and the shape of its adapters; start a new run with it"
                           for path in fixed])
    if state.step >= config.train.steps:
        raise ConfigError(f"train.steps: the checkpoint is of step {state.step} already; a fork needs more than that")
    return config


def _as_first(state: TrainingState, config: RunConfig) -> TrainingState:
    """The parent's state as the child's: its own settings, and nothing counted that happened to the parent alone."""
    before, counts = state.config, Counts.of(state)
    counts = Counts(seconds=counts.seconds, threads=counts.threads)
    numbers = state.numbers | vars(counts)
    if (before.kl.coef, before.kl.controller) != (config.kl.coef, config.kl.controller):
        numbers["kl_coef"] = config.kl.coef
    tensors = state.tensors
    if before.train.seed != config.train.seed:  # the generators then start from the new seed
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("generator/")}
    return replace(state, tensors=tensors, numbers=numbers, config=config)
