"""The list of runs: one line each, drawn only where it is seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from rlhf_engine.runs.run_list import RunSummary
from rlhf_tui.areas.runs.run_rows import Figures, heading, run_line
from rlhf_tui.widgets.line import line_strip
from rlhf_tui.widgets.selecting import selected_text, with_selection

Row = tuple[int, RunSummary]


class RunTable(ScrollView, can_focus=True):
    """The cursor stays on its run when the list changes around it. The first line names the columns."""

    DEFAULT_CSS = """
    RunTable { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    RunTable > .runs--cursor {
        background: $block-cursor-blurred-background; text-style: $block-cursor-blurred-text-style;
    }
    RunTable:focus > .runs--cursor {
        background: $block-cursor-background; color: $block-cursor-foreground; text-style: none;
    }
    RunTable > .runs--empty { color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"runs--cursor", "runs--empty"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-1000000)", "First", show=False),
        Binding("end", "move(1000000)", "Last", show=False),
        Binding("enter", "open", "Open", tooltip="Show the run on the workbench, without driving it", id="runs.open"),
    ]

    class Moved(Message):
        """The cursor stands on another run, or on none."""

    @dataclass
    class Opened(Message):
        """Enter on a run."""

        run: RunSummary

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.rows: list[Row] = []
        self.marked: list[Path] = []
        self.shown_run: Path | None = None
        """The run that the workbench shows."""
        self.metric: str | None = None
        """A metric that has a column of its own."""
        self.folds: dict[Path, str] = {}
        """What stands before the names of those that have lines below them."""
        self.short: dict[Path, str] = {}
        """What the name of a run is cut to, where the line above it says the rest."""
        self.empty_text = ""
        self._figures: Figures = {}
        self._at: Path | None = None
        self._next: Path | None = None  # where the cursor goes as soon as that is listed
        self._drawn: object = None

    @property
    def cursor(self) -> int:
        """The line of the cursor."""
        return next((line for line, (_, run) in enumerate(self.rows) if run.path == self._at), 0)

    @property
    def selected(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.rows[self.cursor][1] if self.rows else None

    def show(self, rows: Sequence[Row], figures: Figures) -> None:
        """Other lines, or other figures; draws only if anything differs."""
        line = self.cursor
        self.rows, self._figures = list(rows), figures
        if self._next in {run.path for _, run in self.rows}:
            self._at, self._next = self._next, None
        if self.rows and self._at not in {run.path for _, run in self.rows}:
            self._at = self.rows[min(line, len(self.rows) - 1)][1].path  # the run is gone: on with its neighbour
        self.redraw()
        self.post_message(self.Moved())

    def redraw(self) -> None:
        """Draw what has changed."""
        minute = int(time.time() // 60)
        drawn = (self.rows, dict(self._figures), tuple(self.marked), self.shown_run, self._at, minute, self.empty_text,
                 self.metric, tuple(self.folds.items()), tuple(self.short.items()))
        if drawn != self._drawn:
            self._drawn = drawn
            self.virtual_size = Size(self.scrollable_content_region.width, max(1, len(self.rows) + 1))
            self.refresh()

    def action_move(self, by: int) -> None:
        """Move the cursor; the ends hold."""
        self.go(self.cursor + by)

    def action_page(self, direction: int) -> None:
        """Move by what is visible."""
        self.go(self.cursor + direction * max(1, self.size.height - 2))

    def action_open(self) -> None:
        """Open the run under the cursor."""
        if self.selected is not None:
            self.post_message(self.Opened(self.selected))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to a line; on the cursor's own line, open it."""
        if self.text_selection is not None:
            return  # the end of a drag that selects text
        line = event.y + self.scroll_offset.y - 1
        if line == self.cursor:
            self.action_open()
        elif event.y > 0:
            self.go(line)

    def point_at(self, path: Path) -> None:
        """Put the cursor on a run once it is listed."""
        self._next = path

    def go(self, line: int) -> None:
        """Put the cursor on a line."""
        if not self.rows:
            return
        line = max(0, min(line, len(self.rows) - 1))
        self._at = self.rows[line][1].path
        # two lines: the one above would lie under the heading
        self.scroll_to_region(Region(0, line, self.size.width, 2), animate=False, force=True)
        self.redraw()
        self.post_message(self.Moved())

    def on_resize(self, _: events.Resize) -> None:
        self._drawn = None
        self.redraw()

    # --- drawing ---

    def render_line(self, y: int) -> Strip:
        """The heading stays on top, whatever is scrolled."""
        line = y + self.scroll_offset.y if y else 0
        return with_selection(self, self._line(line), line)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The lines as they are shown."""
        return selected_text(selection, len(self.rows) + 1, lambda line: self._line(line).text)

    def _line(self, number: int) -> Strip:
        width, style, line = self.scrollable_content_region.width, self.visual_style, number - 1
        if number == 0:
            return line_strip(self, heading(width, self.metric), style)
        if line >= len(self.rows):
            text = self.empty_text if line == 0 else ""
            style += self.get_visual_style("runs--empty")
            return line_strip(self, Content(text).truncate(max(1, width), ellipsis=True, pad=True), style)
        depth, run = self.rows[line]
        named = replace(run, name=self.short[run.path]) if depth and run.path in self.short else run
        if run.path == self._at:
            style += self.get_visual_style("runs--cursor")
        return line_strip(self, 
            run_line(depth, named, self._figures.get(run.path), width, now=time.time(),
                     marked=run.path in self.marked, open=run.path == self.shown_run,
                     metric=self.metric, fold=self.folds.get(run.path, "")), style)
