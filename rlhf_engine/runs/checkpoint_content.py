"""What holds of the content of every checkpoint, whatever its model: the SHA-256 of a file only says who wrote it last.

A run never saves weights that are not finite, and of what it counts it knows the least it can be. Whether the tensors
are those of a model is asked by who takes them up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError
from rlhf_engine.files.reading import not_negative, whole_number

_COUNTED = ("token_count", "edits", "rollbacks", "nonfinite_steps", "threads")
_MOST_SECONDS = 1e12
_CPU_STATE = torch.Generator().get_state().shape
_MOST_DEVICE_STATE = 64  # bytes; a GPU's generator is a seed, a place, and a few words on some


def require_sound_numbers(numbers: Mapping[str, Any], config: RunConfig) -> None:
    """Raises CheckpointError naming the first of these numbers that no run under `config` has. Those that neither runs
    nor its method know are not looked at."""
    try:
        for name in _COUNTED:
            _as(name, whole_number, numbers.get(name, 0))
        not_negative(numbers.get("seconds", 0.0), "seconds", _MOST_SECONDS)
        if "moments" in numbers:
            if not isinstance(moments := numbers["moments"], dict):
                raise ValueError("moments is no table")
            for name, count in moments.items():
                _as(f"moments of {name[:40]!r}", whole_number, count)
        config.algorithm.require_sound_numbers(numbers)
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def require_sound_tensors(tensors: Mapping[str, Tensor], config: RunConfig) -> None:
    """Raises CheckpointError naming the first tensor that no run under `config` saves."""
    # what learns is in float32, whatever the base computes in
    learnt = tuple(f"{name}/" for name in (*config.algorithm.needs.adapters, "optimizer"))
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor):
            raise CheckpointError(f"{name} is not finite")
        if name.startswith(learnt) and tensor.dtype != torch.float32:
            raise CheckpointError(f"{name} is of {str(tensor.dtype).removeprefix('torch.')}, and no float32")
        _require_rank(name, tensor, config.lora.rank)
        if name.startswith("optimizer/"):
            _require_moment(name, tensor, tensors)
        if name.startswith("generator/"):
            require_generator(name, tensor)


def require_generator(name: str, state: Tensor) -> None:
    """Raises CheckpointError unless a generator goes on from `state`, on a device of whichever kind it is of."""
    of_the_cpu = state.shape == _CPU_STATE
    if state.dtype != torch.uint8 or state.dim() != 1 or not (of_the_cpu or 0 < len(state) <= _MOST_DEVICE_STATE):
        raise CheckpointError(f"{name} is no state of a random number generator")
    if of_the_cpu:
        generator = torch.Generator()
        try:
            generator.set_state(state.cpu())
        except RuntimeError:
            raise CheckpointError(f"{name} is no state that a random number generator can have") from None
        if len(torch.rand(8, generator=generator).unique()) == 1:  # of nothing but zeros nothing else comes
            raise CheckpointError(f"{name} is a state from which no random numbers come")


# ---------------------------------------------------------------------------------------------------------------------


def _as(name: str, read: Any, value: Any) -> None:
    try:
        read(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _is_finite(tensor: Tensor) -> bool:
    low, high = tensor.aminmax()  # in one pass, and without a tensor of the same size
    return bool(low.isfinite() and high.isfinite())


def _require_rank(name: str, tensor: Tensor, rank: int) -> None:
    side = 0 if ".lora_A." in name else 1 if ".lora_B." in name else None
    if side is not None and not (tensor.dim() == 2 and tensor.is_floating_point() and tensor.shape[side] == rank):
        if name.startswith("optimizer/") and tensor.dim() == 0:  # a count of steps
            return
        shape = " × ".join(map(str, tensor.shape)) or "a single number"
        raise CheckpointError(f"{name} is {shape}, which is not of the run's lora.rank = {rank}")


def _require_moment(name: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> None:
    """What Adam keeps of the weight actor/X stands under optimizer/actor/X/step, …/exp_avg and …/exp_avg_sq."""
    weight, _, kind = name.removeprefix("optimizer/").rpartition("/")
    if kind == "step":
        try:
            whole_number(tensor.item() if tensor.dim() == 0 else None)
        except ValueError:
            raise CheckpointError(f"{name} is no count of steps") from None
    elif weight in tensors and tensor.shape != tensors[weight].shape:
        raise CheckpointError(f"{name} is of another shape than {weight}")
    elif kind == "exp_avg_sq" and tensor.numel() and tensor.min() < 0:
        raise CheckpointError(f"{name} is negative, and is a mean of squares")
