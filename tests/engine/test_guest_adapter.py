"""A frozen adapter that visits the base of a run: what it says, and that it leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import stir, tiny_config
from torch import Tensor, nn

from rlhf_engine.config import fields
from rlhf_engine.errors import ModelError
from rlhf_engine.models.guest_adapter import GuestAdapter
from rlhf_engine.models.policy import Policy


def guest_of(policy: Policy, adapter: str, scaling: float) -> GuestAdapter:
    tensors = {name.replace(f".{adapter}.", "."): weight.detach().clone()
               for name, weight in policy.adapters[adapter].items() if ".lora_" in name}
    head = nn.Linear(32, 1, bias=False)
    return GuestAdapter(tensors, head.weight.detach(), scaling)


def hidden(policy: Policy) -> Tensor:
    ids, mask = policy.encode(["There was a fox", "Once"])
    with torch.no_grad():
        return policy.forward(ids, mask)


@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
def test_it_says_what_the_adapter_said_on_a_base_with_other_adapters(
    model_folders: dict[str, Path], architecture: str
) -> None:
    config = tiny_config(model_folders[architecture])
    trained, host = Policy.from_config(config), Policy.from_config(fields.replace(config, {"lora.rank": 2}))
    stir(trained, 1)
    stir(host, 2)
    guest = guest_of(trained, "actor", config.lora.alpha / config.lora.rank)
    guest.require_fit(host)
    wanted = hidden(trained)
    before = {role: _as(host, role) for role in ("actor", "reference")}
    with guest.on(host):
        torch.testing.assert_close(hidden(host), wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(RuntimeError, match="planted"), guest.on(host):
        raise RuntimeError("planted")
    for role, expected in before.items():
        assert torch.equal(_as(host, role), expected), f"the {role} is the same, bit for bit"
    assert all(not module._forward_hooks for module in host.base.modules())


def _as(policy: Policy, role: str) -> Tensor:
    with policy.as_role(role):
        return hidden(policy)


def test_what_fits_no_base_is_refused(model_folders: dict[str, Path]) -> None:
    llama, neo = (Policy.from_config(tiny_config(model_folders[name])) for name in ("llama", "gpt_neo"))
    with pytest.raises(ModelError, match="fit"):
        guest_of(llama, "actor", 1.0).require_fit(neo)
    with pytest.raises(ModelError, match="adapter"):
        GuestAdapter({}, torch.zeros(1, 32), 1.0)
