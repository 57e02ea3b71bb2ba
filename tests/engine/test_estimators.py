"""KL, shaped rewards, advantages and whitening against hand-made tensors and brute force."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlhf_engine.maths.estimators import (
    explained_variance,
    first_token_values,
    gae,
    importance_weights,
    kl_k1,
    kl_k3,
    last_token_values,
    masked_mean,
    masked_var,
    response_rewards,
    shape_rewards,
    whiten,
)
from rlhf_engine.maths.kl_control import adapt_kl_coef, kl_horizon

NAN = math.nan


def lengths_mask(lengths: list[int], time: int) -> Tensor:
    return torch.arange(time).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)


@st.composite
def ragged(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """rewards, values, mask of a small right-padded batch, with NaN in the padding."""
    time = draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(0, time), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    mask = lengths_mask(lengths, time)
    rewards, values = torch.randn(2, *mask.shape, generator=generator, dtype=torch.float64)
    return rewards.masked_fill(~mask, NAN), values.masked_fill(~mask, NAN), mask


# KL


def test_kl_estimators_average_to_the_analytic_kl() -> None:
    p = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64)
    q = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64)
    analytic = (p * (p / q).log()).sum()
    assert analytic > 0.5
    assert torch.allclose((p * kl_k1(p.log(), q.log())).sum(), analytic)
    assert torch.allclose((p * kl_k3(p.log(), q.log())).sum(), analytic)


def test_kl_of_equal_log_probs_is_exactly_zero() -> None:
    log_probs = torch.randn(3, 5)
    assert torch.equal(kl_k1(log_probs, log_probs), torch.zeros(3, 5))
    assert torch.equal(kl_k3(log_probs, log_probs), torch.zeros(3, 5))


def test_kl_by_hand() -> None:
    log_probs, reference = torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.0])
    assert torch.allclose(kl_k1(log_probs, reference), torch.tensor([1.0, -1.0]))
    assert torch.allclose(kl_k3(log_probs, reference), torch.tensor([math.exp(-1), math.exp(1) - 2]))


@pytest.mark.parametrize("difference", [100.0, -100.0, math.inf])
def test_kl_of_a_huge_difference_is_clamped(difference: float) -> None:
    log_probs, reference = torch.tensor([difference]), torch.zeros(1)
    assert kl_k1(log_probs, reference).item() == math.copysign(20.0, difference)
    assert kl_k3(log_probs, reference).isfinite().all()


@settings(deadline=None)
@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=20))
def test_k3_is_never_negative(differences: list[float]) -> None:
    assert (kl_k3(torch.tensor(differences), torch.zeros(len(differences))) >= 0).all()
    tiny = torch.tensor(differences) * 1e-6
    assert (kl_k3(tiny, torch.zeros_like(tiny)) >= 0).all()


# Rewards per token


def test_score_lands_once_on_the_last_response_token() -> None:
    mask = lengths_mask([3, 1, 4], 4)
    rewards = shape_rewards(torch.tensor([5.0, -2.0, 7.0]), torch.full((3, 4), NAN).masked_fill(mask, 0.3), mask, 0.0)
    expected = torch.tensor([[0.0, 0.0, 5.0, 0.0], [-2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 7.0]])
    assert torch.equal(rewards, expected)


def test_shaped_rewards_by_hand() -> None:
    token_kl = torch.tensor([[1.0, -2.0, 9.0]])
    rewards = shape_rewards(torch.tensor([4.0]), token_kl, lengths_mask([2], 3), 0.5)
    assert torch.equal(rewards, torch.tensor([[-0.5, 5.0, 0.0]]))


def test_a_row_without_response_tokens_gets_nothing() -> None:
    mask = lengths_mask([0, 2], 2)
    rewards = shape_rewards(torch.tensor([3.0, 3.0]), torch.ones(2, 2), mask, 1.0)
    assert torch.equal(rewards, torch.tensor([[0.0, 0.0], [-1.0, 2.0]]))


@settings(deadline=None)
@given(ragged(), st.floats(0, 2))
def test_shaped_rewards_sum_to_score_minus_kl(batch: tuple[Tensor, Tensor, Tensor], kl_coef: float) -> None:
    token_kl, _, mask = batch
    scores = torch.arange(1.0, len(mask) + 1, dtype=torch.float64)
    total = shape_rewards(scores, token_kl, mask, kl_coef).sum(dim=1)
    expected = torch.where(mask.any(1), scores - kl_coef * token_kl.nan_to_num(0.0).sum(dim=1), 0.0)
    assert torch.allclose(total, expected)


# Advantages


def test_gae_by_hand() -> None:
    rewards, values = torch.tensor([[1.0, 2.0, 99.0]]), torch.tensor([[0.5, 1.0, 99.0]])
    advantages, returns = gae(rewards, values, lengths_mask([2], 3), discount=0.9, trace_decay=0.5)
    # delta_1 = 2 - 1 = 1; delta_0 = 1 + 0.9 * 1 - 0.5 = 1.4; A_0 = 1.4 + 0.45 * 1
    assert torch.allclose(advantages, torch.tensor([[1.85, 1.0, 0.0]]))
    assert torch.allclose(returns, torch.tensor([[2.35, 2.0, 0.0]]))


def brute_force_gae(rewards: Tensor, values: Tensor, length: int, discount: float, trace_decay: float) -> list[float]:
    """The definition, for one row: A_t = sum over l of (discount * trace_decay)^l * delta_(t+l)."""
    after = [*values[1:length].tolist(), 0.0]
    delta = [rewards[t].item() + discount * after[t] - values[t].item() for t in range(length)]
    return [sum((discount * trace_decay) ** (k - t) * delta[k] for k in range(t, length)) for t in range(length)]


@settings(deadline=None)
@given(ragged(), st.floats(0, 1), st.floats(0, 1))
def test_gae_is_its_definition(batch: tuple[Tensor, Tensor, Tensor], discount: float, trace_decay: float) -> None:
    rewards, values, mask = batch
    advantages, returns = gae(rewards, values, mask, discount=discount, trace_decay=trace_decay)
    for row in range(len(mask)):
        length = int(mask[row].sum())
        expected = brute_force_gae(rewards[row], values[row], length, discount, trace_decay)
        assert advantages[row, :length].tolist() == pytest.approx(expected, abs=1e-9)
    assert torch.allclose(returns[mask], advantages[mask] + values[mask])
    assert not advantages[~mask].any()
    assert not returns[~mask].any()


@settings(deadline=None)
@given(ragged())
def test_without_discount_returns_are_rewards_to_go(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    rewards, values, mask = batch
    _, returns = gae(rewards, values, mask, discount=1.0, trace_decay=1.0)
    to_go = rewards.nan_to_num(0.0).flip(1).cumsum(1).flip(1)
    assert torch.allclose(returns, torch.where(mask, to_go, 0.0), atol=1e-9)


def test_gae_gives_a_prompt_in_front_no_advantage() -> None:
    mask = torch.tensor([[False, True, True]])
    advantages, returns = gae(torch.ones(1, 3), torch.zeros(1, 3), mask, discount=1.0, trace_decay=1.0)
    assert torch.equal(advantages, torch.tensor([[0.0, 2.0, 1.0]]))
    assert torch.equal(returns, advantages)


def test_last_token_values_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, NAN], [4.0, 5.0, 6.0], [NAN, 8.0, 9.0]])
    assert torch.equal(last_token_values(values, lengths_mask([2, 3, 0], 3)), torch.tensor([2.0, 6.0, 0.0]))


def test_only_the_last_value_gets_a_gradient() -> None:
    values = torch.ones(2, 3, requires_grad=True)
    last_token_values(values, lengths_mask([2, 0], 3)).sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))


def test_first_token_values_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, NAN], [4.0, 5.0, 6.0], [NAN, 8.0, 9.0]])
    assert torch.equal(first_token_values(values, lengths_mask([2, 3, 0], 3)), torch.tensor([1.0, 4.0, 0.0]))


def test_rewards_of_responses_by_hand() -> None:
    mask = lengths_mask([2, 3, 0], 3)
    token_kl = torch.tensor([[1.0, 3.0, NAN], [-1.0, 0.0, 2.0], [NAN, NAN, NAN]])
    rewards = response_rewards(torch.tensor([2.0, 1.0, 5.0]), token_kl, mask, kl_coef=0.1)
    assert torch.allclose(rewards, torch.tensor([1.6, 0.9, 0.0]))


# Masked statistics


def test_masked_mean_and_variance_by_hand() -> None:
    values, mask = torch.tensor([[1.0, 3.0, NAN], [8.0, NAN, NAN]]), lengths_mask([2, 1], 3)
    assert masked_mean(values, mask).item() == pytest.approx(4.0)
    assert masked_var(values, mask).item() == pytest.approx((9 + 1 + 16) / 3)


def test_statistics_of_nothing_are_zero() -> None:
    values, mask = torch.full((2, 2), NAN), torch.zeros(2, 2, dtype=torch.bool)
    assert masked_mean(values, mask).item() == 0.0
    assert masked_var(values, mask).item() == 0.0
    assert torch.equal(whiten(values, mask), torch.zeros(2, 2))
    assert explained_variance(values, values, mask).item() == 0.0


@settings(deadline=None)
@given(ragged())
def test_whitened_values_have_mean_zero_and_variance_one(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    values, _, mask = batch
    if mask.sum() < 3:
        return
    whitened = whiten(values, mask)
    assert whitened[mask].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert whitened[mask].var(correction=0).item() == pytest.approx(1.0, rel=1e-3)
    assert not whitened[~mask].any()


def test_whitening_without_shift_keeps_the_mean() -> None:
    values, mask = torch.tensor([[1.0, 3.0, NAN]]), lengths_mask([2], 3)
    assert torch.allclose(whiten(values, mask, shift_mean=True), torch.tensor([[-1.0, 1.0, 0.0]]))
    assert torch.allclose(whiten(values, mask, shift_mean=False), torch.tensor([[1.0, 3.0, 0.0]]))
    assert torch.allclose(whiten(values * 10, mask, shift_mean=False), torch.tensor([[19.0, 21.0, 0.0]]))


@settings(deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.integers(1, 7))
def test_whitening_equal_values_gives_exactly_zero(value: float, tokens: int) -> None:
    values, mask = torch.full((1, 8), value), lengths_mask([tokens], 8)
    assert torch.equal(whiten(values, mask), torch.zeros(1, 8))
    assert torch.equal(whiten(values, mask, shift_mean=False), torch.where(mask, value, 0.0))


def test_explained_variance_by_hand() -> None:
    returns, mask = torch.tensor([[0.0, 2.0, 4.0, NAN]]), lengths_mask([3], 4)
    assert explained_variance(returns, returns, mask).item() == pytest.approx(1.0)
    assert explained_variance(torch.full((1, 4), 7.0), returns, mask).item() == pytest.approx(0.0)
    assert explained_variance(returns / 2, returns, mask).item() == pytest.approx(0.75)
    assert explained_variance(-returns, returns, mask).item() == pytest.approx(-3.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=5))
def test_explained_variance_is_always_finite(pairs: list[tuple[float, float]]) -> None:
    values, returns = torch.tensor(pairs).T
    assert explained_variance(values, returns, torch.ones(len(pairs), dtype=torch.bool)).isfinite()


def test_explained_variance_of_constant_returns_is_zero() -> None:
    assert explained_variance(torch.tensor([1.0, 2.0]), torch.full((2,), 0.1), torch.ones(2, dtype=torch.bool)) == 0.0


# The KL coefficient


def test_kl_coefficient_by_hand() -> None:
    def adapted(observed_kl: float) -> float:
        return adapt_kl_coef(0.2, observed_kl, target=6.0, horizon=1000.0, responses=100)

    assert adapted(6.0) == 0.2
    assert adapted(6.6) == pytest.approx(0.2 * 1.01)  # error 0.1
    assert adapted(60.0) == pytest.approx(0.2 * 1.02)  # error clipped to 0.2
    assert adapted(-60.0) == pytest.approx(0.2 * 0.98)
    assert adapted(math.inf) == pytest.approx(0.2 * 1.02)


def test_kl_coefficient_survives_nonsense() -> None:
    assert adapt_kl_coef(0.2, NAN, target=6.0, horizon=1000.0, responses=100) == 0.2
    assert adapt_kl_coef(0.2, 0.0, target=6.0, horizon=1.0, responses=100) == 0.0


@pytest.mark.parametrize("scale", [1000.1, -3e5, 0.7])
def test_values_that_differ_by_rounding_only_are_whitened_to_nothing_and_explained_by_nothing(scale: float) -> None:
    """What (score - v) + v leaves of equal returns."""
    values = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    returns, mask = (scale - values) + values, torch.ones(4, 9, dtype=torch.bool)
    assert torch.equal(whiten(returns, mask), torch.zeros(4, 9))
    assert explained_variance(values, returns, mask) == 0
    small = scale + 1e-3 * abs(scale) * torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    assert whiten(small, mask).std() == pytest.approx(1, abs=0.05)
    assert explained_variance(small, small, mask) == 1


# importance weights


def test_importance_weights_by_hand() -> None:
    scored, sampled = torch.tensor([[0.5, 0.2, 0.9]]).log(), torch.tensor([[0.25, 0.4, 0.1]]).log()
    mask = torch.tensor([[True, True, True]])
    assert importance_weights(scored, sampled, mask, cap=3.0)[0].tolist() == pytest.approx([2.0, 0.5, 3.0])
    assert torch.equal(importance_weights(scored, scored, mask, cap=2.0), torch.ones(1, 3))
    padding = importance_weights(torch.tensor([NAN]), torch.tensor([0.0]), torch.tensor([False]), cap=2.0)
    assert padding.tolist() == [1.0]


def test_importance_weights_turn_means_over_what_was_sampled_into_those_over_what_is_scored() -> None:
    scored = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64)
    sampled = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64)
    worth = torch.tensor([3.0, -1.0, 2.0, 5.0], dtype=torch.float64)
    weights = importance_weights(scored.log(), sampled.log(), torch.ones(4, dtype=torch.bool), cap=100)
    assert float((sampled * weights * worth).sum()) == pytest.approx(float((scored * worth).sum()))


def test_the_coefficient_gets_where_it_should_within_a_run_of_any_length_with_the_horizon_of_none() -> None:
    for steps, responses in ((18, 64), (100, 64), (1000, 8), (20, 512)):
        horizon = kl_horizon(None, responses=responses, steps=steps)
        for observed, moved in ((100.0, 8.0), (0.0, 1 / 8)):
            coef = 1.0
            for _ in range(2 * steps // 3):
                coef = adapt_kl_coef(coef, observed, target=8.0, horizon=horizon, responses=responses)
            assert coef >= moved if observed else coef <= moved
    assert kl_horizon(None, responses=64, steps=3) == 64
    assert kl_horizon(2000.0, responses=64, steps=18) == 2000
