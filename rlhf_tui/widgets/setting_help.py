"""The lines at the foot of the form: what the setting under the cursor does, what it may be, and what it was."""

from __future__ import annotations

from textual.content import Content

from rlhf_engine.fields import show, value_at
from rlhf_tui.clean_text import clean_line
from rlhf_tui.widgets.setting_lines import FormState
from rlhf_tui.widgets.setting_rows import LOCKED_REASON, Row


def setting_help(row: Row, state: FormState, editing: bool) -> Content:
    """Help, what is allowed, and then the most useful of: why it is locked, what it was, when it takes effect."""
    unit = f" ({row.setting.unit})" if row.setting.unit else ""
    lines = [Content.assemble((row.path, "bold"), " ", clean_line(row.setting.help) + unit)]
    if state.training and not row.setting.live:
        return lines[0].append("\n").append_text(LOCKED_REASON, "$text-warning")
    lines.append(Content.styled(f"{row.setting.allowed} · {_keys(row, editing)}", "dim"))
    if row.path in state.changed() and state.baseline is not None:
        was = clean_line(show(value_at(state.baseline, row.path)))
        since = " at the start of the run" if state.training else ""
        lines.append(Content.styled(f"was {was}{since}", "$text-accent"))
    elif state.training:
        lines.append(Content.styled("a change takes effect at the next step", "dim"))
    return Content("\n").join(lines)


def _keys(row: Row, editing: bool) -> str:
    if editing:
        return "Enter applies, Esc restores"
    return "← → change it" if row.setting.kind in ("choice", "bool") else "Enter edits"
