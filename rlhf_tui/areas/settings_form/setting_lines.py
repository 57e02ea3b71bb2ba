"""Draws the rows of the hyperparameter form as lines of text: a function of the state and the width."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from rlhf_tui.areas.settings_form.setting_form import SettingForm, heading
from rlhf_tui.areas.settings_form.setting_rows import LABEL_WIDTH, Row
from rlhf_tui.terminal.clean_text import clean_line

WRONG, LOCKED = "✗", "⊘"
CHANGED, OFF_PRESET = "•", "≠"
OPEN, SHUT = "▾", "▸"
VALUE_WIDTH = 16
_LEAST_VALUE = 11  # cells of a value that a label takes nothing of, where there are so many
_WIDE, _WITH_DEFAULT, _WIDEST = 56, 72, 96
_DEFAULT_WIDTH = 18


@dataclass
class Drawing:
    """The lines, and where in them each setting stands."""

    lines: list[Content] = field(default_factory=list)
    line_of: dict[str, int] = field(default_factory=dict)
    extra_of: dict[str, int] = field(default_factory=dict)
    label_width: int = LABEL_WIDTH
    value_width: int = VALUE_WIDTH

    @property
    def value_at(self) -> int:
        """The column where values begin: behind the mark of change, the label and a space."""
        return self.label_width + 2


def draw(form: SettingForm, width: int) -> Drawing:
    """The whole form for a pane `width` columns wide: a heading per group, a line per setting, problems below it."""
    drawing = Drawing(label_width=min(LABEL_WIDTH, max(width // 2, width - _LEAST_VALUE - 4)))
    drawing.value_width = VALUE_WIDTH if width >= _WIDE else max(1, width - drawing.value_at - 2)
    lines: list[Content] = []
    for group, rows in form.groups():
        drawing.line_of[heading(group)] = len(lines)
        lines.append(_heading(group, rows, form, width))
        for row in () if form.shut(group) else rows:
            drawing.line_of[row.path] = len(lines)
            lines.append(_line(row, form, drawing, width))
            below = _problem(form.drafts[row.path][1], width) if row.path in form.drafts else []
            drawing.extra_of[row.path] = len(below)
            lines.extend(below)
    if not lines and form.rows:
        lines = _problem(f"no setting holds “{clean_line(form.wanted.strip())}”", width)
    drawing.lines = lines
    return drawing


def _heading(group: str, rows: list[Row], form: SettingForm, width: int) -> Content:
    """The title and, of what is folded away, how much there is and what became of it."""
    shut, told = form.shut(group), ""
    if shut:
        marks = ((CHANGED, sum(map(form.changed, rows))), (OFF_PRESET, sum(map(form.off_preset, rows))),
                 (WRONG, sum(row.path in form.drafts for row in rows)))
        told = " ".join([f" {len(rows)}", *(f"{mark}{count}" for mark, count in marks if count)])
    here = form.focused and heading(group) == form.cursor
    return _drawn_heading(f"{SHUT if shut else OPEN} {clean_line(group)} ", told, here, width)


@lru_cache(maxsize=1024)
def _drawn_heading(title: str, told: str, here: bool, width: int) -> Content:
    room = width - len(told)
    line = Content.styled(set_cell_size(_cut(title.ljust(room, "─"), room) + told, width), "$text-primary")
    return _under_cursor(line, width) if here else line


@dataclass(frozen=True)
class _Look:
    """All that the line of a setting depends on."""

    label: str
    choice: bool
    unit: str
    help: str
    text: str
    default: str
    wrong: bool
    locked: bool
    mark: str
    here: bool
    label_width: int
    value_width: int
    width: int


def _line(row: Row, form: SettingForm, drawing: Drawing, width: int) -> Content:
    setting = row.setting
    return _drawn(_Look(
        row.label, setting.kind in ("choice", "bool"), setting.unit, setting.help, form.shown(row),
        clean_line(form.default(row)), row.path in form.drafts, form.locked(row),
        CHANGED if form.changed(row) else OFF_PRESET if form.off_preset(row) else " ",
        form.focused and row.path == form.cursor, drawing.label_width, drawing.value_width, width,
    ))  # fmt: skip


@lru_cache(maxsize=1024)
def _drawn(look: _Look) -> Content:
    """A line; the same object for the same look, by which what has not changed is known."""
    width, usual = look.width, look.text == look.default
    text = f"‹{look.text}›" if look.choice and not look.locked else look.text
    mark, mark_style = (WRONG, "$text-error bold") if look.wrong else (LOCKED if look.locked else "", "dim")
    value_style = "$text-error" if look.wrong else "dim" if look.locked else "" if usual else "bold"
    parts = [
        Content.styled(look.mark, "$text-accent bold"),
        Content.styled(_cut(look.label, look.label_width) + " ", "dim" if look.locked else ""),
        # without a mark behind it, the value has the room of one
        Content.styled(_cut(text, look.value_width + (0 if mark else 2)), value_style),
        Content.styled(f" {mark}" if mark else "", mark_style),
    ]
    if width >= _WIDE:
        about = f"  {look.unit:18.18}  {look.help}" if width >= _WIDEST else f"  {look.help}"
        if width >= _WITH_DEFAULT:
            about = _cut("" if usual or not look.default else f"  default {look.default}", _DEFAULT_WIDTH) + about
        parts.append(Content.styled(_cut(about, width - look.label_width - look.value_width - 4), "dim"))
    line = Content("").join(parts)
    line = Content.assemble(line[:width]) if line.cell_length > width else line
    return _under_cursor(line, width) if look.here else line


def _under_cursor(line: Content, width: int) -> Content:
    return line.pad_right(width - line.cell_length).stylize("$block-cursor-foreground on $block-cursor-background")


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
