"""Hands a text to the user's own editor ($VISUAL, else $EDITOR), with the terminal as the editor expects it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

from rlhf_engine.errors import ConfigError, first_line
from rlhf_engine.files.disk import os_error_reason, write_new
from rlhf_engine.system.streams import terminal_gone
from rlhf_tui.terminal.clean_text import clean_text

_LOOK_SECONDS = 0.5  # between two looks at whether the terminal is still there
_GOING_SECONDS = 2.0  # for an editor to save what it has, once the terminal has gone
_USUAL = ("sensible-editor", "nano", "vi")


def edited(app: App[Any], text: str, name: str) -> str:
    """`text` as the user left it in the editor, in a file called `name`. Waits; a run goes on meanwhile, unseen.

    Raises ConfigError in one sentence when there is no editor, it fails, or the terminal goes away: nothing is changed
    then.
    """
    command = _command()
    with tempfile.TemporaryDirectory(prefix="rlhf-tui-") as folder:
        file = Path(folder) / name
        try:
            write_new(file, text)
            with app.suspend():
                code, failed = _run([*command, str(file)])  # what is raised here would leave the screen put away
            if failed:
                raise failed
            app.refresh(layout=True)
            if code:
                raise ConfigError(f"the editor {command[0]} ended with {code}: nothing was changed")
            return clean_text(file.read_text(encoding="utf-8"))
        except SuspendNotSupported as error:
            raise ConfigError("this terminal cannot be handed to an editor") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"what the editor left is not UTF-8 text (byte {error.start}): nothing was changed"
                              ) from error
        except OSError as error:
            raise ConfigError(f"the editor {command[0]} could not be used: {os_error_reason(error)}") from error


def _run(command: list[str]) -> tuple[int, OSError | None]:
    """The editor's exit code once it has ended; or why it could not be started."""
    try:
        editor = subprocess.Popen(command)
    except OSError as error:
        return 1, error
    while not terminal_gone(0):
        with suppress(subprocess.TimeoutExpired):
            return editor.wait(_LOOK_SECONDS), None
    # what the kernel tells those whose terminal it is; an editor that stays all the same is waited for no longer
    editor.send_signal(signal.SIGHUP)
    with suppress(subprocess.TimeoutExpired):
        editor.wait(_GOING_SECONDS)
    return 128 + signal.SIGHUP, None


def _command() -> list[str]:
    """The editor and its arguments. Raises ConfigError when there is none."""
    for variable in ("VISUAL", "EDITOR"):
        if named := os.environ.get(variable, "").strip():
            try:
                return shlex.split(named)
            except ValueError as error:
                raise ConfigError(f"${variable} is no command: {first_line(error).lower()}") from error
    for name in _USUAL:
        if shutil.which(name):
            return [name]
    raise ConfigError("there is no editor: set VISUAL or EDITOR to one")
