"""What the workbench remembers of its user between two starts: a small TOML file in the user's config folder.

A file that cannot be read, or a value that is not allowed, costs that value alone: the default stands in, one sentence
says so, and the file stays as it is until the user saves settings. Only what was changed here is written, into what
the file says by then, so that two workbenches at once, a user's comments and keys of a newer version all survive.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from rlhf_engine.errors import first_line
from rlhf_engine.files.disk import os_error_reason, replace_text
from rlhf_engine.files.file_locks import lock_within
from rlhf_engine.files.own_files import make_folder
from rlhf_engine.files.reading import read_text
from rlhf_engine.files.toml_text import loads
from rlhf_engine.metrics import REGISTRY
from rlhf_engine.system.visible_text import escaped_toml
from rlhf_tui.areas.charts.lens import DEFAULT_METRICS, SMOOTHINGS, Smoothing
from rlhf_tui.terminal.clean_text import clean_line

REDRAWS = (0.2, 0.5, 1.0, 2.0)
LOCK_SECONDS = 0.2
_MOST_BYTES = 1_000_000


_NAME = re.compile(r"[^\s/]+(/[^\s/]+)+")


def _metric(name: str) -> str:
    # single rewards are named by the user, and metrics by methods of packages that are not imported yet: any name that
    # looks like one will do
    if name in REGISTRY or _NAME.fullmatch(name):
        return name
    raise ValueError("not a metric")


def _smoothing(smoothing: Smoothing) -> Smoothing:
    if smoothing in SMOOTHINGS:
        return smoothing
    raise ValueError("none of the smoothings")


MetricName = Annotated[str, StringConstraints(max_length=200), AfterValidator(_metric)]


class Settings(BaseModel):
    """Everything that is remembered. Each default is what a first start shows."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    theme: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = "auto"
    """A theme of ours, or of Textual; "auto" is what suits the terminal, and stands in for one that does not exist."""
    redraws_per_second: Annotated[float, Field(ge=0.1, le=2, allow_inf_nan=False)] = 2.0
    """How often charts are drawn anew while a run goes on; over a slow line, less is kinder."""
    charts: tuple[MetricName, MetricName, MetricName, MetricName] = DEFAULT_METRICS
    smoothing: Annotated[Smoothing, AfterValidator(_smoothing)] = "auto"
    """The weight of the past in the smoothed curves; `auto`: by how many steps are seen."""
    chart_marks: Literal["auto", "braille", "ascii"] = "auto"
    """`auto`: braille dots where the terminal's encoding has them."""
    notifications: Literal["off", "bell", "osc"] = "off"
    """When a run ends: nothing, the terminal's bell, or a notification by escape sequence (OSC 9 and 777)."""
    pane: Literal["hyperparameters", "charts", "words", "samples"] = "hyperparameters"
    zoomed: bool = False
    hint_seen: bool = False
    """The hint of the first start has done its work."""
    last_preset: Annotated[str, StringConstraints(max_length=4096)] = ""
    """By name, or by the whole path of its file."""
    rater: Annotated[str, StringConstraints(max_length=100)] = ""
    """Who judges on the label screen; "" is the user's name on this system."""


ALLOWED = {
    "theme": "the name of a theme", "redraws_per_second": "a number from 0.1 to 2",
    "smoothing": '"auto", 0, 0.6, 0.9 or 0.97',
    "charts": "a list of four names of metrics", "chart_marks": '"auto", "braille" or "ascii"',
    "notifications": '"off", "bell" or "osc"',
    "pane": '"hyperparameters", "charts", "words" or "samples"', "zoomed": "true or false",
    "hint_seen": "true or false", "last_preset": "the name or the path of a preset",
    "rater": "a name of at most 100 characters",
}


@dataclass(frozen=True)
class Loaded:
    """The settings of a file, and in one sentence what is wrong with it (else "").

    state: "wrong" where defaults stand in for some values, "unreadable" where they do for all.
    """

    settings: Settings
    problem: str = ""
    state: Literal["fine", "wrong", "unreadable"] = "fine"


def settings_path() -> Path:
    """Where this user's settings lie."""
    return Path(platformdirs.user_config_dir("rlhf-tui")) / "settings.toml"


def load(path: Path) -> Loaded:
    """The settings in `path`, with the default for each that is wrong; never raises. No file is nothing wrong."""
    try:
        data = loads(read_text(path, _MOST_BYTES, follow=True))
    except FileNotFoundError:
        return Loaded(Settings())
    except OSError as error:
        return _unreadable(f"preferences were not read, defaults are used: {path}: {os_error_reason(error)}")
    except ValueError as error:  # no UTF-8, no TOML
        return _unreadable(f"preferences are not valid TOML, defaults are used: {path}: {first_line(error)}")
    return _checked(data, path)


