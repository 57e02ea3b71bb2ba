"""The random number generators of a run, as a checkpoint holds them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rlhf_engine.errors import CheckpointError
from rlhf_engine.runs.checkpoint_content import require_generator

_SAMPLING, _SHUFFLE, _DROPOUT = "generator/sampling", "generator/shuffle", "generator/dropout"
_DROPOUT_CUDA = "generator/dropout_cuda"


def generator_states(sampling: torch.Generator, shuffle: torch.Generator) -> dict[str, Tensor]:
    """The states of a run's own generators and, since dropout draws from them, of torch's; uint8."""
    states = {_SAMPLING: sampling.get_state(), _SHUFFLE: shuffle.get_state(), _DROPOUT: torch.get_rng_state()}
    if sampling.device.type == "cuda":
        states[_DROPOUT_CUDA] = torch.cuda.get_rng_state(sampling.device)
    return states


def require_generators(tensors: Mapping[str, Tensor], sampling: torch.Generator) -> None:
    """Raises CheckpointError unless all generators of a run are there, or none: a fork with another seed has none.

    That of sampling may be of another kind of device than `sampling`.
    """
    saved = {name: tensor for name, tensor in tensors.items() if name.startswith("generator/")}
    needed = {_SAMPLING, _SHUFFLE, _DROPOUT}
    if saved and (wrong := (needed - saved.keys()) or (saved.keys() - needed - {_DROPOUT_CUDA})):
        raise CheckpointError(f"{min(wrong)} is {'missing' if wrong & needed else 'nothing that a run has'}")
    for name, state in saved.items():
        require_generator(name, state)
    on_the_cpu = torch.Generator().get_state().shape
    for name in (_SHUFFLE, _DROPOUT):
        if saved and saved[name].shape != on_the_cpu:
            raise CheckpointError(f"{name} is no state of a generator on the CPU")
    for name in (_SAMPLING, _DROPOUT_CUDA):
        if name in saved and saved[name].shape == sampling.get_state().shape:
            try:
                torch.Generator(sampling.device).set_state(saved[name].cpu())
            except RuntimeError:
                raise CheckpointError(f"{name} is no state that a generator on {sampling.device} can have") from None


def restore_generators(tensors: Mapping[str, Tensor], sampling: torch.Generator, shuffle: torch.Generator) -> bool:
    """Go on from the states that `require_generators` has accepted; where there are none, all stay as seeded.

    True if that of sampling is of another kind of device, where it has another shape: then it stays as seeded, too.
    """
    elsewhere = False
    for name, generator in ((_SAMPLING, sampling), (_SHUFFLE, shuffle), (_DROPOUT, torch.default_generator)):
        if (state := tensors.get(name)) is None:
            continue
        if state.shape == generator.get_state().shape:
            generator.set_state(state.cpu())
        else:
            elsewhere = True
    if sampling.device.type == "cuda" and _DROPOUT_CUDA in tensors:
        torch.cuda.set_rng_state(tensors[_DROPOUT_CUDA].cpu(), sampling.device)
    return elsewhere
