"""What one engine thread does for a workbench: runs, one after another, and requests between them.

The workbench makes a `Session`, runs `serve` in a thread, and calls everything else from its own. Nothing here imports
torch before `serve` has work, so that a screen can be drawn first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlhf_engine.config import RunConfig
from rlhf_engine.control import CompareRequest, GenerateRequest
from rlhf_engine.events import Event


class Session:
    """One engine thread's work. All methods but `serve` may be called from any thread and return at once."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit

    @property
    def busy(self) -> bool:
        """True from `start` or `resume` until that run has ended."""
        raise NotImplementedError

    def start(self, config: RunConfig, *, runs_root: Path, name: str | None = None, preset: str = "") -> None:
        """Begin a new run. Raises RunError while another one is busy."""

    def resume(self, run_path: Path) -> None:
        """Go on with a run from its newest checkpoint. Raises RunError while another one is busy."""

    def pause(self) -> None:
        """Hold the run after the current step."""

    def unpause(self) -> None:
        """Go on."""

    def stop(self) -> None:
        """End the run after the current step, with a checkpoint."""

    def checkpoint(self) -> None:
        """Save after the current step."""

    def edit(self, path: str, value: object) -> None:
        """Change a live setting from the next step on."""

    def ask(self, request: GenerateRequest | CompareRequest, config: RunConfig) -> None:
        """Generate or compare; between steps of a busy run, else at once with the last run's policy, or `config`'s model."""

    def cancel(self, request_id: int) -> None:
        """Give up a request."""

    def close(self) -> None:
        """Stop what runs (with a checkpoint) and end `serve`."""

    def serve(self) -> None:
        """Work until closed; the body of the engine thread. Emits events, raises nothing a user caused."""
        raise NotImplementedError
