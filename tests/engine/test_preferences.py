"""Losses of pairs against the papers' formulas written out, gradients included."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.maths.estimators import summed
from rlhf_engine.maths.preferences import PreferenceKind, pair_losses, pair_pushes, preference_loss

KINDS: tuple[PreferenceKind, ...] = ("sigmoid", "ipo", "hinge")


def written_out(gap: float, kind: str, beta: float, smoothing: float) -> tuple[float, float]:
    """The loss of a pair and its derivative by the gap."""
    z = beta * gap
    if kind == "sigmoid":
        right, wrong = 1 / (1 + math.exp(-z)), 1 / (1 + math.exp(z))
        return (-(1 - smoothing) * math.log(right) - smoothing * math.log(wrong),
                -beta * ((1 - smoothing) * wrong - smoothing * right))
    if kind == "ipo":
        return (gap - 0.5 / beta) ** 2, 2 * (gap - 0.5 / beta)
    return max(0.0, 1 - z), -beta if z < 1 else 0.0


@given(st.sampled_from(KINDS), st.lists(st.floats(-30, 30), min_size=1, max_size=6), st.floats(0.01, 0.9),
       st.floats(0, 0.49))
def test_each_pair_costs_what_its_paper_says(
    kind: PreferenceKind, gaps: list[float], beta: float, smoothing: float
) -> None:
    smoothing = smoothing if kind == "sigmoid" else 0.0
    gap = torch.tensor(gaps, dtype=torch.float64, requires_grad=True)
    losses = pair_losses(gap, kind=kind, beta=beta, label_smoothing=smoothing)
    (gradient,) = torch.autograd.grad(losses.sum(), gap)
    expected = [written_out(each, kind, beta, smoothing) for each in gaps]
    torch.testing.assert_close(losses.tolist(), [loss for loss, _ in expected], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(gradient.tolist(), [slope for _, slope in expected], rtol=1e-6, atol=1e-9)
    pushes = pair_pushes(gap.detach(), kind=kind, beta=beta, label_smoothing=smoothing)
    assert (-pushes).tolist() == gradient.tolist()


@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.booleans())
def test_ragged_responses_in_any_split_are_a_loop_over_pairs(seed: int, kind: PreferenceKind, mean: bool) -> None:
    make, pairs, time, beta = torch.Generator().manual_seed(seed), 5, 7, 0.3
    lengths = torch.randint(1, time + 1, (2, pairs), generator=make)
    mask = torch.arange(time) < lengths.unsqueeze(2)
    actor, reference = (torch.randn(2, pairs, time, generator=make).double() - 2 for _ in range(2))
    actor = torch.where(mask, actor, torch.nan).requires_grad_()  # what padding holds must not matter
    total = torch.zeros((), dtype=torch.float64)
    for i in range(pairs):
        ratios = []
        for side in (0, 1):
            n = int(lengths[side, i])
            ratio = (actor[side, i, :n] - reference[side, i, :n]).sum()
            ratios.append(ratio / n if mean else ratio)
        total = total + pair_losses((ratios[0] - ratios[1])[None], kind=kind, beta=beta)[0] / pairs
    told = []
    for rows in torch.arange(pairs).split(2):
        sides = [summed(values[side][rows], mask[side][rows]) for values in (actor, reference) for side in (0, 1)]
        tokens = (lengths[0, rows], lengths[1, rows]) if mean else None
        told.append(preference_loss(*sides, kind=kind, beta=beta, lengths=tokens, normalizer=pairs))
    loss = torch.stack([part.loss for part in told]).sum()
    torch.testing.assert_close(loss, total)
    ours, theirs = (torch.autograd.grad(each, actor, retain_graph=True)[0] for each in (loss, total))
    torch.testing.assert_close(ours[mask], theirs[mask])
    assert (ours[~mask] == 0).all()
    whole = [actor[0, i, :n].sum().item() for i, n in enumerate(lengths[0].tolist())]
    assert float(sum(part.chosen_log_prob for part in told)) == pytest.approx(sum(whole) / pairs)
    moved = [whole[i] - reference[0, i, :n].sum().item() for i, n in enumerate(lengths[0].tolist())]
    assert float(sum(part.chosen_log_ratio for part in told)) == pytest.approx(sum(moved) / pairs, abs=1e-12)
    margin, reward, other = (float(sum(getattr(part, name) for part in told))
                             for name in ("margin", "chosen_reward", "rejected_reward"))
    assert margin == pytest.approx(reward - other)


def test_at_the_start_the_loss_is_log_2_and_pulls_both_ways() -> None:
    chosen, rejected = (torch.tensor([-3.0, -7.5], requires_grad=True) for _ in range(2))
    told = preference_loss(chosen, rejected, chosen.detach(), rejected.detach(), kind="sigmoid", beta=0.1,
                           normalizer=2)
    assert told.loss.item() == pytest.approx(math.log(2), abs=1e-7)
    assert (told.margin, told.accuracy) == (0.0, 0.5)
    told.loss.backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.tolist() == pytest.approx([-0.025, -0.025])
    assert rejected.grad.tolist() == pytest.approx([0.025, 0.025])


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_of_equal_answers_has_no_gradient(kind: PreferenceKind) -> None:
    both = torch.tensor([-4.0, -1.0], requires_grad=True)
    preference_loss(both, both, torch.zeros(2), torch.zeros(2), kind=kind, beta=0.1, normalizer=2).loss.backward()
    assert both.grad is not None
    assert both.grad.tolist() == [0.0, 0.0]


def test_swapping_the_sides_turns_margins_and_accuracy_round() -> None:
    chosen, rejected = torch.tensor([-1.0, -5.0, -2.0]), torch.tensor([-2.0, -4.0, -2.5])
    zero = torch.zeros(3)
    one = preference_loss(chosen, rejected, zero, zero, kind="sigmoid", beta=0.5, normalizer=3)
    other = preference_loss(rejected, chosen, zero, zero, kind="sigmoid", beta=0.5, normalizer=3)
    assert one.accuracy.item() == pytest.approx(2 / 3)
    assert other.accuracy.item() == pytest.approx(1 / 3)
    assert one.margin.item() == pytest.approx(-other.margin.item())
    assert one.chosen_reward == other.rejected_reward
    assert one.chosen_log_prob == other.rejected_log_prob


@pytest.mark.parametrize(("kind", "beta", "smoothing", "normalizer"), [
    ("sigmoid", 0.0, 0.0, 1), ("sigmoid", 0.1, 0.5, 1), ("hinge", 0.1, 0.1, 1), ("ipo", 0.1, 0.1, 1),
    ("sigmoid", 0.1, 0.0, 0)])
def test_what_makes_no_sense_is_refused(kind: PreferenceKind, beta: float, smoothing: float, normalizer: float) -> None:
    one = torch.zeros(1)
    with pytest.raises(ValueError, match="is"):
        preference_loss(one, one, one, one, kind=kind, beta=beta, label_smoothing=smoothing, normalizer=normalizer)
