"""What adapted linear modules multiply with while a rollout is decoded: fewer, larger products for few rows.

In float32 base and adapter are merged into a copy, so that the base itself stays exact for the reference. In half
precision they are not: the sum would be rounded, small changes of the adapter would vanish in it, and a distribution
sampled from that is not the one scored. There A stands beside W in one product, and what comes of A is multiplied with
B and added: two products for three. Modules that read the same states (queries, keys, values) are multiplied with at
once, by the first of them that is asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from rlhf_engine.models.adapted_linear import AdaptedLinear
from rlhf_engine.models.memory import free_bytes

# Joined weights are copies. In half precision those beyond this stay as they are, which is slower and takes no memory:
# a CPU's memory is read for every token, and there a copy of a large model costs more than the calls it spares.
_COPIED_BYTES = {"cpu": 512 * 1024**2, "cuda": 4 * 1024**3}
_GPU_SHARE = 0.25  # of a GPU's free memory that copies may take in any precision: caches and passes need room as well


class DecodingWeights:
    """Of all adapted modules of a policy, in the role that it plays."""

    def __init__(self, linears: list[AdaptedLinear], dtype: torch.dtype) -> None:
        self._linears, self._merges = linears, dtype == torch.float32
        self._joined: list[_Joined] | None = None
        self._stand_ins: list[Callable[[Tensor], Tensor] | None] = []

    def watch(self, forward: Callable[[], Tensor]) -> Tensor:
        """What a forward pass gives without any of this; it shows which modules read the same states."""
        order: list[list[int]] = []
        calls: Counter[int] = Counter()
        last: list[Tensor | None] = [None]

        def note(place: int, x: Tensor) -> Tensor:
            if x is last[0]:
                order[-1].append(place)
            else:
                order.append([place])
            last[0] = x
            calls[place] += 1
            return self._linears[place].product(x)

        with self._standing_in([partial(note, place) for place in range(len(self._linears))]):
            found = forward()
        if self._joined is None:  # once: graphs read what was joined then
            self._joined = self._join([group for group in order if all(calls[place] == 1 for place in group)])
            parts = {id(member): partial(joined.part, place)
                     for joined in self._joined for place, member in enumerate(joined.members)}
            self._stand_ins = [parts.get(id(linear)) for linear in self._linears]
        return found

    def _join(self, groups: list[list[int]]) -> list[_Joined]:
        joined, copied = [], 0
        room = _room_for_copies(self._linears[0].weight.device, self._merges) if groups else 0.0
        for group in groups:
            members = [self._linears[place] for place in group]
            size = sum(member.weight.nbytes for member in members)
            if copied + size <= room:
                copied += size
                joined.append(_Joined(members, merges=self._merges))
        return joined

    def refresh(self) -> None:
        """Take base and adapters as they are now."""
        for joined in self._joined or ():
            joined.refresh()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Modules multiply with these inside. After the first `watch`."""
        with self._standing_in(self._stand_ins):
            yield

    @contextmanager
    def _standing_in(self, stand_ins: list[Callable[[Tensor], Tensor] | None]) -> Iterator[None]:
        for linear, stand_in in zip(self._linears, stand_ins, strict=True):
            linear.stand_in = stand_in
        try:
            yield
        finally:
            for linear in self._linears:
                linear.stand_in = None
            for joined in self._joined or ():
                joined.forget()


def _room_for_copies(device: torch.device, merges: bool) -> float:
    """Bytes."""
    room = math.inf if merges else float(_COPIED_BYTES.get(device.type, 0))
    free = free_bytes(device)
    return room if free is None else min(room, _GPU_SHARE * free)


class _Joined:
    """Modules that read the same states, multiplied with at once."""

    def __init__(self, members: list[AdaptedLinear], *, merges: bool) -> None:
        self.members, self._merges = members, merges
        self._sizes = [len(member.weight) for member in members]
        self._rank = 0 if merges else sum(member.rank for member in members)
        first, width = members[0].weight, sum(self._sizes)
        self._weight = first.new_zeros(width + self._rank, first.shape[1])
        """[out, in] of all members, and below in half precision their A; in memory as theirs (see `fused_modules`)."""
        if first.t().is_contiguous():
            self._weight = first.new_zeros(first.shape[1], width + self._rank).t()
        self._low = first.new_zeros(self._rank, width)
        """Bᵀ of all members along the diagonal, times their scale."""
        self._bias: Tensor | None = None
        if any(member.bias is not None for member in members):
            self._bias = first.new_zeros(width + self._rank)
        for member, begin, end in self._places():
            self._weight[begin:end] = member.weight
            if self._bias is not None and member.bias is not None:
                self._bias[begin:end] = member.bias
        self._x: Tensor | None = None
        self._parts: tuple[Tensor, ...] = ()
        self._given: set[int] = set()

    def _places(self) -> Iterator[tuple[AdaptedLinear, int, int]]:
        begin = 0
        for member, size in zip(self.members, self._sizes, strict=True):
            yield member, begin, begin + size
            begin += size

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the active adapters, and in float32 the base, as they are now."""
        row = sum(self._sizes)
        for member, begin, end in self._places():
            if self._merges:
                member.merge(self._weight[begin:end])
                continue
            active, last = member.low_rank(), row + member.rank
            columns = self._low[row - sum(self._sizes) : last - sum(self._sizes), begin:end]
            self._weight[row:last] = 0.0
            columns.zero_()
            if active:
                a, b, scale = active
                self._weight[row : row + len(a)] = a
                columns[: len(a)] = (b * scale).t()
            row = last

    def part(self, place: int, x: Tensor) -> Tensor:
        """What the member at `place` makes of x [..., in]."""
        if x is not self._x or place in self._given:
            self._x, self._parts, self._given = x, self._multiply(x), set()
        self._given.add(place)
        part = self._parts[place]
        if len(self._given) == len(self.members):
            self.forget()
        return part

    def forget(self) -> None:
        """Let go of the states that were read last."""
        self._x, self._parts, self._given = None, (), set()

    def _multiply(self, x: Tensor) -> tuple[Tensor, ...]:
        out = functional.linear(x, self._weight, self._bias)
        if self._rank:
            rows, width = out.view(-1, out.shape[-1]), sum(self._sizes)
            out = torch.addmm(rows[:, :width], rows[:, width:], self._low).view(*x.shape[:-1], width)
        return out.split(self._sizes, dim=-1) if len(self._sizes) > 1 else (out,)
