"""The settings that are remembered: each shown as it would be at once, kept with Enter, put back with Esc."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.config.kinds import algorithm_kinds
from rlhf_engine.events import RunState, Span
from rlhf_engine.metrics import REGISTRY, describe
from rlhf_tui.areas.charts.lens import SMOOTHINGS
from rlhf_tui.areas.preferences.preferences import Preferences
from rlhf_tui.areas.preferences.preferences_file import REDRAWS, Settings
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.terminal.theme import AUTO, THEMES
from rlhf_tui.widgets.highlight import highlighted
from rlhf_tui.widgets.inputs import Choice
from rlhf_tui.widgets.screen import BaseDialog
from rlhf_tui.widgets.status import BADGES

_STORY = "A little fox met a boy who was lost."


@dataclass(frozen=True)
class _Row:
    """A setting: its name, what can be chosen (word -> value), what it is for."""

    name: str
    title: str
    choices: dict[str, Any]
    purpose: str


def rows(settings: Settings, themes: Sequence[str]) -> list[_Row]:
    """All that can be chosen. What is set now is offered too, if it is none of the usual."""
    first = [AUTO, *(theme.name for theme in THEMES)]
    ordered = first + sorted(name for name in {*themes, settings.theme} if name not in first)
    redraws = {f"{value:g} a second": value for value in sorted({*REDRAWS, settings.redraws_per_second})}
    smoothing = {f"{value}" if value else "none": value for value in SMOOTHINGS}
    algorithm_kinds()  # the metrics of other packages' methods are known once these are imported
    known = [*REGISTRY, *(name for name in settings.charts if name not in REGISTRY)]
    titles = [clean_line(describe(name).title) for name in known]
    metrics = {title if titles.count(title) == 1 else f"{title} ({clean_line(name)})": name
               for title, name in zip(titles, known, strict=True)}
    marks = {"auto": "auto", "braille dots": "braille", "ASCII": "ascii"}
    notices = {"off": "off", "terminal bell": "bell", "by the terminal (OSC 9, 777)": "osc"}
    return [
        _Row("theme", "Theme", {name: name for name in ordered},
             "auto: what suits the terminal · workbench-16: for 16 colours · all three are safe for colour-blind eyes"),
        _Row("redraws_per_second", "Draw charts", redraws, "how often; less often sends less over a slow connection"),
        *(_Row(f"charts.{index}", f"Chart {index + 1}", metrics, "a metric; ? explains each") for index in range(4)),
        _Row("smoothing", "Smoothing", smoothing,
             "EMA decay of the curves; auto: none up to 50 steps, then the more, the more steps"),
        _Row("chart_marks", "Chart marks", marks, "auto: braille where the terminal's encoding has it"),
        _Row("notifications", "Notifications", notices, "when a run finishes, fails or diverges"),
    ]


def with_choice(settings: Settings, name: str, value: Any) -> dict[str, Any]:
    """What changes in `settings` when the row `name` says `value`."""
    field, _, index = name.partition(".")
    if not index:
        return {field: value}
    charts = list(settings.charts)
    charts[int(index)] = value
    return {field: tuple(charts)}


def chosen(settings: Settings, name: str) -> Any:
    """What `settings` says in the row `name`."""
    field, _, index = name.partition(".")
    value = getattr(settings, field)
    return value[int(index)] if index else value


class SettingsScreen(BaseDialog[str | None]):
    """↑ ↓ go to a setting, ← → change it. Dismisses with the sentence to say, None when all was put back."""

    CSS_PATH = "screen.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (18, "-tall")]  # noqa: RUF012 (so the base class declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep", "Keep", tooltip="Keep these preferences", id="settings.keep", priority=True),
        Binding("escape", "put_back", "Cancel", tooltip="Restore what was set before", id="settings.put_back"),
        Binding("up", "app.focus_previous", "Up", show=False),
        Binding("down", "app.focus_next", "Down", show=False),
        Binding("question_mark,f1", "app.help", "Help", show=False),
    ]

    def __init__(self, preferences: Preferences) -> None:
        super().__init__()
        self._preferences, self._before = preferences, preferences.now
        self._rows: dict[str, _Row] = {}

    def compose(self) -> ComposeResult:
        now = self._preferences.now
        self._rows = {row.name: row for row in rows(now, list(self.app.available_themes))}
        with Vertical(id="box") as box:
            box.border_title = Content("Preferences")
            box.border_subtitle = Content("←→ change · Enter keep · Esc cancel")
            with VerticalScroll(id="rows", can_focus=False):
                for row in self._rows.values():
                    with Horizontal(classes="row"):
                        yield Static(Content(row.title), classes="title")
                        words = {value: word for word, value in row.choices.items()}
                        yield Choice(list(row.choices), words[chosen(now, row.name)], name=row.name)
            yield Static("", id="purpose", markup=False)
            yield Static(Content("\n").join(preview()), id="preview", markup=False)

    def on_mount(self) -> None:
        self.query(Choice).first().focus()

    def on_descendant_focus(self, _: object) -> None:
        """Say what the setting is for."""
        if isinstance(self.focused, Choice) and self.focused.name:
            purpose = self._rows[self.focused.name].purpose
            self.query_one("#purpose", Static).update(Content.styled(purpose, "$text-muted"))

    def on_choice_changed(self, event: Choice.Changed) -> None:
        """What is chosen counts at once."""
        event.stop()
        name = event.choice.name or ""
        value = self._rows[name].choices[event.value]
        self._preferences.note(**with_choice(self._preferences.now, name, value))
        if name == "theme":
            self._show_theme()

    def action_keep(self) -> None:
        """Write them."""
        self.dismiss(self._preferences.save())

    def action_put_back(self) -> None:
        """As it was."""
        self._preferences.note(**dict(self._before))
        self._show_theme()
        self.dismiss(None)

    def _show_theme(self) -> None:
        self.app.theme = self._preferences.theme(self.app.available_themes, self.app.console.color_system)


def preview() -> Iterator[Content]:
    """What carries meaning by its colour, in the theme's colours."""
    spans = [Span(_STORY.index(word), _STORY.index(word) + len(word), kind)
             for word, kind in (("fox", "liked"), ("boy", "disliked"))]
    yield highlighted(_STORY, spans)
    yield Content("  ").join(Content.styled(*BADGES[state]) for state in
                             (RunState.TRAINING, RunState.PAUSED, RunState.STOPPED, RunState.DIVERGED))
    yield Content.assemble(("⚠ a warning", "$warning bold"), ("   · what was just done", "$text-muted"))
