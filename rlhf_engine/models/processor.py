"""What the processor of this machine can do, as torch or the system tells it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from rlhf_engine.system.cores import available_cores

_UNITS = ("amx_bf16", "avx512_bf16")
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_WITHOUT = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}


def processor() -> dict[str, Any]:
    """The processor's name and abilities, by cpuinfo's names; empty where neither torch nor the system tells them."""
    if told := getattr(torch.cpu, "get_capabilities", None):  # torch 2.11 and later
        with suppress(RuntimeError):
            return dict(told())
    found: dict[str, Any] = {}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = (part.strip() for part in line.partition(":"))
            if name == "flags":
                return found | dict.fromkeys(value.split(), True)
            if name == "model name":
                found["cpu_name"] = value
    return found


def multiplies_bfloat16(
    abilities: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ
) -> bool:
    """Whether a CPU has instructions for products of bfloat16 (AMX or AVX512-BF16), and torch's library for products,
    oneDNN, was not told by its variable ONEDNN_MAX_CPU_ISA to do without them. Without, such products are slower than
    those of float32.

    abilities: as `processor` gives them, which is asked if left out.
    """
    if any(environment.get(name, "").upper() in _WITHOUT for name in _LIMITS):
        return False
    found = processor() if abilities is None else abilities
    return any(found.get(unit) for unit in _UNITS)


def machine_digest() -> str:
    """A digest of what a measured speed depends on besides what is measured: processor, cores that this process may
    use, and torch."""
    limits = [os.environ.get(name, "") for name in _LIMITS]
    abilities = sorted((name, str(value)) for name, value in processor().items())
    parts = [abilities, available_cores(), limits, torch.__version__]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
