"""A CUDA device that is none: tensors that say they are on `cuda:0` and hold their numbers on the CPU.

`with FakeCuda() as card:` makes `model.device = "cuda"` work on a machine without a card. The real code loads, samples,
evaluates and learns there; what comes of it are the numbers that the CPU computes.

What it shows
- that no tensor of the CPU meets one of the card, but where CUDA takes that (a number without dimensions beside an
  elementwise operation, a copy): else a `DeviceMismatch` is raised, where CUDA would raise;
- where the CPU waits for the card, one `Wait` each, with the line of this project that asked: a number that is read
  (`item`, `bool`, `tolist`), a copy between the two that is not `non_blocking`, a shape that depends on numbers
  (`nonzero`, a mask as an index, `unique`), rows on the CPU as an index of what is on the card;
- that a CUDA graph is captured from what can be captured: while one is, nothing is computed, a wait or a tensor that
  the CPU makes anew is an error, and what `replay` does later are those operations on those very tensors;
- what the code makes of a card that is full: `card.largest` bounds what one operation may ask for.

What it cannot show: what CUDA's own kernels compute, how fast they are, and whether there is one for each dtype;
torch's own choices among them (attention is spelled out here); streams, of which there is one; how much memory a step
takes. `test_cuda` is for these.

Why not torch's own fake tensors: without CUDA, autograd ends the process where one of them wants a gradient; they have
no numbers, so that no rollout would end and no check would pass; and transformers takes them for a sign of tracing, and
then leaves out what waits.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode

import rlhf_engine

CARD = torch.device("cuda", 0)
# What torch itself takes it for. Of the devices that a build without CUDA has no kernels for, this is the one that
# autograd passes through on the calling thread.
_WITHIN = torch.device("lazy", 0)
_GIB = 1024**3
_OURS = str(Path(rlhf_engine.__file__).parent)

# operations of which a CPU tensor without dimensions may take part, besides those torch calls pointwise: CUDA reads
# such a number on the CPU
_TAKE_NUMBERS = ("copy_", "fill_", "fill", "masked_fill", "masked_fill_", "where", "index_fill", "index_fill_")
# operations that wait for what they themselves are to check
_WAIT_INSIDE = {"multinomial": "probabilities are checked"}


class DeviceMismatch(RuntimeError):
    """What CUDA raises where tensors of the CPU and of the card are in one operation."""


@dataclass(frozen=True)
class Wait:
    """The CPU waited. why: for what; file, function, line: of this project, that asked; through: the library's function
    that did, if none of ours."""

    why: str
    file: str
    function: str
    line: int
    through: str = ""

    def __str__(self) -> str:
        through = f", in {self.through}" if self.through else ""
        return f"{self.file}:{self.line} {self.function}: {self.why}{through}"


class CudaTensor(Tensor):
    """A tensor on the card. `held`: its numbers, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> CudaTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=_WITHIN)
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a tensor of a fake card, after that was gone")

    device = property(lambda self: CARD)
    is_cuda = property(lambda self: True)

    def get_device(self) -> int:
        return 0

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=CARD)

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self.detach().cpu().numpy()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def __repr__(self, **_: Any) -> str:
        return f"{self.held!r} on {CARD}"

    # with these two, `Module.to` swaps what a parameter holds, as it does with one that goes to a true card: else
    # embedding and head would no longer be one
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> CudaTensor:
        return CudaTensor(inner["held"])


class CudaGenerator(torch.Generator):
    """Random numbers of the card: those of the CPU for the same seed."""

    device = property(lambda self: CARD)


