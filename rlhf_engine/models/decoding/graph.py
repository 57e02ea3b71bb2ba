"""Makes a traced list of tensor operations shorter without changing what it computes.

A decoding step of a small model is hundreds of operations of a few microseconds each, and a third of them only
rearrange sizes or recompute constants. What is done here, in order: fold constants, drop operations that change
nothing, join products that share their left side, read only the columns of the cache that are filled, and call torch's
own functions where the recording names operators of its dispatcher, which Python reaches at twice the cost.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.nn import functional

aten = torch.ops.aten

_VIEWS = (aten.view.default, aten._unsafe_view.default)
_RESHAPES = (*_VIEWS, aten.expand.default, aten.slice.Tensor, aten.alias.default, aten.detach.default)
_REARRANGES = (*_RESHAPES, aten.reshape.default, aten.permute.default, aten.transpose.int, aten.unsqueeze.default)
# operators whose methods and functions take the same arguments in the same order
_METHODS = {
    "view", "reshape", "permute", "transpose", "unsqueeze", "squeeze", "select", "expand", "add", "add_", "sub", "mul",
    "div", "pow", "rsqrt", "neg", "cos", "sin", "mm", "bmm", "softmax", "index_copy_", "le", "bitwise_and",
}
_FUNCTIONS = {
    "addmm": torch.addmm, "embedding": torch.embedding, "cat": torch.cat, "where": torch.where, "mean": torch.mean,
    "gelu": functional.gelu, "silu": functional.silu,
}
_JOINED_BYTES = 2 * 1024 * 1024  # joined weights are copies: worth it only where starting a product costs as much as it


class _Record(fx.Interpreter):
    """Runs the graph once and keeps every node's value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.values[n] = value
        return value


def shorten(
    module: fx.GraphModule, inputs: tuple[Tensor, ...], changing: Iterable[Tensor], length: int
) -> list[tuple[Tensor, Tensor]]:
    """Shorten `module` in place. Runs it once on `inputs`, with whatever that does to tensors it writes to.

    changing: tensors whose contents may differ between calls (caches, merged weights); all others the graph holds are
    taken for constants. length: the columns of the cache; no other size in the model may equal it. The module takes one
    more argument at the end: how many columns to read.

    Returns pairs (one of `changing` transposed, the part of a joined weight that replaces it): who changes the first
    must from now on change the second.
    """
    record = _Record(module)
    record.run(*inputs)
    values, written = record.values, {tensor.untyped_storage().data_ptr() for tensor in changing}
    _fold_constants(module, values, written)
    _drop_idle(module, values)
    moved = _join_products(module, values, written)
    _follow_length(module, values, written, length)
    _remove_unused(module)
    for node in module.graph.nodes:
        _call_directly(node)
    module.recompile()
    # where Python finds them at once: torch looks parameters and buffers up in a function of its own
    module.__dict__.update(module.named_parameters(), **dict(module.named_buffers()))
    return moved


def _fold_constants(module: fx.GraphModule, values: dict[fx.Node, Any], written: set[int]) -> None:
    """Compute once what depends on nothing that changes. A view of what changes is constant as well: it sees it."""
    constants = {node for node in module.graph.nodes if node.op == "get_attr"}
    for node in list(module.graph.nodes):
        if node.op != "call_function" or not isinstance(node.target, OpOverload):
            continue
        sources = node.all_input_nodes
        if _writes(node) or not isinstance(values[node], Tensor):
            continue
        if torch.Tag.nondeterministic_seeded in node.target.tags or any(n not in constants for n in sources):
            continue
        reads_changing = any(_storage(values[n]) in written for n in sources)
        if reads_changing and not _is_view(node.target):
            continue
        with module.graph.inserting_before(node):
            folded = _constant(module, values[node])
        values[folded] = values[node]
        constants.add(folded)
        node.replace_all_uses_with(folded)
        module.graph.erase_node(node)


def _drop_idle(module: fx.GraphModule, values: dict[fx.Node, Any]) -> None:
    """Drop reshapes to the same shape, chains of views, views made twice, and choices whose outcome is known."""
    seen: dict[tuple[Any, ...], fx.Node] = {}
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in _VIEWS and node.args[0].target in _VIEWS:
            node.update_arg(0, node.args[0].args[0])
        replacement = None
        if node.target in _RESHAPES and values[node].shape == values[node.args[0]].shape:
            replacement = node.args[0]
        elif node.target is aten.where.self and _always(node, values):
            replacement = node.args[1]
        elif node.target in _VIEWS:
            key = (node.args[0], tuple(node.args[1]))
            replacement = seen.setdefault(key, node)
        if replacement is not None and replacement is not node:
            node.replace_all_uses_with(replacement)
            module.graph.erase_node(node)


