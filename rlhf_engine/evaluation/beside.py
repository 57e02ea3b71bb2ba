"""What is answered beside the training, by the weights of the moment: nothing that goes wrong with it ends a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rlhf_engine.errors import ModelError, NonFiniteError, RewardError
from rlhf_engine.events import Event, Notice
from rlhf_engine.models.memory import out_of_memory

T = TypeVar("T")


class Beside:
    """Attempts at answers of one kind. What would fail again is said once, and then not attempted any more."""

    def __init__(self, name: str, emit: Callable[[Event], None], *, plural: bool = False, done: str = "answered"
                 ) -> None:
        """name: what is not `done`, at the beginning of a sentence."""
        self.given_up = False
        self._name, self._emit, self._done = name, emit, done
        self._was, self._is = ("were", "are") if plural else ("was", "is")

    def attempt(self, step: int, answer: Callable[[], T]) -> T | None:
        """What `answer` returns after `step`; None, and said, where it fails for what is no bug of ours."""
        try:
            return answer()
        except NonFiniteError as error:  # of these weights; the run may yet go back to others
            self._tell(f"{self._name} {self._was} not {self._done} after step {step}: {error}")
            return None
        except (ModelError, RewardError) as error:
            why = str(error)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            why = "out of memory"
        self.given_up = True
        self._tell(f"{self._name} {self._is} not {self._done} any more in this run: {why}")
        return None

    def _tell(self, text: str) -> None:
        self._emit(Notice(text, "warning"))
