"""The log of the run: what reward functions, libraries and child processes printed, and tracebacks of what failed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.files.reading import open_regular
from rlhf_tui.background import run_in_background
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.terminal.clipboard import copy
from rlhf_tui.widgets.screen import BaseDialog

TAIL_BYTES = 64 * 1024
_LOOK_SECONDS = 1.0
_HINT = "Home End ↑↓ scroll · y copy · Esc close"


def last_lines(path: Path, most: int = TAIL_BYTES) -> str:
    """The last lines of a file, of `most` bytes together, fit to be shown; empty if there is no such file.

    Of what a progress bar wrote over itself, only the last is shown.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most))
            data = file.read(most)
    except OSError:
        return ""
    text = (data.partition(b"\n")[2] if size > most else data).decode("utf-8", "replace")
    return clean_text("\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")))


_Seen = tuple[float, int] | None


class OutputScreen(BaseDialog[None]):
    """Shows the end of a log, and follows it while it grows, unless somebody reads further up."""

    DEFAULT_CSS = """
    OutputScreen { align: center middle; background: $background 60%; }
    OutputScreen > VerticalScroll {
        width: 94%; height: auto; max-height: 86%; min-height: 5;
        border: round $border; background: $surface; padding: 0 1; scrollbar-size-vertical: 1;
    }
    OutputScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,L,enter", "dismiss", "Close", id="output.close"),
        Binding("y", "copy", "Copy", tooltip="Copy what is shown", id="output.copy"),
        Binding("question_mark,f1", "app.help", "Help", show=False),
    ]

    def __init__(self, path: Path, whose: str) -> None:
        """whose: the name of the run, clean; empty where the log belongs to none."""
        super().__init__()
        self._path, self._whose = path, whose
        self._seen: _Seen = None
        self._looking = False
        self._shown = ""
        self._text = Static("", markup=False)

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = Content(f"Output of run {self._whose}" if self._whose else "Output while no run trained")
            box.border_subtitle = Content(_HINT)
            yield self._text

    def on_mount(self) -> None:
        self._look_again()
        self.set_interval(_LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        if not self._looking:  # a disk that does not answer is asked once
            self._looking = True
            run_in_background(self, self._look, self._take, lambda why: self._take((self._seen, why)))

    def _look(self) -> tuple[_Seen, str] | None:
        """What tells the file from what it was, and its end; None where nothing changed. In a thread."""
        try:
            found = self._path.lstat()
            seen = found.st_mtime, found.st_size
        except OSError:
            seen = 0.0, 0
        return None if seen == self._seen else (seen, last_lines(self._path))

    def _take(self, found: tuple[_Seen, str] | None) -> None:
        self._looking = False
        if found is None:
            return
        self._seen, text = found
        box = self.query_one(VerticalScroll)
        follows = not self._shown or box.scroll_offset.y >= box.max_scroll_y
        self._shown = text
        nothing = ("nothing was printed so far: what reward functions, libraries and child processes print, and the "
                   f"traceback of a reward that fails, comes here and into {clean_line(str(self._path))}")
        self._text.update(Content(self._shown.rstrip("\n") or nothing))
        if follows:
            self.call_after_refresh(box.scroll_end, animate=False)

    def action_copy(self) -> None:
        """Copy what is shown."""
        self.query_one(VerticalScroll).border_subtitle = Content(copy(self.app, self._shown))
