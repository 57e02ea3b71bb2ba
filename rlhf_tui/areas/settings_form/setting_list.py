"""The scrolled lines of the hyperparameter form, and the one field that lies over the line being edited."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Region
from textual.selection import Selection
from textual.strip import Strip
from textual.visual import Visual
from textual.widget import Widget

from rlhf_tui.areas.settings_form.setting_form import SettingForm
from rlhf_tui.areas.settings_form.setting_lines import Drawing, draw
from rlhf_tui.widgets.inputs import EditField
from rlhf_tui.widgets.selecting import selected_text, with_selection


class Lines(Widget):
    """Lines of text, of which only those in view are rendered, and only those that changed are drawn again."""

    DEFAULT_CSS = "Lines { width: 100%; height: 1; }"

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Content] = []

    def show(self, lines: list[Content]) -> None:
        """Put `lines` in the place of those so far. One that is the very same object is taken to be unchanged."""
        before, self._lines = self._lines, lines
        if len(before) != len(lines):
            self.styles.height = max(1, len(lines))
            self.refresh()
        elif changed := [Region(0, y, self.size.width, 1) for y, line in enumerate(lines) if line is not before[y]]:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """The line at `y`, as wide as the widget."""
        if y >= len(self._lines):
            return Strip.blank(self.size.width, self.rich_style)
        strips = Visual.to_strips(self, self._lines[y], self.size.width, 1, self.visual_style, apply_selection=False)
        return with_selection(self, strips[0], y)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The lines as they are shown."""
        return selected_text(selection, len(self._lines), lambda line: self._lines[line].plain)


class SettingList(VerticalScroll):
    """Draws a form; its owner moves the cursor and opens the field."""

    DEFAULT_CSS = """
    SettingList { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    SettingList EditField { position: absolute; display: none; }
    SettingList EditField.-wrong { color: $text-error; }
    """

    def __init__(self, form: SettingForm, **options: Any) -> None:
        super().__init__(can_focus=False, **options)
        self.field = EditField()
        self._form = form
        self._lines = Lines()
        self._drawing = Drawing()

    def compose(self) -> ComposeResult:
        yield self._lines
        yield self.field

    def draw(self, width: int, editing: str | None) -> None:
        """Draw the form in `width` columns, the field over the line of the setting at `editing`."""
        self._drawing = drawing = draw(self._form, width)
        self._lines.show(drawing.lines)
        self.field.display = editing is not None
        if editing is not None:
            self.field.styles.offset = (drawing.value_at, drawing.line_of.get(editing, 0))
            self.field.styles.width = max(1, drawing.value_width)
            self.field.set_class(editing in self._form.drafts, "-wrong")

    def scroll_to_cursor(self) -> None:
        """Bring the cursor's line into view, with what is said below it."""
        first = self._drawing.line_of.get(self._form.cursor, 0)
        height = 1 + self._drawing.extra_of.get(self._form.cursor, 0)
        if first == 1:
            first, height = 0, height + 1  # its heading, too
        self.call_after_refresh(self.scroll_to_region, Region(0, first, 1, height), animate=False, force=True)

    def key_at(self, line: int) -> str | None:
        """The key of what stands `line` lines below the top of the visible part."""
        line += round(self.scroll_y)
        return next((key for key, first in self._drawing.line_of.items()
                     if first <= line <= first + self._drawing.extra_of.get(key, 0)), None)
