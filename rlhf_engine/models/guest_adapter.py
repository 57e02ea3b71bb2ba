"""A low-rank adapter that visits a base in memory for the length of a pass, with a head that reads it.

The base may be that of a run, with actor, critic and reference on it, whose adapters may sit on other modules. Nothing
is added to it: hooks add s · B A x to what the adapted modules answer, with the base's own adapters off, and are gone
afterwards. Weights, optimizers and checkpoints of the run know nothing of a guest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_engine.config.methods.base import REFERENCE
from rlhf_engine.errors import ModelError
from rlhf_engine.models.policy import Policy

_PREFIX = "base_model.model."


class GuestAdapter:
    """LoRA weights by the names that peft gives its files, and a head [1, hidden]. scaling: alpha / rank."""

    def __init__(self, tensors: Mapping[str, Tensor], head: Tensor, scaling: float) -> None:
        """Raises ModelError for tensors that are no low-rank adapter."""
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}
        self._head, self._scaling = head.float(), scaling
        names = {name.removeprefix(_PREFIX).partition(".lora_")[0] for name in tensors}
        for name in sorted(names):
            both = [tensors.get(f"{_PREFIX}{name}.lora_{side}.weight") for side in ("A", "B")]
            if both[0] is None or both[1] is None or both[0].shape[0] != both[1].shape[1]:
                raise ModelError(f"its adapter has no two low-rank matrices for {name}")
            self._pairs[name] = (both[0].float(), both[1].float())
        if not self._pairs:
            raise ModelError("it has no adapter")

    def to(self, device: torch.device) -> GuestAdapter:
        """The same on another device."""
        moved = object.__new__(GuestAdapter)
        moved._pairs = {name: (a.to(device), b.to(device)) for name, (a, b) in self._pairs.items()}
        moved._head, moved._scaling = self._head.to(device), self._scaling
        return moved

    def learning(self) -> GuestAdapter:
        """A copy whose weights are trained: they are `parameters`."""
        found = object.__new__(GuestAdapter)
        found._pairs = {name: (nn.Parameter(a.clone()), nn.Parameter(b.clone()))
                        for name, (a, b) in self._pairs.items()}
        found._head, found._scaling = nn.Parameter(self._head.clone()), self._scaling
        return found

    def fresh(self, seed: int) -> GuestAdapter:
        """One of the same shape that has learnt nothing: it adds nothing to the base, and its head says 0 (A is drawn
        from ±1 / sqrt(in) as peft draws it, B is 0: Hu et al. 2022, section 4.1)."""
        generator, found = torch.Generator().manual_seed(seed), object.__new__(GuestAdapter)
        found._pairs = {name: ((torch.rand(a.shape, generator=generator) * 2 - 1).to(a) / math.sqrt(a.shape[1]),
                               torch.zeros_like(b)) for name, (a, b) in self._pairs.items()}
        found._head, found._scaling = torch.zeros_like(self._head), self._scaling
        return found

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The adapter's weights by the names that peft gives its files, in the order of names."""
        return {f"{_PREFIX}{name}.lora_{side}.weight": matrix
                for name, pair in self._pairs.items() for side, matrix in zip("AB", pair, strict=True)}

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Of one that learns: its weights and its head's."""
        return {name: weight for name, weight in {**self.tensors, "head": self.head}.items()
                if isinstance(weight, nn.Parameter)}

    @property
    def head(self) -> Tensor:
        """[1, hidden]."""
        return self._head

    @property
    def rank(self) -> int:
        """The rank of its matrices."""
        return next(iter(self._pairs.values()))[0].shape[0]

    @property
    def scaling(self) -> float:
        """What the product of its matrices is multiplied by: alpha / rank."""
        return self._scaling

    def require_fit(self, policy: Policy) -> None:
        """Raises ModelError unless the base has the modules that it was trained on."""
        modules = dict(policy.base.named_modules())
        for name, (a, b) in self._pairs.items():
            module = modules.get(name)
            weight = getattr(module, "weight", None)
            if not isinstance(weight, Tensor) or {a.shape[1], b.shape[0]} != set(weight.shape):
                raise ModelError(f"its adapter does not fit {type(policy.base).__name__}: {name}")

    @contextmanager
    def on(self, policy: Policy) -> Iterator[None]:
        """The base answers with this adapter inside; as before afterwards, after an exception too."""
        modules, handles = dict(policy.base.named_modules()), []
        with policy.as_role(REFERENCE):
            try:
                for name, (a, b) in self._pairs.items():
                    handles.append(modules[name].register_forward_hook(self._adding(a, b)))
                yield
            finally:
                for handle in handles:
                    handle.remove()

    def read(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., 1], float32."""
        return hidden.float() @ self._head.t()

    def _adding(self, a: Tensor, b: Tensor) -> Any:
        def add(module: object, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            rows = inputs[0].to(a.dtype)
            return output + ((rows @ a.t()) @ b.t()).mul_(self._scaling).to(output.dtype)

        return add
