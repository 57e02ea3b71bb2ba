"""Muon: momentum whose every step is made orthogonal, for the matrices inside the layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch

A, B, C = 3.4445, -4.7750, 2.0315  # the quintic of the Newton-Schulz iteration


def orthogonal(stack: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Bring the singular values of a stack of matrices near one."""
    tall = stack.shape[-2] > stack.shape[-1]
    x = stack.mT if tall else stack
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = A * x + torch.baddbmm(gram, gram, gram, beta=B, alpha=C) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for matrices; those of one shape are stepped together."""

    def __init__(
        self, matrices: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.02
    ) -> None:
        super().__init__(list(matrices), {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every matrix."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                shapes[matrix.shape].append(matrix)
            for matrices in shapes.values():
                self._step_stack(matrices, group["lr"], group["momentum"], group["decay"])

    def _step_stack(self, matrices: list[torch.nn.Parameter], lr: float, momentum: float, decay: float) -> None:
        directions = []
        for matrix in matrices:
            assert matrix.grad is not None
            state = self.state[matrix]
            if "average" not in state:
                state["average"] = torch.zeros_like(matrix)
            state["average"].lerp_(matrix.grad, 1 - momentum)
            directions.append(matrix.grad.lerp(state["average"], momentum))
        rows, columns = matrices[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for matrix, direction in zip(matrices, orthogonal(torch.stack(directions)), strict=True):
            matrix.mul_(1 - lr * decay).add_(direction, alpha=-lr * scale)