class FakeCuda:
    """While it is entered there is a card. One at a time, in one thread."""

    def __init__(self, *, free: int = 80 * _GIB) -> None:
        """free: bytes of its memory that it says are free."""
        self.free = free
        self.largest: int | None = None
        """Bytes that one operation may ask for; None: any number."""
        self.waits: list[Wait] = []
        self.made_bytes = 0
        """Of all tensors that were made on it, views left out."""
        self.capture: _Recording | None = None
        """The graph that is captured now."""
        self._within = ExitStack()

    def __enter__(self) -> FakeCuda:
        for name, stand_in in self._stand_ins().items():
            self._within.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        self._within.enter_context(mock.patch.object(torch, "Generator", _GeneratorOfBoth))
        # what is compiled is compiled for a card; here it stays as it is written
        self._within.enter_context(mock.patch.object(torch, "compile", lambda function, **_: function))
        # of parameters torch looks at the type, before it takes the way that CUDA goes: all of them in one kernel
        self._within.enter_context(mock.patch.object(_foreach_utils, "_foreach_supported_types", [Tensor, CudaTensor]))
        self._within.enter_context(_Operations(self))
        self._within.enter_context(_Calls(self))
        return self

    def __exit__(self, *_: object) -> None:
        self._within.close()

    def wait(self, why: str) -> None:
        """The CPU waits now. Raises RuntimeError while a graph is captured, which CUDA would end."""
        if self.capture:
            raise RuntimeError(f"operation not permitted when stream is capturing: {why}")
        self.waits.append(_wait(why))

    @contextmanager
    def watched(self) -> Iterator[list[Wait]]:
        """The waits inside."""
        before, self.waits = self.waits, []
        try:
            yield self.waits
        finally:
            self.waits = before + self.waits

    def _stand_ins(self) -> dict[str, Any]:
        stream = SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: self.wait("a stream"))
        return {
            "is_available": lambda: True, "is_initialized": lambda: True, "device_count": lambda: 1,
            "current_device": lambda: 0, "is_bf16_supported": lambda including_emulation=True: True,
            "get_device_name": lambda device=None: "a card that is none",
            "get_device_properties": lambda device=None: SimpleNamespace(
                name="a card that is none", total_memory=80 * _GIB, major=9, minor=0, multi_processor_count=100),
            "get_device_capability": lambda device=None: (9, 0),
            "mem_get_info": lambda device=None: (self.free, 80 * _GIB),
            "memory_allocated": lambda device=None: 0, "memory_reserved": lambda device=None: 0,
            "max_memory_allocated": lambda device=None: 0, "reset_peak_memory_stats": lambda device=None: None,
            "empty_cache": self._empty_cache, "synchronize": lambda device=None: self.wait("all work"),
            "get_rng_state": lambda device=None: torch.get_rng_state(),
            "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
            "manual_seed_all": lambda seed: None,
            "Stream": lambda *_, **__: stream, "current_stream": lambda device=None: stream,
            "stream": lambda entered: ExitStack(), "is_current_stream_capturing": lambda: self.capture is not None,
            "CUDAGraph": _Recording, "graph": self._graph,
        }

    def _empty_cache(self) -> None:
        self.wait("memory is given back")

    @contextmanager
    def _graph(self, graph: _Recording, **_: Any) -> Iterator[None]:
        self.capture = graph
        try:
            yield
        finally:
            self.capture = None


def sites(waits: list[Wait]) -> Counter[str]:
    """How often the CPU waited, by place and reason."""
    return Counter(map(str, waits))


# ---------------------------------------------------------------------------------------------------------------------


_Generator = torch.Generator


class _GeneratorMeta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Generator)


class _GeneratorOfBoth(metaclass=_GeneratorMeta):
    """`torch.Generator`, while there is a card."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return CudaGenerator() if torch.device(device).type == "cuda" else _Generator(device)


@dataclass
class _Recording:
    """A CUDA graph: operations in order, each with what it reads and what it gave."""

    operations: list[tuple[Callable[..., Any], Any, Any, Any]] = field(default_factory=list)

    def replay(self) -> None:
        """Do them again, on the same tensors."""
        for func, args, kwargs, given in self.operations:
            found = func(*args, **kwargs)
            for old, new in zip(_tensors(given), _tensors(found), strict=True):
                if old is not new and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class _Calls(TorchFunctionMode):
    """What is said of a device before torch reads it: the card goes by the name that torch knows it by."""

    def __init__(self, card: FakeCuda) -> None:
        super().__init__()
        self._card = card

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FROM_DATA and _is_card(kwargs.get("device")):
            return func(*args, **{key: value for key, value in kwargs.items() if key != "device"}).to(_WITHIN)
        if func in _INDEXES and isinstance(args[0], CudaTensor):
            args = (args[0], _index(args[1]), *args[2:])
        if func in _MOVES:
            args = tuple(_WITHIN if _is_card(value) else value for value in args)
        if "device" in kwargs and _is_card(kwargs["device"]):
            kwargs = kwargs | {"device": _WITHIN}
        return func(*args, **kwargs)


def _is_card(device: Any) -> bool:
    if isinstance(device, str):
        return device.split(":")[0] == "cuda"
    return isinstance(device, torch.device) and device.type == "cuda"


_FROM_DATA = {torch.tensor, torch.as_tensor}
_MOVES = {Tensor.to, Tensor.type, torch.nn.Module.to}
_INDEXES = {Tensor.__getitem__, Tensor.__setitem__}


def _index(index: Any) -> Any:
    """Numbers in a list are made a tensor of, as torch does."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return torch.tensor(index) if isinstance(index, list) else index