def _always(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    condition, chosen = node.args[0], node.args[1]
    known = isinstance(condition, fx.Node) and condition.op == "get_attr" and bool(values[condition].all())
    return known and isinstance(chosen, fx.Node) and values[chosen].shape == values[node].shape


def _join_products(
    module: fx.GraphModule, values: dict[fx.Node, Any], written: set[int]
) -> list[tuple[Tensor, Tensor]]:
    """Products x @ W1, x @ W2, … with one x become x @ [W1 W2 …] and slices of it."""
    groups: dict[tuple[Any, fx.Node], list[Any]] = defaultdict(list)
    node: Any
    for node in module.graph.nodes:
        if node.target is aten.mm.default and node.args[1].op == "get_attr":
            groups[(node.target, node.args[0])].append(node)
        elif node.target is aten.addmm.default and (len(node.args), len(node.kwargs)) == (3, 0):
            bias, left, weight = node.args
            if bias.op == weight.op == "get_attr":
                groups[(node.target, left)].append(node)
    moved: list[tuple[Tensor, Tensor]] = []
    for (target, shared), nodes in groups.items():
        weights = [values[node.args[-1]] for node in nodes]
        if len(nodes) < 2 or sum(w.numel() * w.element_size() for w in weights) > _JOINED_BYTES:
            continue
        joined = torch.cat([weight.contiguous() for weight in weights], dim=1)
        with module.graph.inserting_before(nodes[0]):
            weight_node = _constant(module, joined)
            if target is aten.addmm.default:
                biases = _constant(module, torch.cat([values[node.args[0]] for node in nodes]))
                product = module.graph.call_function(target, (biases, shared, weight_node))
            else:
                product = module.graph.call_function(target, (shared, weight_node))
            parts = module.graph.call_method("split", (product, [weight.shape[1] for weight in weights], 1))
            begin = 0
            for index, (node, weight) in enumerate(zip(nodes, weights, strict=True)):
                end = begin + weight.shape[1]
                part = module.graph.call_function(operator.getitem, (parts, index))
                if _storage(weight) in written:
                    moved.append((weight, joined[:, begin:end]))
                node.replace_all_uses_with(part)
                _allow_copies(part)
                begin = end
        for node in nodes:
            module.graph.erase_node(node)
    return moved


def _allow_copies(node: fx.Node) -> None:
    """Views downstream of a slice may need its rows side by side: let those copy."""
    for user in node.users:
        if user.target in _VIEWS:
            user.target = aten.reshape.default
        if user.target in _REARRANGES:
            _allow_copies(user)


def _follow_length(module: fx.GraphModule, values: dict[fx.Node, Any], written: set[int], length: int) -> None:
    """Let the step read the first n columns of whatever has `length` of them, n being a new last argument."""
    nodes = list(module.graph.nodes)
    with module.graph.inserting_after([node for node in nodes if node.op == "placeholder"][-1]):
        columns = module.graph.placeholder("columns")
    for node in nodes:
        if node.op == "call_function":
            node.args = _replace(node.args, length, columns)
        value = values.get(node)
        if not isinstance(value, Tensor) or length not in value.shape:
            continue
        if node.op in ("get_attr", "placeholder") or (_writes(node) and _storage(value) in written):
            after = columns if node.op == "placeholder" else node
            with module.graph.inserting_after(after):
                read = module.graph.call_method("narrow", (node, value.shape.index(length), 0, columns))
            # writing into the cache needs all of it
            node.replace_all_uses_with(read, lambda user, r=read: user is not r and not _writes(user))


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _replace(value: Any, old: int, new: fx.Node) -> Any:
    """Sizes equal to `old` inside nested arguments become `new`."""
    if isinstance(value, list | tuple):
        return type(value)(_replace(item, old, new) for item in value)
    return new if type(value) is int and value == old else value


def _call_directly(node: Any) -> None:
    """The function or method of torch that leads to the same operator."""
    if node.op != "call_function" or not isinstance(node.target, OpOverload):
        return
    name = node.target._schema.name.removeprefix("aten::")
    if node.target in _VIEWS:
        name = "view"
    elif node.target is aten._softmax.default:
        name, node.args = "softmax", node.args[:2]
    elif node.target is aten.native_layer_norm.default:
        if all(user.target is operator.getitem and user.args[1] == 0 for user in node.users):
            node.target = torch.layer_norm
            for user in list(node.users):
                user.replace_all_uses_with(node)
                node.graph.erase_node(user)
        return
    if name in _METHODS:
        if name in ("view", "reshape", "permute"):
            node.args = (node.args[0], *node.args[1])  # sizes one by one spare a list
        node.op, node.target = "call_method", name
    elif name in _FUNCTIONS:
        node.target = _FUNCTIONS[name]


def _remove_unused(module: fx.GraphModule) -> None:
    for node in reversed(list(module.graph.nodes)):
        if not node.users and node.op in ("call_function", "call_method", "get_attr") and not _writes(node):
            module.graph.erase_node(node)


def _constant(module: fx.GraphModule, value: Tensor) -> fx.Node:
    name = f"_shortened_{sum(key.startswith('_shortened_') for key in module._buffers)}"
    module.register_buffer(name, value, persistent=False)
    return module.graph.get_attr(name)


def _storage(value: Any) -> int:
    return value.untyped_storage().data_ptr() if isinstance(value, Tensor) else 0


def _is_view(target: Callable[..., Any]) -> bool:
    returns = target._schema.returns  # type: ignore[attr-defined]
    return bool(returns) and returns[0].alias_info is not None
