"""Copying: to the terminal's clipboard (OSC 52), and to a file for terminals that do not listen; pictures to a file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import platformdirs
from textual.app import App

from rlhf_engine.files.disk import os_error_reason, replace_text
from rlhf_engine.files.own_files import own_folder
from rlhf_engine.system.visible_text import visible


def copy(app: App[None], text: str) -> str:
    """Copy `text`; a sentence that says where it went."""
    text = visible(text)
    app.copy_to_clipboard(text)
    try:
        path = _folder() / "copied.txt"
        replace_text(path, text)
    except OSError as error:
        return f"sent to the terminal's clipboard; not written to a file: {os_error_reason(error)}"
    return f"sent to the terminal's clipboard (OSC 52), and written to {path}"


def save_picture(app: App[None]) -> str:
    """Write the screen as it stands into an SVG file; a sentence that says where it lies."""
    name = f"screen-{datetime.now():%Y%m%d-%H%M%S}.svg"
    try:
        path = _folder() / name
        replace_text(path, visible(app.export_screenshot()))
    except OSError as error:
        return f"the picture was not written: {os_error_reason(error)}"
    return f"the screen as a picture: {path}"


def _folder() -> Path:
    """Of this user's files; a file system may refuse (OSError)."""
    return own_folder(Path(platformdirs.user_state_dir("rlhf-tui", appauthor=False)))
