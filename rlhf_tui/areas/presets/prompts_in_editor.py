"""All prompts in the user's own editor: a line each, or as JSON lines where one has several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from textual.app import App

from rlhf_engine.errors import ConfigError
from rlhf_engine.files.json_text import to_json
from rlhf_engine.system.visible_text import visible
from rlhf_tui.terminal.own_editor import edited


def prompts_from_editor(app: App[Any], prompts: Sequence[str]) -> list[str]:
    """The prompts as the user left them. Raises ConfigError in one sentence when there is nothing to be had of them."""
    # as JSON, too, what an editor, or the terminal below it, would obey
    several = any("\n" in prompt or visible(prompt) != prompt for prompt in prompts)
    lines = [to_json(prompt, ascii_only=False) if several else prompt for prompt in prompts]
    text = edited(app, "\n".join(lines) + "\n", "prompts.jsonl" if several else "prompts.txt")
    return [_json(line, at) if several else line for at, line in enumerate(text.split("\n"), 1) if line.strip()]


def _json(line: str, number: int) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, str):
        raise ConfigError(f"line {number} is no JSON string: nothing was changed")
    return value
