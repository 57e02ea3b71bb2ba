"""How many responses go through a model at once: as many as its passes leave room for."""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf_engine.models.memory import free_bytes
from rlhf_engine.models.policy import Policy

# On a CPU what autograd keeps of a pass soon lies outside all caches, and more rows make products no faster.
_KEPT_BYTES = 64 * 1024 * 1024
_EFFICIENT_TOKENS = 256
_GPU_SHARE = 0.5  # of its free memory: gradients, logits and the passes of another adapter need room as well


def choose_micro_batch_size(policy: Policy, rows: int, width: int, free: int | None = None) -> int:
    """Of `rows` responses of `width` tokens, prompts included, as many as keep 64 MB for the backward pass on a CPU,
    and half of the memory that is free on a GPU, but at least 256 tokens.

    free: bytes of a GPU's memory; asked of the device if left out. All rows where no device tells it.
    """
    free = free_bytes(policy.device) if free is None else free
    if policy.device.type != "cpu" and free is None:
        return rows
    width = min(width, policy.max_positions or width)
    least, each = max(_EFFICIENT_TOKENS // width, 1), bytes_kept(policy, width)
    if free is None:
        return min(rows, max(_KEPT_BYTES // each, least))
    fits = int(_GPU_SHARE * free) // each
    # a power of two: a run that is resumed beside others has a little less memory, and must not round otherwise
    return min(rows, max(1 << fits.bit_length() >> 1, least))


def bytes_kept(policy: Policy, width: int) -> int:
    """Bytes that autograd keeps of a pass over one response of `width` tokens, prompt included."""
    storages: dict[int, torch.UntypedStorage] = {}  # kept, so that no two have the same address
    frozen = {p.untyped_storage().data_ptr() for p in policy.base.parameters()}

    def keep(tensor: Tensor) -> None:
        # nothing of the tensor goes into the graph: one that a node saves of its own output would hold that node, and
        # with it the model, for ever
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            storages[storage.data_ptr()] = storage

    ids = torch.zeros((1, width), dtype=torch.long, device=policy.device)
    with policy.as_role(policy.default_role), torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
        policy.forward(ids, torch.ones_like(ids, dtype=torch.bool))
    return max(1, sum(storage.nbytes() for storage in storages.values()))
