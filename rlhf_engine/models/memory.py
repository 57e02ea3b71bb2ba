"""When memory runs out: half as many responses at once, and the same result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from rlhf_engine.errors import ModelError

T = TypeVar("T")

# torch has a class for what its own allocator of a GPU raises; the CPU's and mps raise a RuntimeError that says so, and
# so do CUDA's libraries (CUBLAS_STATUS_ALLOC_FAILED) that find no room for their workspaces beside torch's tensors
_SAID = ("DefaultCPUAllocator", "can't allocate memory", "out of memory", "_ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """True for what torch raises when an allocation fails, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that tensors can still take of a CUDA device: what nobody has, and what torch keeps and does not use. None
    for other devices, which do not tell."""
    if device.type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + kept)


class MicroBatchLimit:
    """How many responses go through a forward pass at once: `size`, which falls when memory runs out.

    It lasts as long as the process: what did not fit once would not fit the next time.
    """

    def __init__(self, size: int, tell: Callable[[str], None]) -> None:
        """tell: takes one sentence for the user each time the limit falls."""
        self.size = size
        self._tell = tell

    def fit(self, work: Callable[[], T]) -> T:
        """What `work` returns, done again from its start with half of `size` (then a quarter …) when memory runs out.

        `work` reads `size`. Losses are divided by the number of tokens of the whole minibatch, so portions add up to
        the same gradient. Raises ModelError when a single response is too much.
        """
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            # not inside `except`: there the traceback still holds the tensors that filled the memory
            self._halve(self.size)

    def _halve(self, size: int) -> None:
        if size <= 1:
            raise ModelError(
                "out of memory even with one response at a time: lower sampling.max_new_tokens or lora.rank, "
                "or take a smaller model or model.dtype"
            )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.size = (size + 1) // 2
        self._tell(
            f"out of memory with {size} responses at once: from now on {self.size}, with the same result; "
            f"train.micro_batch_size = {self.size} would begin so"
        )
