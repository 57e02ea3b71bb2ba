"""What every method trains and saves alike: adapters with an optimizer each, and random numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from rlhf_engine.algorithms.base import Resources, State
from rlhf_engine.algorithms.generators import generator_states, require_generators, restore_generators
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError
from rlhf_engine.learning.optimizer import AdapterOptimizer
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.models.policy import Policy
from rlhf_engine.runs.base_model import require_fit

_LOOKED_AT = 16  # tokens of a text that show whether weights compute at all; a text may be longer than a context


class Learners:
    """The adapters that a method trains, the optimizer of each, and the generators that sampling and shuffling draw
    from, seeded by the config."""

    def __init__(self, config: RunConfig, resources: Resources) -> None:
        self._resources, self._needs = resources, config.algorithm.needs
        self._policy, self._tell = resources.policy, resources.tell
        self.optimizers = {name: AdapterOptimizer(name, parameters, config.optimizer)
                           for name, parameters in resources.policy.adapters.items()}
        self.sampling_generator = torch.Generator(resources.policy.device).manual_seed(config.train.seed)
        self.shuffle_generator = torch.Generator().manual_seed(config.train.seed)

    def state(self) -> State:
        """Adapters with their heads, optimizers, generators, and how many weights have taken a step."""
        tensors = {name: parameter.detach() for name, parameter in self._policy.parameters.items()}
        for optimizer in self.optimizers.values():
            tensors |= optimizer.state()
        tensors |= generator_states(self.sampling_generator, self.shuffle_generator)
        # an optimizer that lost what it knew would pass for one that has not begun
        return State(tensors, {"moments": {name: optimizer.moments() for name, optimizer in self.optimizers.items()}})

    def require_fit(self, state: State, numbers: Collection[str] = ()) -> None:
        """Raises CheckpointError unless the tensors are what `state` can have given; numbers: names of others that a
        checkpoint must hold."""
        require_adapters(self._policy, state.tensors)
        moments = state.numbers.get("moments", {})  # earlier versions did not count them
        for optimizer in self.optimizers.values():
            optimizer.require_fit(state.tensors, moments.get(optimizer.name))
        require_generators(state.tensors, self.sampling_generator)
        known = (*(f"{name}/" for name in self.optimizers), "generator/",
                 *(f"optimizer/{name}/" for name in self.optimizers))
        if unknown := [name for name in state.tensors if not name.startswith(known)]:
            raise CheckpointError(f"{unknown[0]} is nothing that a run has")
        if missing := [name for name in numbers if name not in state.numbers]:
            raise CheckpointError(f"it has no {missing[0]}")

    def load_state(self, state: State) -> None:
        """Take over what `require_fit` has accepted."""
        load_adapters(self._policy, state.tensors)
        for optimizer in self.optimizers.values():
            optimizer.load_state(state.tensors)
        if restore_generators(state.tensors, self.sampling_generator, self.shuffle_generator):
            self._tell("the checkpoint was saved on another kind of device: its random numbers for sampling mean "
                       f"nothing to {self._policy.device.type}, and begin anew from train.seed")

    @torch.no_grad()
    def compute(self, temperature: float = 1.0) -> bool:
        """Whether each adapter, as it is, has finite numbers to say after the last tokens of the first row: next-token
        probabilities, and the outputs of its heads."""
        policy = self._policy
        ids, mask = (tensor[:, -_LOOKED_AT:] for tensor in policy.encode([self._resources.rows.example]))
        try:
            finite = True
            for name in policy.adapters:
                with policy.as_role(name):
                    hidden = policy.forward(ids, mask)[:, -1]
                heads = [policy.heads[head] for head, adapter in self._needs.heads if adapter == name]
                told = [head(hidden.float()) for head in heads] or [
                    policy.next_logits(hidden, temperature).softmax(dim=-1)]
                finite = finite and all(bool(output.isfinite().all()) for output in told)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return True  # of that the next step will tell; nothing says that the weights are broken
        return finite


def require_adapters(policy: Policy, tensors: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError unless a checkpoint's adapters and heads are of the names, shapes and types that `policy`
    has."""
    prefixes = tuple(f"{name}/" for name in policy.adapters)
    saved = {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}
    require_fit(saved, policy.parameters, f"adapters of the checkpoint do not fit {type(policy.base).__name__}")


def load_adapters(policy: Policy, tensors: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's adapters and heads into `policy`. Raises CheckpointError, before it changes anything, when
    they do not fit it."""
    require_adapters(policy, tensors)
    with torch.no_grad():
        for name, parameter in policy.parameters.items():
            parameter.copy_(tensors[name])
