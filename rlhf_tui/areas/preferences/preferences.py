"""Between the settings that are kept and the workbench that heeds them: what counts now, and when it is written."""

from __future__ import annotations

import locale
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rlhf_tui.areas.preferences.preferences_file import Settings, SettingsFile
from rlhf_tui.terminal.theme import AUTO, light_by_environment, theme_for

if TYPE_CHECKING:
    from rlhf_tui.areas.charts.charts import Charts

# terminals whose font has no braille
WITHOUT_BRAILLE = ("linux", "dumb", "vt100", "vt220")


class Preferences:
    """The user's settings while a workbench is open. `trouble` is the last sentence about them that nobody heard."""

    def __init__(self, file: SettingsFile | None = None) -> None:
        self._file = file or SettingsFile()
        self.trouble = self._file.problem
        self.light = light_by_environment(os.environ.get("COLORFGBG", ""))
        """Whether the terminal draws on a light ground, as far as is known."""

    @property
    def now(self) -> Settings:
        """What counts now."""
        return self._file.settings

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._file.path

    def theme(self, available: Collection[str], color_system: str | None) -> str:
        """The theme to show; what suits the terminal, and that is said, where the kept one does not exist."""
        suits = theme_for(color_system, light=self.light).name
        if self.now.theme == AUTO:
            return suits
        if self.now.theme not in available:
            self.trouble = self.trouble or f"there is no theme {self.now.theme}: {suits} is shown"
            return suits
        return self.now.theme

    def draws_ascii(self) -> bool:
        """True where charts are drawn without braille dots."""
        return draws_ascii(self.now.chart_marks, locale.getencoding(), os.environ.get("TERM", ""))

    def show_charts(self, charts: Charts) -> None:
        """Let the charts look as the settings say."""
        charts.shown, charts.smoothing = self.now.charts, self.now.smoothing
        charts.ascii, charts.drawing.redraw_seconds = self.draws_ascii(), 1 / self.now.redraws_per_second

    def note_charts(self, charts: Charts) -> None:
        """What was chosen on the charts themselves is kept as well."""
        self.note(charts=charts.shown, smoothing=charts.smoothing)

    def note(self, **values: Any) -> None:
        """These count from now on; written with the next `keep`. What cannot be kept (a name with a lone surrogate, a
        theme of another form) is left as it was.
        """
        for name, value in values.items():
            try:
                self._file.change(**{name: value})
            except ValidationError:
                continue

    def keep(self) -> None:
        """Write what was noted, unless the file holds something wrong; what the disk says to that is in `trouble`."""
        self.trouble = self._file.keep() or self.trouble

    def save(self) -> str:
        """Write what was noted, in the place of whatever is wrong; a sentence that says where, or why not."""
        return self._file.save() or f"preferences are kept in {self.path}"


def draws_ascii(marks: str, encoding: str, terminal: str) -> bool:
    """Whether `marks` (auto, braille, ascii) means ASCII, on a terminal of this encoding and TERM."""
    if marks == "auto":
        return not encoding.lower().replace("-", "").startswith("utf") or terminal in WITHOUT_BRAILLE
    return marks == "ascii"


def preset_to_keep(name: str) -> str:
    """A preset as it can be found from any folder: its name, or the whole path of its file."""
    return str(Path(name).absolute()) if name.endswith(".toml") else name
