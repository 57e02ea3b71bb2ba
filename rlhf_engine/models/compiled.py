"""Small functions that torch compiles (`torch.compile`): what is many operations one after another becomes few kernels.

Only functions without caches or adapters are given to it: norms, rotary embeddings, what is told of logits. Each
compiles within seconds, for any number of rows, where whole layers take minutes. On a GPU they are what is left to gain
beside the products, for every operation of theirs goes through all of its tensors again.

A compiled function is held to the plain one, forward and backward, at its first call. Where it cannot be compiled
(there is no compiler, a GPU is too old), or does not answer the same, the plain one computes, and says why.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from rlhf_engine.errors import kind_and_message
from rlhf_engine.model_folders.user_cache import cache_folder
from rlhf_engine.models.alike import answers_alike
from rlhf_engine.models.memory import out_of_memory

Function = Callable[..., Any]

_TRIED_ROWS = 512  # of a trial: so many that a GPU's rows are not divided among its units, and few beside a batch


class Compiled:
    """A function of tensors, compiled. It gives a tensor or several, and writes into none that it is given."""

    def __init__(
        self, name: str, function: Function, *, rows: Collection[int] = (), learns: Collection[int] = (),
        compiler: Callable[[Function], Function] | None = None,
    ) -> None:
        """name: what it is, for a person. rows: places of the arguments whose first dimension is a number of rows that
        differs from call to call. learns: places of those that a gradient flows to. compiler: `torch.compile` by
        default."""
        self.name, self._plain, self._rows, self._learns = name, function, rows, learns
        self._fast = (compiler or _compile)(function)
        self._tried = False
        self.why_not = ""
        """Why the plain function computes; empty while the compiled one does."""
        self.seconds = 0.0
        """What compiling it for the first time took."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the function gives. options: whatever else it takes, no tensors."""
        if not self._tried:
            self._try(args, options)
        if self.why_not:
            return self._plain(*args, **options)
        try:
            return self._run(*args, **options)
        except Exception as error:  # for other shapes it is compiled anew, which may fail in as many ways
            if out_of_memory(error):
                raise
            self.why_not = kind_and_message(error)
        return self._plain(*args, **options)

    def _run(self, *args: Any, **options: Any) -> Any:
        for place in self._rows:
            torch._dynamo.maybe_mark_dynamic(args[place], 0)
        return self._fast(*args, **options)

    def _try(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        args = tuple(arg[:_TRIED_ROWS] if place in self._rows else arg for place, arg in enumerate(args))
        expected = self._answers(self._plain, args, options)
        if not all(answer.isfinite().all() for answer in expected):
            return  # broken weights: there is no answer to hold it to
        self._tried = True
        started = time.perf_counter()
        try:
            found = self._answers(self._run, args, options)
            if not all(map(answers_alike, found, expected)):
                self.why_not = "it does not give the plain function's answer"
        except Exception as error:  # torch, its compilers and drivers raise many kinds
            self.why_not = kind_and_message(error)
        self.seconds = time.perf_counter() - started

    def _answers(self, function: Function, args: tuple[Any, ...], options: dict[str, Any]) -> list[Tensor]:
        """What it gives for `args`, and their gradients."""
        own = [arg.detach() if isinstance(arg, Tensor) else arg for arg in args]
        learning = [own[place].requires_grad_() for place in self._learns]
        with torch.set_grad_enabled(bool(learning)):
            given = function(*own, **options)
        outputs = [given] if isinstance(given, Tensor) else list(given)
        directions = [_noise_like(output) for output in outputs]
        gradients = torch.autograd.grad(outputs, learning, directions) if learning else ()
        return [answer.detach() for answer in (*outputs, *gradients)]


def _noise_like(output: Tensor) -> Tensor:
    """A gradient. Not the output itself, along which a norm has none."""
    return torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)


def _compile(function: Function) -> Function:
    # some workers of torch's own would stay until the end for a handful of functions; and a folder that is the user's
    # alone: what lies in it is run
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    if folder := cache_folder("torch-compile"):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    return torch.compile(function)


def why_plain(functions: Collection[Compiled]) -> list[str]:
    """A sentence for every reason for which some of them are not compiled."""
    reasons: dict[str, list[str]] = {}
    for function in functions:
        if function.why_not:
            reasons.setdefault(function.why_not, []).append(function.name)
    return [f"torch.compile did not work, which is slower, for {', '.join(dict.fromkeys(names))}: {reason}"
            for reason, names in reasons.items()]
