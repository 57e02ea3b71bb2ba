"""Work beside the screen: a thread that does the newest job it was given and forgets those before it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """`ask` returns at once; `done` is called in the thread with what the newest job gave.

    A job must not raise. The thread is a daemon: a job that never ends does not keep the program from leaving, as one
    in an executor's pool would.
    """

    def __init__(self, name: str, done: Callable[[T], object]) -> None:
        self._name, self._done = name, done
        self._changed = threading.Condition()
        self._job: Callable[[], T] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, job: Callable[[], T]) -> None:
        """Do `job` next, in the place of any that waits."""
        with self._changed:
            self._job = job
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Take no more jobs, and tell nothing of the one under way."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._job is None and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job, self._job = self._job, None
            assert job is not None
            result = job()
            if not self._closed:
                self._done(result)
