"""The settings of two runs side by side: only what differs."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.runs.run_settings import Difference, differences
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.dialogs import DIALOG_STYLES
from rlhf_tui.widgets.screen import BaseDialog


class DifferencesScreen(BaseDialog[None]):
    """A table of path, left and right; ↑ ↓ scroll it."""

    CSS_PATH = DIALOG_STYLES
    VERTICAL_BREAKPOINTS = [(0, "-tight"), (14, "-tall")]  # noqa: RUF012 (so the base class declares it)
    AUTO_FOCUS = "VerticalScroll"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,i,q", "back", "Back", id="differences.back")]

    def __init__(self, names: tuple[str, str], configs: tuple[RunConfig, RunConfig]) -> None:
        super().__init__()
        self._names = names
        self._found = differences(*configs)
        self._rows = Static("", id="rows", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            count = len(self._found)
            box.border_title = Content(f"{count} setting{'' if count == 1 else 's'} differ{'s' if count == 1 else ''}")
            box.border_subtitle = Content("↑↓ scroll · Esc back")
            with VerticalScroll():
                yield self._rows

    def on_mount(self) -> None:
        self._draw()

    def on_resize(self, _: events.Resize) -> None:
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        width = self._rows.size.width or self.app.size.width - 6
        self._rows.update(differences_table(self._names, self._found, width))

    def action_back(self) -> None:
        """Leave."""
        self.dismiss(None)


def differences_table(names: tuple[str, str], found: list[Difference], width: int) -> Content:
    """The table in `width` columns; where that is too narrow for three, the values stand below their path."""
    if not found:
        return Content("both have the same settings")
    rows = [(clean_line(item.path), _value(item.left), _value(item.right)) for item in found]
    first = max(len(path) for path, _, _ in rows) + 2
    rest = (width - first) // 2
    heads = [clean_line(name) for name in names]
    if rest < 14:
        lines = [Content.assemble((path, "bold"), f"\n  {heads[0]}: ", left, f"\n  {heads[1]}: ", right)
                 for path, left, right in rows]
        return Content("\n").join(lines)
    table = [Content.styled("".ljust(first), "") + _cell(Content.styled(heads[0], "bold"), rest)
             + Content.styled(heads[1], "bold").truncate(rest, ellipsis=True)]
    for path, left, right in rows:
        cells = [left.wrap(rest - 2), right.wrap(rest - 2)]
        for line in range(max(map(len, cells))):
            parts = [cell[line] if line < len(cell) else Content("") for cell in cells]
            table.append(Content.styled((path if line == 0 else "").ljust(first), "$text-muted")
                         + _cell(parts[0], rest) + parts[1])
    return Content("\n").join(table)


def _cell(content: Content, width: int) -> Content:
    return content.truncate(width - 2, ellipsis=True, pad=True) + Content("  ")


def _value(value: str | None) -> Content:
    return Content.styled("–", "$text-muted") if value is None else Content(clean_line(value) or "empty")
