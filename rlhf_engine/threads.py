"""How many CPU threads a model is worth."""

from __future__ import annotations

import os

from rlhf_engine.policy import Policy

_TINY = 20_000_000  # parameters; below this the matrices are too small to share


def choose_threads(policy: Policy) -> int:
    """Threads for torch: all cores; for tiny models at most two, since handing work out costs more than it gives."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 2) if policy.parameter_count < _TINY else cores
