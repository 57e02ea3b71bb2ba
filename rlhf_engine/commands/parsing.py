"""The command line as it is parsed: what was typed may be the name of a file that a shell filled in."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import typer
from typer.core import TyperGroup

from rlhf_engine.system.streams import clean_stderr
from rlhf_engine.system.visible_text import one_line

_WrongUsage = cast(type[Exception], typer.BadParameter.__base__)  # typer does not export it


class CommandLine(TyperGroup):
    """All commands. A mistake in what was typed is told on one line, in which it commands no terminal."""

    _typed: tuple[str, ...] = ()

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        """Parse and run; leaves by SystemExit."""
        clean_stderr()
        self._typed = tuple(sys.argv[1:] if args is None else args)
        return super().main(args, *more, **extra)

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Parse what stands before a command."""
        with self._on_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Parse the rest, and run the command."""
        with self._on_one_line():
            return super().invoke(ctx)

    @contextmanager
    def _on_one_line(self) -> Iterator[None]:
        try:
            yield
        except _WrongUsage as error:
            if any(text != one_line(text) for text in self._typed):
                error.message = one_line(error.message)  # type: ignore[attr-defined]
            raise
