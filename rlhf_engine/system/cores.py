"""How this process shares the machine's cores with others. Imports nothing, to come before everything."""

from __future__ import annotations

import os


def share_cores() -> None:
    """Lets torch's threads sleep soon when they wait; to be called before torch is imported.

    By default they spin for as long as it takes. When anything else wants a core, each hand-over then costs a time
    slice: two busy neighbours on two cores made steps of the storyteller twenty times slower. Threads that sleep at
    once (OMP_WAIT_POLICY=passive) cost a run with the cores to itself a quarter of its speed. Ten thousand turns, a few
    hundredths of a millisecond, keep nearly all of it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def available_cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
