"""What a first start says over the empty panes, until the first key."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

_LINES = (
    ("F5", "train with these settings; again, to stop"),
    ("p", "choose another preset"),
    ("1-4", "go to a pane; Enter changes what stands there"),
    (",", "colours, charts, notifications"),
    ("?", "every key, metric and term explained"),
)


class FirstHint(Static):
    """Stands over the workbench; any key does what it does, and takes this away for good."""

    DEFAULT_CSS = """
    FirstHint {
        layer: hint; dock: bottom; width: 100%; height: auto; margin: 0 0 2 0; padding: 0 2;
        border: round $border; border-title-color: $primary; background: $surface;
    }
    """
    def __init__(self) -> None:
        lines = [Content.assemble((f"{key:>3}", "$primary bold"), f"  {what}") for key, what in _LINES]
        super().__init__(Content("\n").join(lines), markup=False)
        self.border_title = Content("New here?")