def _unreadable(problem: str) -> Loaded:
    return Loaded(Settings(), clean_line(problem), "unreadable")


def _checked(data: dict[str, Any], path: Path) -> Loaded:
    good = {name: _plain(value) for name, value in data.items()}
    wrong: list[str] = []
    unknown = [f"{name}: no such preference" for name in data if name not in Settings.model_fields]
    try:
        settings = Settings.model_validate(good)
    except ValidationError as error:
        wrong = list(dict.fromkeys(str(problem["loc"][0]) for problem in error.errors()))
        settings = Settings.model_validate({name: value for name, value in good.items() if name not in wrong})
    problems = "; ".join([f"{name}: must be {ALLOWED[name]}" for name in wrong] + unknown)
    # a key that a newer version wrote, or a slip of the pen, hurts nobody: it is said, and stays
    return Loaded(settings, clean_line(f"{path}: {problems}") if problems else "", "wrong" if wrong else "fine")


def _plain(value: Any) -> Any:
    """A TOML value as the strict model wants it: lists are tuples; whole numbers are numbers, but true is not 1."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e9:
        return float(value)
    return value


class SettingsFile:
    """The settings in memory, and the file they are kept in."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or settings_path()
        self._loaded = load(self.path)
        self.settings = self._kept = self._loaded.settings

    @property
    def problem(self) -> str:
        """What was wrong with the file when it was read, in one sentence; "" if nothing."""
        return self._loaded.problem

    def change(self, **values: Any) -> None:
        """From now on these count; `keep` or `save` writes them. Raises ValidationError for what is not allowed."""
        self.settings = Settings.model_validate({**dict(self.settings), **values})

    @property
    def _changed(self) -> dict[str, Any]:
        return {name: value for name, value in self.settings if value != getattr(self._kept, name)}

    def keep(self) -> str:
        """Write what changed, unless nothing did or the file is wrong; a sentence if the disk refuses, else ""."""
        if not self._changed or self._loaded.state != "fine":
            return ""
        return self._write(asked=False)

    def save(self) -> str:
        """`keep`, asked for by the user: what was wrong in the file is replaced. What is no TOML is kept beside it."""
        if not self._changed and self._loaded.state == "fine":
            return ""
        return self._write(asked=True)

    def _write(self, *, asked: bool) -> str:
        try:
            make_folder(self.path.parent)
            with _held(self.path.parent):
                now = load(self.path)  # another workbench, or an editor, may have written since
                if now.state != "fine" and not asked:
                    return ""
                self._replace(now)
        except OSError as error:
            return f"preferences were not kept: {clean_line(str(self.path))}: {os_error_reason(error)}"
        self._kept, self._loaded = self.settings, Loaded(self.settings)
        return ""

    def _replace(self, now: Loaded) -> None:
        """Our changes into what the file says now; its comments and unknown keys stay, its wrong values go."""
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        text = ""
        try:
            if now.state != "unreadable" and self.path.exists():
                text = read_text(self.path, _MOST_BYTES, follow=True)
            document = tomlkit.parse(text)
        except TOMLKitError:
            document, now = tomlkit.document(), Loaded(now.settings, state="unreadable")
        for name in [name for name, value in document.unwrap().items() if _is_wrong(name, value)]:
            del document[name]
        for name, value in self._changed.items():
            document[name] = list(value) if isinstance(value, tuple) else value
        if now.state == "unreadable" and os.path.lexists(self.path):
            # what the user wrote, however wrong, is not ours to throw away
            os.replace(self.path, self.path.with_name(f"{self.path.name}.{secrets.token_hex(3)}.wrong"))
        if document.as_string() != text or not self.path.exists():
            written = escaped_toml(document.as_string())
            # in a '…' of the user's own that is no escape: what they wrote stays
            replace_text(self.path, written if tomlkit.parse(written) == document else document.as_string())


def _is_wrong(name: str, value: Any) -> bool:
    return name in Settings.model_fields and _checked({name: value}, Path()).state == "wrong"


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """No other workbench writes into `folder` meanwhile; after a moment we go on all the same: a rename is whole."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a disk that knows no locks
            lock_within(handle, LOCK_SECONDS)
        yield
    finally:
        os.close(handle)

