"""How other threads steer a trainer: everything asked here is done at the next step boundary.

The engine thread alone touches the model; others leave requests and read events.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from rlhf_engine.requests import Edit, Request


class TrainerControl:
    """Thread-safe switches and a queue of requests. Any thread may call any method at any time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: deque[Request] = deque()
        self._current: Request | None = None
        self._cancelled: set[int | None] = set()
        self._paused = self._stop = self._checkpoint = self._closed = self._woken = False

    def pause(self) -> None:
        """Hold after the current step."""
        self._set(paused=True)

    def resume(self) -> None:
        """Go on after a pause."""
        self._set(paused=False)

    def stop(self) -> None:
        """End the run after the current step, with a checkpoint."""
        self._set(stop=True)

    def close(self) -> None:
        """Stop, and serve no further requests afterwards."""
        self._set(stop=True, closed=True)

    def checkpoint(self) -> None:
        """Save a checkpoint after the current step."""
        self._set(checkpoint=True)

    def edit(self, path: str, value: Any) -> None:
        """Change one live setting from the next step on; answered by EditApplied or EditRefused."""
        self.ask(Edit(path, value))

    def ask(self, request: Request) -> None:
        """Queue a request; requests are served in order, between steps, and when the run has ended."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def wake(self) -> None:
        """Let `wait_for_change` return: something outside this object changed."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def cancel(self, request_id: int) -> None:
        """Give up a generation or comparison, queued or under way; nothing where none of that id is open."""
        with self._changed:
            if request_id in map(_id_of, (*self._requests, self._current)):
                self._cancelled.add(request_id)
                self._changed.notify_all()

    # --- read by the engine thread ---

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def stopping(self) -> bool:
        return self._stop

    @property
    def closed(self) -> bool:
        return self._closed

    def cancelled(self, request_id: int) -> bool:
        """True once `request_id` was given up, or everything is being closed."""
        return self._closed or request_id in self._cancelled

    def take_checkpoint_request(self) -> bool:
        """True once per `checkpoint()`."""
        with self._changed:
            wanted, self._checkpoint = self._checkpoint, False
            return wanted

    def take_request(self) -> Request | None:
        """The oldest request, or None. The one taken before is done with."""
        with self._changed:
            self._cancelled.discard(_id_of(self._current))
            self._current = self._requests.popleft() if self._requests else None
            return self._current

    def wait_for_change(self, timeout: float | None = None) -> None:
        """Sleep until a request or a switch arrives; returns at once if one came since the last wait."""
        with self._changed:
            if not self._requests and not self._woken:
                self._changed.wait(timeout)
            self._woken = False

    def _set(self, **switches: bool) -> None:
        with self._changed:
            for name, value in switches.items():
                setattr(self, f"_{name}", value)
            self._woken = True
            self._changed.notify_all()


def _id_of(request: Request | None) -> int | None:
    """The id by which a request is given up, if it has one."""
    return getattr(request, "request_id", None)
