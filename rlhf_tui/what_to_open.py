"""Whether a screen can be opened here, and which preset where none is named. Imports little before it is asked."""

from __future__ import annotations

import os

PRESET = "animals"
"""The preset that is opened when none is named."""


def no_screen() -> str:
    """Why the workbench cannot be shown here; empty where it can."""
    from rlhf_engine.system.streams import on_a_terminal

    if not on_a_terminal():
        return "this is no terminal"
    if os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return f"this terminal cannot show a screen (TERM={os.environ.get('TERM', '')})"
    return ""


def preset_of_last_time() -> tuple[str, str]:
    """The preset to open where none is named, and a sentence about it where that is not the usual one."""
    from rlhf_engine.config import presets
    from rlhf_engine.errors import ConfigError
    from rlhf_tui.areas.preferences.preferences_file import load, settings_path

    last = load(settings_path()).settings.last_preset
    if last in ("", PRESET):
        return PRESET, ""
    try:
        presets.load(last)
    except ConfigError as error:
        return PRESET, f"{PRESET} is open, since the preset of last time is not: {error.problems[0]}"
    return last, f"preset {last}, as last time: F5 starts it · p loads another · ? shows all keys"
