"""Copying: to the terminal's clipboard (OSC 52), and to a file for terminals that do not listen."""

from __future__ import annotations

from pathlib import Path

import platformdirs
from textual.app import App


def copy(app: App[None], text: str) -> str:
    """Copy `text`; a sentence that says where it went."""
    app.copy_to_clipboard(text)
    try:
        folder = Path(platformdirs.user_state_dir("rlhf-tui", appauthor=False, ensure_exists=True))
        path = folder / "copied.txt"
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        return f"sent to the terminal's clipboard; not written to a file: {error.strerror}"
    return f"sent to the terminal's clipboard (OSC 52), and written to {path}"
