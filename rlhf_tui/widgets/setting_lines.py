"""Draws the rows of the hyperparameter form as lines of text: a function of the state and the width."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from rlhf_engine.config import RunConfig
from rlhf_engine.fields import changed_settings, show, value_at
from rlhf_tui.clean_text import clean_line
from rlhf_tui.widgets.setting_rows import LABEL_WIDTH, Row

VALID, WRONG, LOCKED, CHANGED = "✓", "✗", "⊘", "•"
VALUE_WIDTH = 16
_WIDE, _WIDEST = 56, 96


@dataclass
class FormState:
    """What the form knows. drafts: path -> (what is written, why it is not allowed)."""

    config: RunConfig | None = None
    baseline: RunConfig | None = None
    training: bool = False
    focused: bool = False
    cursor: str = ""
    drafts: dict[str, tuple[str, str]] = field(default_factory=dict)

    def changed(self) -> set[str]:
        """Paths whose value is not that of the baseline."""
        if self.config is None or self.baseline is None:
            return set()
        try:
            return set(changed_settings(self.baseline, self.config))
        except (AttributeError, IndexError):
            return set()  # other kinds of rewards: nothing to compare line by line


@dataclass
class Drawing:
    """The lines, and where in them each setting stands."""

    content: Content = field(default_factory=Content)
    line_of: dict[str, int] = field(default_factory=dict)
    extra_of: dict[str, int] = field(default_factory=dict)
    label_width: int = LABEL_WIDTH
    value_width: int = VALUE_WIDTH

    @property
    def value_at(self) -> int:
        """The column where values begin: behind the mark of change, the label and a space."""
        return self.label_width + 2


def draw(rows: list[Row], state: FormState, width: int) -> Drawing:
    """The whole form for a pane `width` columns wide: a heading per group, a line per setting, problems below it."""
    drawing = Drawing(label_width=min(LABEL_WIDTH, width // 2))
    drawing.value_width = VALUE_WIDTH if width >= _WIDE else max(1, width - drawing.value_at - 2)
    changed = state.changed()
    lines: list[Content] = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append(_heading(group, width))
        drawing.line_of[row.path] = len(lines)
        lines.append(_line(row, state, row.path in changed, drawing, width))
        below = _problem(state.drafts[row.path][1], width) if row.path in state.drafts else []
        drawing.extra_of[row.path] = len(below)
        lines.extend(below)
    drawing.content = Content("\n").join(lines)
    return drawing


def _heading(title: str, width: int) -> Content:
    return Content.styled(set_cell_size(f"{clean_line(title)} ".ljust(width, "─"), width), "$text-primary")


def _line(row: Row, state: FormState, changed: bool, drawing: Drawing, width: int) -> Content:
    assert state.config is not None
    wrong, locked = row.path in state.drafts, state.training and not row.setting.live
    text = state.drafts[row.path][0] if wrong else clean_line(show(value_at(state.config, row.path)))
    if row.setting.kind in ("choice", "bool") and not locked:
        text = f"‹{text}›"
    mark, mark_style = (LOCKED, "dim") if locked else (VALID, "$text-success dim")
    if wrong:
        mark, mark_style = WRONG, "$text-error bold"
    value_style = "$text-error" if wrong else "dim" if locked else "bold" if changed else ""
    label_style = "dim" if locked else ""
    here = state.focused and row.path == state.cursor
    parts = [
        Content.styled(CHANGED if changed else " ", "$text-accent bold"),
        Content.styled(_cut(row.label, drawing.label_width) + " ", label_style),
        Content.styled(_cut(text, drawing.value_width), value_style),
        Content.styled(f" {mark}", mark_style),
    ]
    if width >= _WIDE:
        unit = f"{row.setting.unit:18.18}  " if width >= _WIDEST else ""
        about = f"  {unit}{row.setting.help}"
        parts.append(Content.styled(_cut(about, width - drawing.value_at - drawing.value_width - 2), "dim"))
    line = Content("").join(parts)
    line = Content.assemble(line[:width]) if line.cell_length > width else line
    return line.pad_right(width - line.cell_length).stylize("$block-cursor-foreground on $block-cursor-background") \
        if here else line


def _problem(sentence: str, width: int) -> list[Content]:
    """The sentence in lines that fit, the first led in by a corner."""
    room, lines, line = max(4, width - 4), [], ""
    for word in sentence.split():
        if line and cell_len(line) + 1 + cell_len(word) > room:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    lines.append(line)
    return [
        Content.styled(set_cell_size(("  └ " if index == 0 else "    ") + line, width), "$text-error")
        for index, line in enumerate(lines)
    ]


def _cut(text: str, width: int) -> str:
    """`text` in exactly `width` columns, with … where something is left out."""
    if width <= 0:
        return ""
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
