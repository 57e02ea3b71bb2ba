"""The loss of a reward model and its calibration, against hand computations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.maths.reward_modelling import accuracy_interval, calibration, pair_losses, reward_model_loss

NO_TIES = torch.tensor([False, False])


def nls(value: float) -> float:
    return math.log1p(math.exp(-value))


def test_a_pair_costs_the_log_odds_of_its_gap() -> None:
    found = pair_losses(torch.tensor([0.0, 2.0]), NO_TIES)
    assert found.tolist() == pytest.approx([math.log(2), nls(2.0)], abs=1e-6)


def test_a_tie_counts_by_half_weight_each_way_and_has_no_margin() -> None:
    found = pair_losses(torch.tensor([1.5, 0.0]), torch.tensor([True, True]), 0.7, label_smoothing=0.1)
    assert found.tolist() == pytest.approx([0.5 * nls(1.5) + 0.5 * nls(-1.5), math.log(2)], abs=1e-6)


def test_a_margin_is_wanted_and_smoothing_turns_a_share_round() -> None:
    found = pair_losses(torch.tensor([1.0, 1.0]), NO_TIES, torch.tensor([0.0, 0.4]), label_smoothing=0.2)
    assert found.tolist() == pytest.approx([0.8 * nls(1.0) + 0.2 * nls(-1.0), 0.8 * nls(0.6) + 0.2 * nls(-1.4)],
                                           abs=1e-6)
    with pytest.raises(ValueError, match="label_smoothing"):
        pair_losses(torch.zeros(2), NO_TIES, label_smoothing=0.5)


def test_what_is_told_of_some_pairs() -> None:
    chosen, rejected = torch.tensor([2.0, 1.0, 0.0, 5.0]), torch.tensor([1.0, 1.0, 3.0, 1.0])
    tie = torch.tensor([False, False, False, True])
    found = reward_model_loss(chosen, rejected, tie, center_coefficient=0.1, normalizer=4, decided=3)
    losses = [nls(1.0) + 0.9, nls(0.0) + 0.4, nls(-3.0) + 0.9, 0.5 * (nls(4.0) + nls(-4.0)) + 3.6]
    assert found.loss.item() == pytest.approx(sum(losses) / 4, abs=1e-5)
    assert found.accuracy.item() == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.margin.item() == pytest.approx((1 + 0 - 3) / 3)
    assert found.mean_reward.item() == pytest.approx((2 + 1 + 0 + 5 + 1 + 1 + 3 + 1) / 8)


@given(st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8), st.booleans()), min_size=2, max_size=8),
       st.integers(1, 7))
def test_micro_batches_add_up(pairs: list[tuple[float, float, bool]], cut: int) -> None:
    chosen, rejected = (torch.tensor([pair[side] for pair in pairs], dtype=torch.float64) for side in (0, 1))
    tie = torch.tensor([pair[2] for pair in pairs])
    settings = {"normalizer": len(pairs), "decided": float((~tie).sum()), "center_coefficient": 0.01}
    whole = reward_model_loss(chosen, rejected, tie, 0.3, **settings)
    parts = [reward_model_loss(chosen[rows], rejected[rows], tie[rows], 0.3, **settings)
             for rows in torch.arange(len(pairs)).split(cut)]
    for field in whole._fields:
        assert sum(float(getattr(part, field)) for part in parts) == pytest.approx(float(getattr(whole, field)))


def test_calibration_by_hand() -> None:
    sure = math.log(0.95 / 0.05)  # 95 %, three times, of which one is wrong; and a tie at 55 %
    slight = math.log(0.55 / 0.45)
    error, bins = calibration([sure, sure, -sure, slight], [False, False, False, True])
    assert [(each.low, each.pairs) for each in bins] == [(0.5, 1), (0.9, 3)]
    assert [each.predicted for each in bins] == pytest.approx([0.55, 0.95])
    assert [each.observed for each in bins] == pytest.approx([0.5, 2 / 3])
    assert error == pytest.approx(0.25 * 0.05 + 0.75 * (0.95 - 2 / 3))


def test_the_accuracy_has_an_interval_over_pairs() -> None:
    found = accuracy_interval([1.0] * 30 + [-1.0] * 10)
    assert found.value == pytest.approx(0.75)
    assert 0.6 < found.low < 0.63
    assert 0.87 < found.high < 0.9
