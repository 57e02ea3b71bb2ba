"""GRPO's loss against a loop over tokens written from the papers, gradients included."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_engine.maths.groups import group_policy_loss


def naive(new: Tensor, old: Tensor, reference: Tensor | None, advantages: Tensor, lengths: list[int], *,
          weights: Tensor, clip_low: float, clip_high: float, kl_coef: float, sequence_ratio: bool) -> Tensor:
    total = torch.zeros((), dtype=new.dtype)
    for i, length in enumerate(lengths):
        sequence = torch.exp((new[i, :length] - old[i, :length]).mean())
        for t in range(length):
            ratio = sequence if sequence_ratio else torch.exp(new[i, t] - old[i, t])
            clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
            loss = -torch.min(ratio * advantages[i], clipped * advantages[i])
            if reference is not None:
                away = reference[i, t] - new[i, t]
                loss = loss + kl_coef * (torch.exp(away) - away - 1)
            total = total + weights[i] * loss
    return total


@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_value_and_gradient_are_those_of_the_papers_loop(seed: int, sequence_ratio: bool, penalised: bool) -> None:
    make = torch.Generator().manual_seed(seed)
    rows, time = 4, 5
    lengths = torch.randint(1, time + 1, (rows,), generator=make).tolist()
    old, reference = (torch.randn(rows, time, generator=make).double() - 2 for _ in range(2))
    new = (old + 0.4 * torch.randn(rows, time, generator=make).double()).requires_grad_()
    advantages, weights = (torch.randn(rows, generator=make).double() for _ in range(2))
    weights = weights.abs()
    mask = torch.arange(time) < torch.tensor(lengths).unsqueeze(1)
    settings = {"weights": weights, "clip_low": 0.2, "clip_high": 0.3, "kl_coef": 0.7,
                "sequence_ratio": sequence_ratio}
    refer = reference if penalised else None
    told = group_policy_loss(new, old, refer, advantages, mask, token_count=sum(lengths), **settings)  # type: ignore[arg-type]
    expected = naive(new, old, refer, advantages, lengths, **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(told.loss, expected)
    ours, theirs = (torch.autograd.grad(loss, new)[0] for loss in (told.loss, expected))
    torch.testing.assert_close(ours, theirs)


def test_each_bound_stops_its_own_direction_and_is_counted() -> None:
    ratio = torch.tensor([[1.25, 0.75, 1.35, 0.75]])
    new = ratio.log().requires_grad_()
    told = group_policy_loss(new, torch.zeros(1, 4), None, torch.tensor([1.0]), torch.ones(1, 4, dtype=torch.bool),
                             weights=torch.ones(1), clip_low=0.2, clip_high=0.3, kl_coef=0.0, sequence_ratio=False,
                             token_count=4)
    told.loss.backward()
    assert new.grad is not None
    # only 1.35 is above 1 + 0.3; below 1 - 0.2 a positive advantage still pulls up
    assert new.grad[0].tolist() == pytest.approx([-1.25, -0.75, 0.0, -0.75])
    assert (told.clip_low.item(), told.clip_high.item()) == (0.0, 0.25)


def test_padding_reaches_nothing_and_micro_batches_add_up() -> None:
    lengths, time = [3, 1, 2], 4
    mask = torch.arange(time) < torch.tensor(lengths).unsqueeze(1)
    make = torch.Generator().manual_seed(1)
    old, new, reference = (torch.where(mask, torch.randn(3, time, generator=make), math.nan) for _ in range(3))
    advantages, weights = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.2, 0.3, 0.4])

    def loss(rows: list[int], cut: int) -> list[Tensor]:
        return list(group_policy_loss(
            new[rows, :cut], old[rows, :cut], reference[rows, :cut], advantages[rows], mask[rows, :cut],
            weights=weights[rows], clip_low=0.2, clip_high=0.2, kl_coef=0.1, sequence_ratio=False, token_count=6))

    whole, parts = loss([0, 1, 2], 4), [loss([0], 3), loss([1, 2], 2)]
    for all_rows, *split in zip(whole, *parts, strict=True):
        assert all_rows.isfinite()
        torch.testing.assert_close(all_rows, sum(split, torch.zeros(())))


@pytest.mark.parametrize("difference", [1e5, -1e5])
def test_a_huge_difference_stays_finite(difference: float) -> None:
    new = torch.full((1, 2), difference).requires_grad_()
    told = group_policy_loss(new, torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([-1.0]),
                             torch.ones(1, 2, dtype=torch.bool), weights=torch.ones(1), clip_low=0.2, clip_high=0.2,
                             kl_coef=0.1, sequence_ratio=False, token_count=2)
    told.loss.backward()
    assert new.grad is not None
    assert told.loss.isfinite()
    assert new.grad.isfinite().all()
