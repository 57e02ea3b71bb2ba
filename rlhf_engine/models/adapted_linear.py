"""A linear module with low-rank adapters (Hu et al. 2021), computed in as few passes over memory as it takes.

peft holds the adapters, saves and names them; only the arithmetic of a pass is ours: y = x Wᵀ + b + s (x Aᵀ) Bᵀ, with
the last product added inside the matrix multiplication, and a backward pass that forms what adapters and input need
and nothing for the frozen W. On small models peft's way spends as long on copies and sums as on the products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

# on a CPU the library that multiplies in bfloat16 takes four times as long to begin a small product as that for float32
_FEW_ROWS = 64


class AdaptedLinear:
    """Stands in for a peft layer's forward: base alone, base and the active adapter, or weights merged for decoding."""

    def __init__(self, layer: LoraLayer) -> None:
        self._layer = layer
        self._peft_forward = layer.forward
        base = layer.get_base_layer()
        transposed = isinstance(base, Conv1D)  # GPT-2 stores its matrices as [in, out]
        self.weight: Tensor = base.weight.t() if transposed else base.weight
        self.bias: Tensor | None = base.bias
        self.stand_in: Callable[[Tensor], Tensor] | None = None
        """While set, what computes instead: see `decoding.weights`."""
        self.as_peft = False
        """While True, peft computes: what a check of ours compares with."""

    def __call__(self, x: Tensor) -> Tensor:
        if self.as_peft:
            return self._peft_forward(x)
        return self.product(x) if self.stand_in is None else self.stand_in(x)

    def product(self, x: Tensor) -> Tensor:
        """x [..., in] times base and active adapter: [..., out]."""
        layer = self._layer
        if layer.disable_adapters:
            return functional.linear(x, self.weight, self.bias)
        (name,) = layer.active_adapters
        if layer.lora_dropout[name].training and not isinstance(layer.lora_dropout[name], nn.Identity):
            return self._peft_forward(x)
        a, b, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
        return _LoraProduct.apply(x, self.weight, self.bias, a, b, scale)

    def merge(self, into: Tensor) -> None:
        """Write W + s B A of the active adapter (W alone when adapters are off) into `into` [out, in]."""
        into.copy_(self.weight)
        active = self.low_rank()
        if active:
            a, b, scale = active
            into.addmm_(b, a, alpha=scale)

    @property
    def rank(self) -> int:
        """The largest of its adapters' ranks."""
        return max(self._layer.r.values())

    def low_rank(self) -> tuple[Tensor, Tensor, float] | None:
        """A [rank, in], B [out, rank] and s of the active adapter; None when adapters are off."""
        if self._layer.disable_adapters:
            return None
        (name,) = self._layer.active_adapters
        return self._layer.lora_A[name].weight, self._layer.lora_B[name].weight, self._layer.scaling[name]


def adapt(layers: list[Any]) -> list[AdaptedLinear]:
    """Give peft's plain linear layers our forward. Layers of other kinds are left to peft, and left out: a class that
    derives from nn.Linear may compute something else from its weight."""
    adapted = []
    for layer in layers:
        if type(layer) is PeftLinear and type(layer.get_base_layer()) in (nn.Linear, Conv1D):
            layer.forward = AdaptedLinear(layer)
            adapted.append(layer.forward)
    return adapted


class _LoraProduct(torch.autograd.Function):
    """x [..., in] -> [..., out]. The base may be of another dtype than its adapters, which are float32: in bfloat16 all
    products are of that (summed in float32) if there are more than a few rows; else, and in float16, which gradients
    would fall out of, each works in its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        a, b = _for_products(a, rows), _for_products(b, rows)
        low = rows.to(a.dtype) @ a.t()
        out = functional.linear(rows, weight, bias)
        _add_product(out, low, b.t(), scale)
        ctx.save_for_backward(rows, low, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, Tensor | None, Tensor | None, None]:
        rows, low, weight, a, b = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_low = (grad.to(b.dtype) @ b).mul_(ctx.scale)
        grad_a = (grad_low.t() @ rows.to(a.dtype)).float() if ctx.needs_input_grad[3] else None
        grad_b = (grad.t().to(b.dtype) @ low).mul_(ctx.scale).float() if ctx.needs_input_grad[4] else None
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            _add_product(grad_x, grad_low, a, 1.0)
            grad_x = grad_x.view(ctx.shape)
        return grad_x, None, None, grad_a, grad_b, None


def _for_products(adapter: Tensor, rows: Tensor) -> Tensor:
    few = rows.device.type == "cpu" and len(rows) <= _FEW_ROWS
    return adapter.to(rows.dtype) if rows.dtype == torch.bfloat16 and not few else adapter


def _add_product(total: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """total += scale · left @ right, in place."""
    if total.dtype == left.dtype:
        total.addmm_(left, right, alpha=scale)
    else:
        total.copy_(torch.addmm(total.to(left.dtype), left, right, alpha=scale))
