"""Asks before all settings go back to the preset's values, and says what that would change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.config.fields import show, value_at
from rlhf_tui.editing.change_text import list_change
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.screen import BaseDialog

Changes = Mapping[str, tuple[Any, Any]]


class ResetScreen(BaseDialog[bool]):
    """Lists changes (path -> (now, then)) and those that cannot be made now; dismisses with True to make them."""

    DEFAULT_CSS = """
    ResetScreen { align: center middle; background: $background 60%; }
    ResetScreen > VerticalScroll {
        width: 72; max-width: 100%; height: auto; max-height: 100%;
        border: round $warning; background: $surface; padding: 0 1;
    }
    ResetScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "dismiss(True)", "Reset", tooltip="Take the preset's values", id="reset.confirm"),
        Binding("escape,n,q", "dismiss(False)", "Keep", tooltip="Leave the settings as they are", id="reset.keep"),
    ]

    def __init__(self, changes: Changes, fixed: Sequence[str], *, preset: str, training: bool) -> None:
        super().__init__()
        self._changes, self._fixed, self._preset, self._training = changes, fixed, preset, training

    def compose(self) -> ComposeResult:
        with VerticalScroll() as page:
            page.border_title = Content("Reset settings")
            page.border_subtitle = Content("Enter reset · Esc keep")
            yield Static(self._text(), markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def _text(self) -> Content:
        named = clean_line(self._preset) or "the preset"
        when = ", from the next step on" if self._training else ""
        width = max(map(len, self._changes))
        lines = [Content(f"{_count(len(self._changes))} back to what {named} says{when}:"), *(
            Content.assemble(f"  {path:<{width}}  ", *_before_and_after(now, then))
            for path, (now, then) in self._changes.items())]
        if self._fixed:
            stay = "stays, since it is fixed during a run:" if len(self._fixed) == 1 else \
                "stay, since they are fixed during a run:"
            lines += [Content.styled(f"{_count(len(self._fixed))} {stay}", "$text-warning"),
                      *(Content(f"  {path}") for path in self._fixed)]
        lines.append(Content.styled("u takes this back.", "dim"))
        return Content("\n").join(lines)


def ask_reset(app: App[Any], edited: EditedConfig, values: Mapping[str, Any], fixed: Sequence[str], *,
              training: bool) -> None:
    """Say what going back to the preset would change (path -> value; `fixed` cannot now), and do it if wanted."""
    if edited.read_only():
        return
    if not values:
        app.notify("these settings are the preset's" if not fixed else
                   f"only {clean_line(', '.join(fixed))} differ from the preset, and that is fixed during a run")
        return
    changes = {path: (value_at(edited.config, path), value) for path, value in values.items()}
    asked = ResetScreen(changes, fixed, preset=edited.preset, training=training)
    app.push_screen(asked, lambda agreed: edited.reset(values) if agreed else None)


def _before_and_after(now: Any, then: Any) -> tuple[Any, ...]:
    if isinstance(now, list) and isinstance(then, list):
        return ((clean_line(list_change(now, then)), "bold"),)
    return (clean_line(show(now)), "dim"), " → ", (clean_line(show(then)), "bold")


def _count(number: int) -> str:
    return "1 setting" if number == 1 else f"{number} settings"
