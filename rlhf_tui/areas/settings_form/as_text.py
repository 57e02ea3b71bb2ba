"""All settings as TOML in the user's own editor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textual.app import App

from rlhf_engine.errors import RlhfError
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.terminal.clean_text import clean_line

_NAME = "settings.toml"


def edit_as_text(app: App[Any], edited: EditedConfig, text: str | None = None) -> None:
    """Hand the terminal to the editor, then take what was written. text: what was written there before, and was not
    allowed."""
    from rlhf_engine.config.preset_text import parse
    from rlhf_engine.config.preset_writer import to_toml
    from rlhf_tui.terminal.own_editor import edited as text_from_editor
    from rlhf_tui.widgets.dialogs import SureScreen

    if edited.read_only():
        return
    try:
        written = text_from_editor(app, to_toml(edited.config) if text is None else text, _NAME)
    except RlhfError as error:
        app.notify(clean_line(str(error)), severity="warning")
        return
    try:
        config = parse(written, _NAME, Path.cwd())
    except RlhfError as error:
        asked = SureScreen("Not allowed", f"{error}\n\nOpen the editor again, with what was written?", lambda: None)
        app.push_screen(asked, lambda again: edit_as_text(app, edited, written) if again else None)
        return
    edited.replace_by_text(config)
