"""The border to other people's libraries while they read other people's files.

Whatever odd values in a model's files lead to, it ends in one ModelError: exceptions of every kind, and panics of code
in Rust, which Python sees as a BaseException of a class that nobody can name. What is written past Python meanwhile,
the backtrace of a panic say, is text that commands no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rlhf_engine.errors import ModelError, RlhfError
from rlhf_engine.system.streams import cleaned


def is_panic(error: BaseException) -> bool:
    """True for what a panic in Rust is in Python."""
    return type(error).__name__ == "PanicException"


@contextmanager
def foreign(sentence: Callable[[BaseException], str]) -> Iterator[None]:
    """Turns all that is raised inside, but what we raise ourselves and what ends a program, into a ModelError.

    sentence: what the user reads of it.
    """
    try:
        with cleaned():
            yield
    except RlhfError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise ModelError(sentence(error)) from error
