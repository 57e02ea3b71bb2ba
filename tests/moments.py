"""Moments that a test is about, made rather than waited for, so that it says the same on any machine.

A `Gate` holds a run inside a step for as long as a test wants; `wait_until` and `until` wait for what must come to
pass, however slow the machine is, and no longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_engine.rewards.function import code_at
from rlhf_engine.runs.trust import trust

PATIENCE = 120.0  # seconds; only what never comes takes so long

_REWARD = """
import time
from pathlib import Path

HERE = Path({folder!r})


def score(prompts, responses):
    if (HERE / "closed").exists():
        (HERE / "held").touch()
        while (HERE / "closed").exists():
            time.sleep(0.005)
    return [float(len(response)) for response in responses]
"""


class Gate:
    """A reward function that lets a run pass or holds it: in another process, too, for the gate is a file."""

    def __init__(self, folder: Path) -> None:
        """Open at first; its files lie in `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._closed, self._held = folder / "closed", folder / "held"
        code = folder / "gate.py"
        code.write_text(_REWARD.format(folder=str(folder)))
        trusted(code)
        self.reward = {"kind": "function", "name": "gate", "function": f"{code}:score"}

    def close(self) -> None:
        """Hold the run at the scores of its next step."""
        self._held.unlink(missing_ok=True)
        self._closed.touch()

    def open(self) -> None:
        """Let it go on."""
        self._closed.unlink()

    @property
    def holds(self) -> bool:
        """True once a run has come to the closed gate."""
        return self._held.exists()


def trusted(code: Path) -> Path:
    """The file, whose code as it is now this user trusts: a test that is not about asking has been asked already."""
    trust(code_at(code).digest, code)
    return code


def wait_until(true: Callable[[], bool], why: Callable[[], object] = lambda: "it did not come to pass") -> None:
    """Returns once `true` says so; fails with what `why` says."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, why()
        time.sleep(0.002)


async def until(pilot: Any, true: Callable[[], bool], why: Callable[[], object] = lambda: "it never came") -> None:
    """Lets timers and threads of the app under `pilot` work until `true` says so; fails with what `why` says."""
    deadline = time.monotonic() + PATIENCE
    await pilot.pause()
    while not true():
        assert time.monotonic() < deadline, why()
        await pilot.pause(0.01)
