"""How many responses go through a model at once: as many as its passes leave room for."""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf_engine.models.policy import Policy

# On a CPU what autograd keeps of a pass soon lies outside all caches, and more rows make products no faster.
_KEPT_BYTES = 64 * 1024 * 1024
_EFFICIENT_TOKENS = 256


def choose_micro_batch_size(policy: Policy, rows: int, width: int) -> int:
    """Of `rows` responses of `width` tokens, prompts included: all on a GPU, and on a CPU as many as keep 64 MB for the
    backward pass, but at least 256 tokens."""
    if policy.device.type != "cpu":
        return rows
    width = min(width, policy.max_positions or width)
    fits = max(_KEPT_BYTES // bytes_kept(policy, width), _EFFICIENT_TOKENS // width, 1)
    return min(rows, fits)


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
