"""Asks whether the code of a reward may run, and shows it: a file that somebody named is no reason to run it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.errors import CodeInQuestion
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.widgets.dialogs import DIALOG_STYLES
from rlhf_tui.widgets.screen import BaseDialog

# a key that was typed for what was there before must not agree to what nobody has seen
READ_SECONDS = 0.5
_LINES, _LETTERS = 1000, 60_000  # of a file that are shown
_FILES = 12

Answer = Callable[[bool | None], object]


class TrustScreen(BaseDialog[bool]):
    """Dismisses with True if a person agrees to run the code from now on; all that wait for that hear of it."""

    CSS_PATH = DIALOG_STYLES
    AUTO_FOCUS = "#code"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "agree", "Trust it", tooltip="Run this code, now and from now on", id="trust.yes"),
        Binding("n,escape,enter", "back", "No", tooltip="Run nothing", id="trust.no"),
    ]

    def __init__(self, codes: tuple[CodeInQuestion, ...], changed: str = "") -> None:
        """codes: one or more files that would run. changed: in a sentence, what is other than before; else empty."""
        super().__init__()
        self._codes, self._changed = codes, changed
        self._waiting: list[tuple[tuple[CodeInQuestion, ...], Answer, Callable[[], object]]] = []
        self._since = time.monotonic()

    def also(self, codes: tuple[CodeInQuestion, ...], answered: Answer, anew: Callable[[], object]) -> None:
        """Another who asks: `answered` is told the answer if it is about the same code, else `anew` is called after."""
        self._waiting.append((codes, answered, anew))

    def answer(self, agreed: bool | None) -> None:
        """Tell all who asked."""
        shown = [code.digest for code in self._codes]
        for codes, answered, anew in self._waiting:
            answered(agreed) if [code.digest for code in codes] == shown else anew()

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content("Changed code" if self._changed else "Code of a reward")
            box.border_subtitle = Content("y trust it · n Esc no · ↑↓ read")
            what = self._changed or "A reward of these settings is Python code, which can do all that you can."
            yield Static(Content(f"{clean_line(what)} Run it as it is, now and whenever its SHA-256 is the same?"),
                         id="text", markup=False)
            with VerticalScroll(id="code"):
                for code in self._codes:
                    yield Static(about(code), classes="about", markup=False)
                    yield Static(source(code), classes="source", markup=False)

    def on_mount(self) -> None:
        self._since = time.monotonic()

    def action_agree(self) -> None:
        """Trust it."""
        if time.monotonic() - self._since >= READ_SECONDS:
            self.dismiss(True)

    def action_back(self) -> None:
        """Run nothing."""
        self.dismiss(False)


def about(code: CodeInQuestion) -> Content:
    """Where the code lies, what it is known by, and which files run with it."""
    rows = [("file", _path(code.file)), ("SHA-256", code.digest)]
    if others := code.files[1:]:
        more = [f"and {len(others) - _FILES} more"] if len(others) > _FILES else []
        rows.append(("imports", "\n  ".join(["", *map(_path, others[:_FILES]), *more])))
    return Content("\n").join(Content.assemble((f"{name} ", "$text-muted"), text) for name, text in rows)


def source(code: CodeInQuestion) -> Content:
    """The lines of the file, or the first of them; none is cut off at its end, where something could hide."""
    lines = re.split("\r\n|\r|\n", code.source.rstrip())  # as Python does; what else breaks lines stays a sign in one
    text = "\n".join(lines[:_LINES])
    shown = clean_text(text[:_LETTERS])
    whole = len(text) <= _LETTERS and len(lines) <= _LINES
    rest = "" if whole else f"\n⚠ the file goes on, {len(lines):,} lines in all: read it there first"
    return Content.assemble(shown, (rest, "$text-warning bold"))


def _path(path: object) -> str:
    return clean_line(str(path))
