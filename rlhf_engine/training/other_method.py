"""A fork to another method, or to another preset: of the parent it takes over the actor, and begins anew with all else.

Optimizers, other adapters and what a method counts mean nothing to another one; the actor is the same low-rank adapter
to all of them.
"""

from __future__ import annotations

import torch

from rlhf_engine.algorithms.base import Resources, make_algorithm
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.models.policy import Policy
from rlhf_engine.runs.base_model import BaseChoice, require_fit
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.runs.method_change import ACTOR


def first_state(parent: str, state: TrainingState, config: RunConfig, base: BaseChoice) -> TrainingState:
    """What a run under `config` is before its first step, with the actor of `state`. Loads the model.

    Raises CheckpointError where that does not fit it, BaseChangedError where it is of another base model, and whatever
    keeps a run under `config` from beginning.
    """
    torch.manual_seed(config.train.seed)
    policy = Policy.from_config(config)
    base.check(parent, state.base, policy.fingerprint, config.model)
    algorithm = make_algorithm(config, Resources.of(policy, config))
    wanted = {f"{ACTOR}/{name}": weight for name, weight in policy.adapters[ACTOR].items()}
    saved = {name: tensor for name, tensor in state.tensors.items() if name.startswith(f"{ACTOR}/")}
    require_fit(saved, wanted, f"actor of {parent} does not fit {type(policy.base).__name__}")
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(saved[name])
    begun = algorithm.state()
    return TrainingState(0, begun.tensors, begun.numbers, config, base=policy.fingerprint)
