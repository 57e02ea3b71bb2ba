"""A policy holds what its method needs, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import says_what_transformers_says, stir, tiny_config

from rlhf_engine.config.methods.base import Needs
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.micro_batch import choose_micro_batch_size
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import sample

ACTOR_AND_CRITIC = Needs(("actor", "critic"), (("value", "critic"),))
REWARD_MODEL = Needs(("scorer",), (("score", "scorer"),), batch="pairs")


def policy_for(folder: Path, needs: Needs) -> Policy:
    return Policy.from_config(tiny_config(folder), needs)


def learning(policy: Policy) -> int:
    """Numbers in memory that learn, wherever in the model they are."""
    parameters = [*policy.base.parameters(), *(p for head in policy.heads.values() for p in head.parameters())]
    return sum(p.numel() for p in parameters if p.requires_grad)


def test_an_actor_alone_has_no_critic_in_memory(model_folders: dict[str, Path]) -> None:
    both, alone = (policy_for(model_folders["llama"], needs) for needs in (ACTOR_AND_CRITIC, Needs()))
    assert (list(alone.adapters), list(alone.heads)) == (["actor"], [])
    assert learning(alone) == alone.trainable_count == sum(p.numel() for p in both.adapters["actor"].values())
    assert not [name for name, _ in alone.base.named_parameters() if "critic" in name]
    assert learning(both) == both.trainable_count
    stir(alone)
    says_what_transformers_says(alone)


def test_an_adapter_begins_alike_whatever_else_is_needed(model_folders: dict[str, Path]) -> None:
    both, alone = (policy_for(model_folders["llama"], needs) for needs in (ACTOR_AND_CRITIC, Needs()))
    assert alone.adapters["actor"].keys() == both.adapters["actor"].keys()
    assert all(torch.equal(p, both.adapters["actor"][name]) for name, p in alone.adapters["actor"].items())
    other = both.adapters["critic"]
    assert not any(torch.equal(p, other[name.replace(".actor.", ".critic.")])
                   for name, p in alone.adapters["actor"].items() if ".lora_A." in name)


def test_building_a_policy_draws_nothing_from_a_run_s_own_numbers(model_folders: dict[str, Path]) -> None:
    before = torch.get_rng_state()
    policy_for(model_folders["llama"], ACTOR_AND_CRITIC)
    assert torch.equal(torch.get_rng_state(), before)


def test_checkpoints_name_weights_by_adapter(model_folders: dict[str, Path]) -> None:
    names = policy_for(model_folders["llama"], ACTOR_AND_CRITIC).parameters
    assert {"critic/value_head.weight", "critic/value_head.bias"} < names.keys()
    assert "actor/base_model.model.model.layers.0.self_attn.q_proj.lora_A.actor.weight" in names
    assert list(names) == sorted(names, key=lambda name: name.partition("/")[0])  # one adapter after the other


def test_a_head_without_an_actor_scores_texts_and_learns(model_folders: dict[str, Path]) -> None:
    policy = policy_for(model_folders["llama"], REWARD_MODEL)
    assert (list(policy.adapters), list(policy.heads)) == (["scorer"], ["score"])
    ids, mask = policy.encode(["Once upon a time", "x"])
    assert torch.count_nonzero(policy.head_values("score", ids, mask, 1, after=True)) == 0
    optimizer = torch.optim.SGD(policy.adapters["scorer"].values(), lr=0.1)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        chosen, rejected = policy.head_values("score", ids, mask, 1, after=True)[:, 0]
        loss = -torch.nn.functional.logsigmoid(chosen - rejected)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in policy.adapters["scorer"].values())
    assert torch.count_nonzero(policy.adapters["scorer"]["score_head.weight"])


def test_a_method_that_adapts_nothing_has_the_plain_base(model_folders: dict[str, Path]) -> None:
    policy = policy_for(model_folders["llama"], Needs(adapters=()))
    assert (policy.adapters, policy.heads, policy.trainable_count, learning(policy)) == ({}, {}, 0, 0)
    with_adapters = policy_for(model_folders["llama"], Needs())
    assert policy.parameter_count == with_adapters.parameter_count
    texts = []
    for answering in (policy, with_adapters):
        with answering.as_role("reference"):
            generator = torch.Generator().manual_seed(3)
            rollout = sample(answering, ["Once", "There was a"], SamplingConfig(max_new_tokens=8), generator,
                             decoder=PreparedDecoder(answering))
        texts.append(rollout.responses)
    assert texts[0] == texts[1]
    assert choose_micro_batch_size(policy, rows=4, width=16) == 4


def test_a_role_that_is_not_there_is_named(model_folders: dict[str, Path]) -> None:
    policy = policy_for(model_folders["llama"], Needs())
    with pytest.raises(KeyError, match="critic"), policy.as_role("critic"):
        pass
    ids, mask = policy.encode(["Once"])
    assert policy.log_probs("actor", ids, mask, 1, 1.0).log_probs.isfinite().all()


@pytest.mark.parametrize(("adapters", "heads"), [
    (("reference",), ()),
    (("actor", "actor"), ()),
    (("actor",), (("value", "critic"),)),
])
def test_needs_that_nothing_can_be_built_of_are_refused(
    adapters: tuple[str, ...], heads: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(ValueError, match="adapter"):
        Needs(adapters, heads)
