"""A recorded decoding step answers as transformers does, token after token, and makes way where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import stir, tiny_config
from torch import Tensor

from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.models.decoding import traced
from rlhf_engine.models.decoding.plain import Decoder, PlainDecoder
from rlhf_engine.models.decoding.traced import TracedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import sample, sample_inverse_cdf

PROMPTS = ["Once upon", "There was a", "x", "yz"]
STEPS = 12


@pytest.fixture(params=["gpt_neo", "llama", "gpt2"])
def policy(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> Policy:
    policy = Policy.from_config(tiny_config(model_folders[request.param]))
    if request.param == "gpt_neo":  # its window of 8 has a test of its own
        for block in policy.base.base_model.h:
            block.attn.attention.attention_type = "global"
            block.attn.attention.bias = block.attn.attention.bias.new_ones(block.attn.attention.bias.shape).tril()
    stir(policy)
    return policy


def hidden_states(decoder: Decoder, policy: Policy, prompts: list[str] = PROMPTS) -> Tensor:
    """[steps, batch, hidden] after the prompts and after each of some fixed tokens."""
    ids, mask = policy.encode(prompts)
    tokens = torch.randint(0, 200, (STEPS, len(prompts)), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = decoder.start(ids, mask, STEPS)
        return torch.stack([first, *(decoder.step(chosen) for chosen in tokens)])


def assert_same(policy: Policy, decoder: TracedDecoder, prompts: list[str] = PROMPTS) -> None:
    replayed, plain = hidden_states(decoder, policy, prompts), hidden_states(PlainDecoder(policy), policy, prompts)
    assert decoder.why_plain == ""
    torch.testing.assert_close(replayed, plain, atol=1e-5 * float(plain.abs().max()), rtol=1e-5)


def test_a_recorded_step_equals_a_forward_pass(policy: Policy) -> None:
    decoder = TracedDecoder(policy)
    assert_same(policy, decoder)
    assert_same(policy, decoder, ["a", "Quite another prompt", "b", "c"])  # the same recording, other columns
    assert len(decoder._steps) == 1
    assert_same(policy, decoder, ["only", "two"])
    assert len(decoder._steps) == 2


def test_only_some_recordings_are_kept_and_those_used_last(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "_MOST_KEPT", 3)
    monkeypatch.setattr(traced, "_KEPT", 2)
    decoder = TracedDecoder(policy)

    def batches() -> list[int]:
        return [batch for batch, _ in decoder._steps]

    for prompts in (["a"], ["a", "b"], ["a", "b", "c"], ["d"]):
        hidden_states(decoder, policy, prompts)
    assert batches() == [2, 3, 1]
    hidden_states(decoder, policy, PROMPTS)
    assert batches() == [3, 1, 4]
    monkeypatch.setattr(traced, "_KEPT_BYTES", 0)  # as where a cache is large
    assert_same(policy, decoder, ["d", "e", "f", "g", "h"])
    assert batches() == [4, 5]
    assert not any(node.meta for step in decoder._steps.values() for node in step.module.graph.nodes)


def test_every_rollout_decodes_with_the_adapters_as_they_are_by_then(policy: Policy) -> None:
    decoder = TracedDecoder(policy)
    before = hidden_states(decoder, policy)
    with policy.as_role("reference"):
        assert_same(policy, decoder)
    stir(policy, seed=1)
    assert_same(policy, decoder)
    assert not torch.allclose(before, hidden_states(decoder, policy))


def test_decoding_leaves_the_policy_exactly_as_it_was(policy: Policy) -> None:
    ids, mask = policy.encode(PROMPTS)
    roles = ("actor", "reference")
    with torch.no_grad():
        before = [policy.log_probs(role, ids, mask, 2, 1.0).log_probs for role in roles]
        hidden_states(TracedDecoder(policy), policy)
        after = [policy.log_probs(role, ids, mask, 2, 1.0).log_probs for role in roles]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)


def test_a_traced_rollout_samples_the_same_tokens(policy: Policy) -> None:
    def roll(decoder: Decoder | None) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        hot = SamplingConfig(max_new_tokens=20, temperature=6.0)
        return sample(policy, PROMPTS, hot, generator, decoder=decoder, choose=sample_inverse_cdf).response_ids

    assert torch.equal(roll(TracedDecoder(policy)), roll(None))


def test_half_precision_keeps_adapters_apart_and_answers_the_same_up_to_rounding(
    model_folders: dict[str, Path],
) -> None:
    policy = Policy.from_config(tiny_config(model_folders["llama"], model={"dtype": "bfloat16"}))
    stir(policy)
    decoder = TracedDecoder(policy)
    replayed, plain = hidden_states(decoder, policy).float(), hidden_states(PlainDecoder(policy), policy).float()
    assert decoder.why_plain == ""
    assert not decoder._merged
    assert (replayed - plain).abs().max() <= 2**-6 * plain.abs().max()


def test_a_model_whose_window_is_shorter_than_the_cache_is_decoded_plainly_and_not_recorded_first(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_engine.models.decoding.traced.make_fx", lambda step: pytest.fail("recorded in vain"))
    policy = Policy.from_config(tiny_config(model_folders["gpt_neo"]))  # local attention over 8 positions
    stir(policy)
    decoder = TracedDecoder(policy)
    traced = hidden_states(decoder, policy)
    assert "a cache of fixed length" in decoder.why_plain
    torch.testing.assert_close(traced, hidden_states(PlainDecoder(policy), policy))


def test_control_flow_on_data_is_decoded_plainly(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    original = policy.base.base_model.forward

    def looks_at_data(input_ids: Tensor, position_ids: Tensor, **options: object) -> object:
        if input_ids.sum() < 0:
            raise AssertionError
        return original(input_ids=input_ids, position_ids=position_ids, **options)

    monkeypatch.setattr(policy.base.base_model, "forward", looks_at_data)
    told: list[str] = []
    decoder = TracedDecoder(policy, told.append)
    traced = hidden_states(decoder, policy)
    hidden_states(decoder, policy)
    assert "Error" in decoder.why_plain
    (said,) = told
    assert decoder.why_plain in said
    torch.testing.assert_close(traced, hidden_states(PlainDecoder(policy), policy))


def test_out_of_memory_while_recording_is_told_and_tried_again_later(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    decoder, whole, full, tried = TracedDecoder(policy, told.append), traced.make_fx, [True], []

    def record(step: object) -> object:
        tried.append(step)
        if full[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(step)

    monkeypatch.setattr(traced, "make_fx", record)
    plain = hidden_states(PlainDecoder(policy), policy)
    for _ in range(4):
        torch.testing.assert_close(hidden_states(decoder, policy), plain)
    assert len(tried) == len(told) == 1
    assert "out of memory" in told[0]
    full[0] = False
    for _ in range(2):
        hidden_states(decoder, policy)
    assert len(tried) == 2
    assert decoder.why_plain == ""
    assert decoder._steps
    assert_same(policy, decoder)
    assert len(told) == 1


def test_memory_that_stays_full_is_not_asked_for_for_ever(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    decoder, tried = TracedDecoder(policy, told.append), []

    def full(step: object) -> object:
        tried.append(step)
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:  # as a capture that was cut short does
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(traced, "make_fx", full)
    ids, mask = policy.encode(PROMPTS)
    with torch.no_grad():
        for _ in range(150):
            decoder.start(ids, mask, STEPS)
    assert len(tried) == 4
    assert len(told) == 4
    assert len(set(told)) == 4
    assert "4 times" in decoder.why_plain


def test_a_context_without_room_for_a_recording_is_decoded_plainly(policy: Policy) -> None:
    told: list[str] = []
    decoder = TracedDecoder(policy, told.append)
    ids, mask = policy.encode(["x" * 52] * 4)
    with torch.no_grad():
        decoder.start(ids, mask, STEPS)  # 64 columns of at most 64: no prime number fits
        decoder.start(ids, mask, STEPS)
    assert decoder._step is None
    (said,) = told
    assert "context" in said
    assert_same(policy, decoder)  # but the next rollout is recorded


def test_drawing_by_inverse_follows_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    p = (torch.randn(300, generator=generator) * 2).softmax(0)
    p[[0, 5, 299]] = 0
    p[64:128] = 0  # a whole block
    p /= p.sum()
    draws = 200_000
    counts = torch.bincount(sample_inverse_cdf(p.expand(draws, -1), generator), minlength=300)
    assert counts[p == 0].sum() == 0
    expected = p[p > 0].double() * draws
    freedom = len(expected) - 1
    chi_squared = float(((counts[p > 0] - expected).square() / expected).sum())
    assert abs(chi_squared - freedom) < 4 * (2 * freedom) ** 0.5  # its mean and standard deviation


@pytest.mark.parametrize("certain", [0, 63, 64, 70, 129])
def test_drawing_by_inverse_never_misses_a_certain_id(certain: int) -> None:
    p = torch.zeros(1000, 130)
    p[:, certain] = 1.0
    assert (sample_inverse_cdf(p, torch.Generator().manual_seed(0)) == certain).all()


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("copied", [True, False])
def test_logits_of_a_step_are_the_models_own_in_either_order(
    policy: Policy, rows: int, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_engine.models.policy._HEAD_COPY_BYTES", 10**9 if copied else 0)
    hidden = torch.randn(rows, policy.base.config.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = (policy.base.get_output_embeddings()(hidden) / 0.7)[:, ~policy.banned]
        found = policy.next_logits(hidden, 0.7)
    torch.testing.assert_close(found[:, ~policy.banned], expected, atol=1e-5, rtol=1e-5)
    assert (found[:, policy.banned] == -torch.inf).all()
