"""The lines at the foot of the form: what the setting under the cursor does, what it may be, and what it was."""

from __future__ import annotations

from textual.content import Content

from rlhf_engine.config.fields import show, value_at
from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.areas.settings_form.setting_form import SettingForm
from rlhf_tui.areas.settings_form.setting_rows import Row
from rlhf_tui.terminal.clean_text import clean_line


def setting_help(row: Row, form: SettingForm, editing: bool) -> Content:
    """Help, the values it could go back to, and why it is locked or what is allowed; the foot may cut the end off."""
    unit = f" ({row.setting.unit})" if row.setting.unit else ""
    lines = [Content.assemble((row.path, "bold"), " ", clean_line(row.setting.help) + unit)]
    if refusal := form.refusal(row):
        return Content("\n").join([*lines, Content.styled(refusal, "$text-warning"), *_values(row, form)])
    about = Content.styled(f"{row.setting.allowed} · {_keys(row, form, editing)}", "dim")
    lines += [about, *_values(row, form)] if editing else [*_values(row, form), about]
    if form.training and not form.changed(row):
        lines.append(Content.styled("takes effect at the next step", "dim"))
    return Content("\n").join(lines)


def heading_help(form: SettingForm) -> Content:
    """What can be done with a heading, and what the marks say."""
    return Content.assemble((clean_line(form.group), "bold"), "\n",
                            ("Enter, ← → fold and open · − + all of them", "dim"), "\n",
                            ("• changed since the run began · ≠ not the preset's · ⊘ fixed during a run", "dim"))


def _values(row: Row, form: SettingForm) -> list[Content]:
    """A line: the default; and the preset's value and that of the run's start where they are others than now."""
    default = form.default(row)
    parts = [Content.styled(f"default {clean_line(default)}", "dim")] if default else []
    if form.off_preset(row):
        parts.append(Content.styled(f"preset {_at(form.preset, row)}", "$text-accent"))
    if form.changed(row):
        parts.append(Content.styled(f"at the start of the run {_at(form.start, row)}", "$text-accent"))
    return [Content(" · ").join(parts)] if parts else []


def _at(config: RunConfig | None, row: Row) -> str:
    return clean_line(show(value_at(config, row.path))) if config else ""


def _keys(row: Row, form: SettingForm, editing: bool) -> str:
    if editing:
        return "Enter applies, Esc restores"
    keys = "← → change it" if row.setting.kind in ("choice", "bool") else "Enter edits"
    return f"{keys}, Del resets" if form.off_preset(row) else keys
