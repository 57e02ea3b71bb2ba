"""Our pass through an adapted linear module is peft's, gradients included; a model made lean answers as before."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_models import stir, tiny_config
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM

from rlhf_engine.models.fused_modules import fuse_modules
from rlhf_engine.models.policy import Policy


def pass_and_gradients(policy: Policy, role: str) -> list[Tensor]:
    """Hidden states, and the gradient of a sum over them by every parameter of the role's adapter."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 200, (3, 9), generator=generator)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, :4] = False
    parameters = policy.adapters[role]
    learning = [p for name, p in parameters.items() if "value_head" not in name]
    with policy.as_role(role):
        hidden = policy.forward(ids, mask)[mask]
        weights = torch.randn(hidden.shape, generator=generator).to(hidden.dtype)
        return [hidden.detach(), *torch.autograd.grad((hidden * weights).float().sum(), learning)]


def by_us_and_by_peft(folder: Path, role: str, dtype: str) -> list[list[Tensor]]:
    """`pass_and_gradients` of one policy, computed in either way."""
    policy = Policy.from_config(tiny_config(folder, model={"dtype": dtype}))
    stir(policy)
    assert len(policy.adapted) == len(policy._layers)
    ours = pass_and_gradients(policy, role)
    with policy.as_peft():
        return [ours, pass_and_gradients(policy, role)]


@pytest.mark.parametrize("role", ["actor", "critic"])
@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
def test_pass_and_gradients_are_those_of_peft(model_folders: dict[str, Path], role: str, architecture: str) -> None:
    for mine, theirs in zip(*by_us_and_by_peft(model_folders[architecture], role, "float32"), strict=True):
        assert mine.dtype == theirs.dtype
        assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("role", ["actor", "critic"])
@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
def test_in_bfloat16_they_are_about_as_near_to_float32_as_those_of_peft(
    model_folders: dict[str, Path], role: str, architecture: str
) -> None:
    exact, _ = by_us_and_by_peft(model_folders[architecture], role, "float32")
    rounded = by_us_and_by_peft(model_folders[architecture], role, "bfloat16")
    for right, mine, theirs in zip(exact, *rounded, strict=True):
        assert mine.dtype == theirs.dtype
        ours, pefts = ((found.float() - right).square().mean().sqrt() for found in (mine, theirs))
        assert ours <= 2.5 * pefts


@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
def test_a_merged_weight_is_base_plus_adapter(model_folders: dict[str, Path], architecture: str) -> None:
    policy = Policy.from_config(tiny_config(model_folders[architecture]))
    stir(policy)
    linear = policy.adapted[0]
    x = torch.randn(5, linear.weight.shape[1])
    into = torch.empty_like(linear.weight)
    for role in ("actor", "critic", "reference"):
        with policy.as_role(role), torch.no_grad():
            expected = linear(x)
            linear.merge(into)
            linear.stand_in = partial(functional.linear, weight=into, bias=linear.bias)
            torch.testing.assert_close(linear(x), expected, atol=1e-5, rtol=1e-5)
            linear.stand_in = None


def test_dropout_inside_the_adapters_is_pefts_own(model_folders: dict[str, Path]) -> None:
    policy = Policy.from_config(tiny_config(model_folders["llama"], lora={"dropout": 0.5}))
    stir(policy)
    quiet = pass_and_gradients(policy, "actor")[0]
    with policy.updating():
        noisy = [pass_and_gradients(policy, "actor")[0] for _ in range(2)]
    assert not torch.equal(noisy[0], noisy[1])
    torch.testing.assert_close(pass_and_gradients(policy, "actor")[0], quiet)


@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
@pytest.mark.parametrize("left_padding", [0, 5])
@pytest.mark.parametrize("fuse_attention", [False, True])
def test_a_lean_model_gives_the_models_own_logits(
    model_folders: dict[str, Path], architecture: str, left_padding: int, fuse_attention: bool
) -> None:
    """Time 20 is longer than gpt_neo's window of 8, time 6 is not."""
    plain, lean = (AutoModelForCausalLM.from_pretrained(model_folders[architecture]).eval() for _ in range(2))
    fuse_modules(lean, fuse_attention=fuse_attention)
    for time in (6, 20):
        ids = torch.randint(0, 200, (2, time), generator=torch.Generator().manual_seed(time))
        mask = torch.ones_like(ids)
        mask[0, :left_padding] = 0
        with torch.no_grad():
            expected = plain(input_ids=ids, attention_mask=mask).logits[mask.bool()]
            found = lean(input_ids=ids, attention_mask=mask).logits[mask.bool()]
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)
