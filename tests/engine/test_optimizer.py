"""One set of adapter weights and its AdamW, step by step by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rlhf_engine.config.sections import OptimizerConfig
from rlhf_engine.learning.optimizer import AdapterOptimizer

SETTINGS = OptimizerConfig(adam_beta1=0.8, adam_beta2=0.95, adam_eps=1e-2, weight_decay=0.1)


def adamw_by_hand(start: list[float], gradients: list[list[float]], rates: list[float], most: float) -> list[float]:
    """Loshchilov & Hutter 2019, algorithm 2, with the gradient clipped to norm `most` first."""
    weights, mean, square = list(start), [0.0] * len(start), [0.0] * len(start)
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        norm = math.sqrt(sum(value**2 for value in gradient))
        scale = min(1.0, most / norm)
        for i, value in enumerate(gradient):
            mean[i] = 0.8 * mean[i] + 0.2 * value * scale
            square[i] = 0.95 * square[i] + 0.05 * (value * scale) ** 2
            update = (mean[i] / (1 - 0.8**t)) / (math.sqrt(square[i] / (1 - 0.95**t)) + 1e-2)
            weights[i] -= rate * (update + 0.1 * weights[i])
    return weights


@pytest.mark.parametrize("most", [100.0, 0.5])
def test_steps_are_those_of_adamw_with_the_settings_given_and_the_rate_of_each_step(most: float) -> None:
    start, rates = [0.3, -0.2, 0.05], [0.1, 0.02, 0.3]
    gradients = [[0.5, -0.1, 0.02], [-0.3, 0.4, 0.01], [1.5, 0.0, -2.0]]
    parameter = nn.Parameter(torch.tensor(start))
    optimizer = AdapterOptimizer("actor", {"w": parameter}, SETTINGS)
    for gradient, rate in zip(gradients, rates, strict=True):
        parameter.grad = torch.tensor(gradient)
        norm = optimizer.step(rate, most)
        assert norm == pytest.approx(math.sqrt(sum(value**2 for value in gradient)))  # as it was before clipping
    assert parameter.tolist() == pytest.approx(adamw_by_hand(start, gradients, rates, most), abs=1e-6)


def test_gradients_do_not_pile_up() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = AdapterOptimizer("actor", {"w": parameter}, SETTINGS)
    parameter.grad = torch.ones(2)
    optimizer.zero_grad()
    assert parameter.grad is None
