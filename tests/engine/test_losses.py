"""The clipped losses against hand-made tensors; micro-batches add up; padding is inert."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlhf_engine.maths.losses import clipped_policy_loss, clipped_value_loss

NAN = math.nan


def lengths_mask(lengths: list[int], time: int) -> Tensor:
    return torch.arange(time).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)


def test_policy_loss_by_hand() -> None:
    ratio = torch.tensor([[1.5, 0.5, 1.1], [1.5, 0.5, 7.0]], dtype=torch.float64)
    advantages = torch.tensor([[2.0, 2.0, 1.0], [-1.0, -1.0, 7.0]], dtype=torch.float64)
    result = clipped_policy_loss(
        ratio.log(), torch.zeros(2, 3).double(), advantages, lengths_mask([3, 2], 3), clip_range=0.2, normalizer=5
    )
    # -min(A r, A clip(r)): 2*1.2 (clipped), 2*0.5, 1.1; -1*1.5, -1*0.8 (clipped)
    assert result.loss.item() == pytest.approx(-(2.4 + 1.0 + 1.1 - 1.5 - 0.8) / 5)
    assert result.clip_fraction.item() == pytest.approx(2 / 5)
    assert result.ratio_mean.item() == pytest.approx((1.5 + 0.5 + 1.1 + 1.5 + 0.5) / 5)
    k3 = [r - 1 - math.log(r) for r in (1.5, 0.5, 1.1, 1.5, 0.5)]
    assert result.approx_kl.item() == pytest.approx(sum(k3) / 5)
    # of three whose ratios leave the range, one is held back: the others' clipped term is the better one
    ratio = torch.tensor([[1.5, 0.5, 1.5]], dtype=torch.float64)
    advantages = torch.tensor([[1.0, 1.0, -1.0]], dtype=torch.float64)
    result = clipped_policy_loss(
        ratio.log(), torch.zeros(1, 3).double(), advantages, lengths_mask([3], 3), clip_range=0.2, normalizer=3
    )
    assert result.clip_fraction.item() == pytest.approx(1 / 3)


def test_an_unchanged_policy_has_ratio_one_and_the_plain_policy_gradient() -> None:
    old = torch.randn(2, 4)
    new = old.clone().requires_grad_()
    advantages = torch.randn(2, 4)
    result = clipped_policy_loss(new, old, advantages, torch.ones(2, 4, dtype=torch.bool), clip_range=0.2, normalizer=8)
    result.loss.backward()
    assert result.ratio_mean.item() == 1.0
    assert result.clip_fraction.item() == 0.0
    assert result.approx_kl.item() == 0.0
    assert new.grad is not None
    assert torch.allclose(new.grad, -advantages / 8)


def test_a_clipped_token_has_no_gradient() -> None:
    new = torch.tensor([math.log(1.5), math.log(1.5)], requires_grad=True)
    mask = torch.ones(2, dtype=torch.bool)
    clipped_policy_loss(
        new, torch.zeros(2), torch.tensor([1.0, -1.0]), mask, clip_range=0.2, normalizer=2
    ).loss.backward()
    assert new.grad is not None
    assert new.grad[0] == 0.0
    assert new.grad[1].item() == pytest.approx(0.75)


@pytest.mark.parametrize("difference", [100.0, -100.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_difference_of_100_nats_stays_finite(difference: float, advantage: float) -> None:
    new = torch.tensor([difference], requires_grad=True)
    result = clipped_policy_loss(
        new, torch.zeros(1), torch.tensor([advantage]), torch.ones(1, dtype=torch.bool), clip_range=0.2, normalizer=1
    )
    result.loss.backward()
    assert all(value.isfinite() for value in result)
    assert new.grad is not None
    assert new.grad.isfinite().all()


@pytest.mark.parametrize("garbage", [NAN, math.inf, -math.inf, 1e30])
def test_padding_changes_no_policy_loss_and_no_gradient(garbage: float) -> None:
    mask = lengths_mask([2], 3)
    results, gradients = [], []
    for padding in (0.0, garbage):
        row = torch.tensor([[-1.0, -2.0, padding]], requires_grad=True)
        old = torch.tensor([[-1.1, -1.5, padding]])
        result = clipped_policy_loss(row, old, torch.tensor([[1.0, -1.0, padding]]), mask, clip_range=0.2, normalizer=2)
        result.loss.backward()
        assert row.grad is not None
        results.append(torch.stack([value.detach() for value in result]))
        gradients.append(row.grad)
    assert torch.equal(*results)
    assert torch.equal(*gradients)
    assert gradients[0][0, 2] == 0.0


@given(st.integers(0, 2**31), st.sampled_from([1e-3, 1.0, 100.0]), st.sampled_from([0.2, 0.3, 10.0, 1000.0]))
@settings(max_examples=100, deadline=None)
def test_values_within_their_range_are_never_counted_as_clipped(seed: int, scale: float, clip_range: float) -> None:
    """Rounding is no clipping: old + (v - old) is not v in float32."""
    old, returns, values = scale * torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(seed))
    mask = (values - old).abs() < 0.999 * clip_range
    values.requires_grad_()
    found = clipped_value_loss(values, old, returns, mask, clip_range=clip_range, normalizer=36)
    plain = clipped_value_loss(values, old, returns, mask, clip_range=None, normalizer=36)
    assert found.clip_fraction == 0
    assert torch.equal(found.loss, plain.loss)
    moved = torch.autograd.grad(found.loss, values)[0], torch.autograd.grad(plain.loss, values)[0]
    assert torch.equal(*moved)


@given(st.integers(0, 2**31), st.sampled_from([0.05, 0.2, 0.5]))
@settings(max_examples=50, deadline=None)
def test_ratios_within_their_range_are_never_counted_as_clipped(seed: int, clip_range: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    old, advantages = torch.randn(2, 4, 9, generator=generator)
    low, high = math.log(1 - 0.99 * clip_range), math.log(1 + 0.99 * clip_range)
    new, mask = old + low + (high - low) * torch.rand(4, 9, generator=generator), torch.ones(4, 9, dtype=torch.bool)
    assert clipped_policy_loss(new, old, advantages, mask, clip_range=clip_range, normalizer=36).clip_fraction == 0


def test_value_loss_by_hand() -> None:
    values = torch.tensor([[1.0, 1.0, 0.1, 9.0]])
    old = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    returns = torch.tensor([[2.0, -1.0, 1.0, 0.0]])
    mask = lengths_mask([3], 4)
    # clipped to 0.2: errors (1.8)^2 > 1^2 (clipped); plain 2^2 > (1.2)^2; 0.9^2 either way
    result = clipped_value_loss(values, old, returns, mask, clip_range=0.2, normalizer=3)
    assert result.loss.item() == pytest.approx(0.5 * (3.24 + 4.0 + 0.81) / 3)
    assert result.clip_fraction.item() == pytest.approx(1 / 3)
    plain = clipped_value_loss(values, old, returns, mask, clip_range=None, normalizer=3)
    assert plain.loss.item() == pytest.approx(0.5 * (1.0 + 4.0 + 0.81) / 3)
    assert plain.clip_fraction.item() == 0.0


def test_statistics_carry_no_gradient() -> None:
    new = torch.zeros(2, requires_grad=True)
    mask = torch.ones(2, dtype=torch.bool)
    policy = clipped_policy_loss(new, torch.zeros(2), torch.ones(2), mask, clip_range=0.2, normalizer=2)
    assert [value.requires_grad for value in policy] == [True, False, False, False]
    for clip_range in (0.2, None):
        value = clipped_value_loss(new, torch.zeros(2), torch.ones(2), mask, clip_range=clip_range, normalizer=2)
        assert [v.requires_grad for v in value] == [True, False]


@pytest.mark.parametrize("clip_range", [0.2, None])
def test_padding_changes_no_value_loss_and_no_gradient(clip_range: float | None) -> None:
    values = torch.tensor([[1.0, NAN]], requires_grad=True)
    padding = torch.tensor([[0.5, NAN]])
    loss = clipped_value_loss(values, padding, padding, lengths_mask([1], 2), clip_range=clip_range, normalizer=1).loss
    loss.backward()
    assert loss.item() == pytest.approx(0.125)
    assert values.grad is not None
    assert values.grad.tolist() == [[0.5, 0.0]]


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=8, max_size=8).filter(any), st.integers(0, 2**31))
def test_micro_batches_add_up_to_the_minibatch(lengths: list[int], seed: int) -> None:
    """Ragged responses: one batch of 8 rows equals 8 batches of one, gradients included."""
    generator = torch.Generator().manual_seed(seed)
    new, old, advantages, values, returns = torch.randn(5, 8, 5, generator=generator, dtype=torch.float64)
    mask = lengths_mask(lengths, 5)
    tokens = int(mask.sum())
    outcomes = []
    for size in (8, 1):
        new, values = new.detach().requires_grad_(), values.detach().requires_grad_()
        total = torch.zeros(6, dtype=torch.float64)
        for rows in torch.arange(8).split(size):
            policy = clipped_policy_loss(
                new[rows], old[rows], advantages[rows], mask[rows], clip_range=0.2, normalizer=tokens
            )
            value = clipped_value_loss(
                values[rows], old[rows], returns[rows], mask[rows], clip_range=0.2, normalizer=tokens
            )
            (policy.loss + value.loss).backward()
            total += torch.stack([*policy, *value]).detach()
        assert new.grad is not None
        assert values.grad is not None
        outcomes.append((total, new.grad, values.grad))
    for whole, parts in zip(*outcomes, strict=True):
        assert torch.allclose(whole, parts)


def test_one_action_per_response_is_the_same_formula() -> None:
    """[batch] tensors of summed log-probs: the sequence-level variant."""
    new, old = torch.tensor([-3.0, -4.0]), torch.tensor([-3.1, -3.0])
    result = clipped_policy_loss(
        new, old, torch.tensor([1.0, 2.0]), torch.ones(2, dtype=torch.bool), clip_range=0.2, normalizer=2
    )
    assert result.loss.item() == pytest.approx(-(math.exp(0.1) + 2 * math.exp(-1)) / 2)


@pytest.mark.parametrize("normalizer", [0, -1, NAN])
def test_an_empty_minibatch_is_refused(normalizer: float) -> None:
    empty, mask = torch.zeros(1), torch.zeros(1, dtype=torch.bool)
    with pytest.raises(ValueError, match="normalizer is"):
        clipped_policy_loss(empty, empty, empty, mask, clip_range=0.2, normalizer=normalizer)
    with pytest.raises(ValueError, match="normalizer is"):
        clipped_value_loss(empty, empty, empty, mask, clip_range=0.2, normalizer=normalizer)