class _Operations(TorchDispatchMode):
    """Does on the CPU what is asked of the card, and sees that CUDA could have done it, and whether the CPU waits."""

    def __init__(self, card: FakeCuda) -> None:
        super().__init__()
        self._card = card

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = kwargs.get("device")
        if CudaTensor not in types and not _is_within(target):
            return func(*args, **kwargs)
        given = list(_tensors((args, kwargs)))
        there = [tensor for tensor in given if isinstance(tensor, CudaTensor)]
        name = func._schema.name.removeprefix("aten::")
        self._look(func, name, args, kwargs, given)
        held = {id(tensor.held): tensor for tensor in there}
        inside = _mapped(args, _held), {key: _mapped(value, _held) for key, value in kwargs.items()}
        if _is_within(target):
            inside[1]["device"] = torch.device("cpu")
        found = self._do(func, *inside, name)
        if name == "_to_copy" and target is not None and not _is_within(target):
            return found
        if name == "copy_" and not isinstance(args[0], CudaTensor):
            return args[0]
        return _mapped(found, lambda tensor: held.get(id(tensor)) if id(tensor) in held else CudaTensor(tensor))

    def _do(self, func: Any, args: Any, kwargs: Any, name: str) -> Any:
        card = self._card
        if card.capture is None:
            found = func(*args, **kwargs)
        else:  # what is written into what there was is not written yet
            changed = [value for argument, value in zip(func._schema.arguments, args, strict=False)
                       if argument.alias_info is not None and argument.alias_info.is_write]
            changed += [kwargs[argument.name] for argument in func._schema.arguments
                        if argument.name in kwargs and argument.alias_info is not None and argument.alias_info.is_write]
            found = (changed[0] if len(changed) == 1 else tuple(changed)) if changed else func(*args, **kwargs)
            card.capture.operations.append((func, args, kwargs, found))
        there = {tensor.data_ptr() for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(found):
            size = 0 if tensor._is_view() or tensor.data_ptr() in there else tensor.untyped_storage().nbytes()
            if card.largest is not None and size > card.largest:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            card.made_bytes += size
        return found

    def _look(self, func: Any, name: str, args: Any, kwargs: Any, given: list[Tensor]) -> None:
        """Raise where CUDA would, and note a wait."""
        card = self._card
        copies = name in ("copy_", "_to_copy")
        if copies:
            to = isinstance(args[0], CudaTensor) if name == "copy_" else _is_within(kwargs.get("device")) or (
                kwargs.get("device") is None and isinstance(args[0], CudaTensor))
            source = isinstance(args[1] if name == "copy_" else args[0], CudaTensor)
            waits = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            if to != source and waits:
                card.wait("a copy to the card" if to else "a copy to the CPU")
            elif to != source and card.capture and to:
                raise RuntimeError("operation not permitted when stream is capturing: memory that is not pinned")
            return
        indexes = name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
        if indexes:
            self._look_at_index(args, name)
            given = [args[0], *args[2:3]]
        elsewhere = [tensor for tensor in given if not isinstance(tensor, CudaTensor)]
        numbers = indexes or name in _TAKE_NUMBERS or torch.Tag.pointwise in func.tags or "_fused" in name
        if any(tensor.dim() > 0 or not numbers for tensor in elsewhere):
            raise DeviceMismatch(f"Expected all tensors to be on the same device, but found at least two devices, "
                                 f"cuda:0 and cpu! ({name}, with {[tuple(tensor.shape) for tensor in given]})")
        if name in _WAIT_INSIDE:
            card.wait(_WAIT_INSIDE[name])
        if name == "repeat_interleave" and kwargs.get("output_size") is not None:
            return
        if torch.Tag.data_dependent_output in func.tags:
            card.wait("a number is read")
        elif torch.Tag.dynamic_output_shape in func.tags and not indexes:
            card.wait(f"a shape depends on numbers ({name})")

    def _look_at_index(self, args: Any, name: str) -> None:
        where = [tensor for tensor in args[1] if tensor is not None]
        if not isinstance(args[0], CudaTensor):
            raise DeviceMismatch("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        if any(not isinstance(tensor, CudaTensor) for tensor in where):
            self._card.wait("rows on the CPU as an index")
        masks = any(tensor.dtype in (torch.bool, torch.uint8) for tensor in where)
        fills = "put" in name and args[2].numel() == 1
        if masks and not fills:
            self._card.wait("a shape depends on numbers (a mask as an index)")


def _is_within(device: Any) -> bool:
    return device is not None and torch.device(device).type in ("lazy", "cuda")


def _held(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, CudaTensor) else tensor


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)


def _mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_mapped(one, change) for one in value)
    return value


def _wait(why: str) -> Wait:
    frame, through = sys._getframe(2), ""
    while frame is not None:
        path, code = frame.f_code.co_filename, frame.f_code
        if path.startswith(_OURS):
            return Wait(why, path.removeprefix(_OURS + "/"), code.co_qualname, frame.f_lineno, through)
        if not through and "site-packages" in path and "/torch/" not in path:
            through = f"{Path(path).stem}.{code.co_qualname}"
        frame = frame.f_back
    return Wait(why, "", "", 0, through)
