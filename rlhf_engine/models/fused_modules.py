"""Replaces what transformers spells out in many tensor operations by fewer that give the same numbers.

Only what measurements on small models showed to matter; what is not known here stays as it came. See also
`compiled_modules`.
"""

from __future__ import annotations

import types
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import NewGELUActivation
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention

_SMALL_WEIGHT_BYTES = 1024 * 1024


def fuse_modules(model: nn.Module, *, fuse_attention: bool) -> None:
    """Change a frozen model in place; its outputs stay the same up to rounding.

    fuse_attention: GPT-Neo's by torch's own kernel, as other models have it: one for seven on a GPU, and the slower way
    on a CPU.
    """
    triangles: dict[Any, Any] = {}
    tied = {id(embedding.weight) for embedding in model.modules() if isinstance(embedding, nn.Embedding)}
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):  # eight operations for one
                setattr(module, name, nn.GELU(approximate="tanh"))
        if type(module) is GPTNeoSelfAttention:
            module.__dict__["_attn"] = types.MethodType(partial(_attend, fuse_attention), module)
            # one for all layers of a kind: each had a square of all positions of its own
            module.bias = triangles.setdefault((module.attention_type, module.bias.shape), module.bias)
        if type(module) is nn.Linear and id(module.weight) not in tied:
            _store_by_columns(module)


def _store_by_columns(linear: nn.Linear) -> None:
    """Lay the weight [out, in] out in memory as [in, out].

    x Wᵀ is then a product of two plain row-major matrices, which MKL computes up to six times as fast for the few rows
    of a decoding step, and never slower. Large weights gain little, and would take their memory twice: those of a file
    that is mapped into memory stay mapped.
    """
    weight = linear.weight
    if weight.device.type == "cpu" and weight.numel() * weight.element_size() <= _SMALL_WEIGHT_BYTES:
        weight.data = weight.data.t().contiguous().t()


def _attend(
    fused: bool, self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """GPT-Neo's attention of queries and keys [batch, heads, time, size], without what the mask already says.

    transformers masks future positions twice, by the additive mask it was given and by a triangle of its own. Only
    local attention over more keys than its window needs the triangle.
    """
    if attention_mask is None or self.training:
        return GPTNeoSelfAttention._attn(self, query, key, value, attention_mask)
    queries, keys = query.shape[-2], key.shape[-2]
    if self.attention_type == "local" and keys > self.config.window_size:
        # filled with a number, not with a tensor of one, as the original does: that is copied to a GPU in each layer
        outside = ~self.bias[:, :, keys - queries : keys, :keys]
        attention_mask = attention_mask.masked_fill(outside, torch.finfo(attention_mask.dtype).min)
    if fused:
        return functional.scaled_dot_product_attention(query, key, value, attention_mask, scale=1.0), None
    # scores in float32, as in the original, for float16 would overflow
    scores = torch.matmul(query.float(), key.float().transpose(-1, -2)).add_(attention_mask)
    weights = scores.softmax(dim=-1).to(value.dtype)
    return torch.matmul(weights, value), weights
