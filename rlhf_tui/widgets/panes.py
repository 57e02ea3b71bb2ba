"""A screen of a few panes: all at once where there is room, else one at a time under a line of their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget
from textual.widgets import Static

from rlhf_tui.widgets.screen import BaseScreen


def has_room_for_all(size: Size, *, height: int = 30) -> bool:
    """Whether a terminal of this size shows all panes of a screen at once. height: lines that they take."""
    return size.width >= 100 and size.height >= height


def is_tiny(size: Size, *, height: int = 16) -> bool:
    """Whether a terminal is too small for frames and the lines around the panes. height: lines with them."""
    return size.width < 60 or size.height < height


def tab_line(panes: Mapping[str, str], current: str) -> Content:
    """The panes by number and title, the one in use marked. panes: titles by id, in the order of the keys 1, 2, …"""
    return Content(" ").join(
        Content.styled(f" {number} {title} ", "bold reverse" if pane == current else "$text-muted")
        for number, (pane, title) in enumerate(panes.items(), 1))


class PanedScreen(BaseScreen[None]):
    """Sets the classes `-single` and `-tiny` on itself, and `-current` on the pane in use and what holds it."""

    PANES: ClassVar[Mapping[str, str]] = {}
    """The id of each pane and its title, in the order of the keys 1, 2, …"""
    BINDINGS: ClassVar[list[BindingType]] = [
        # Textual's own pass by the panes that are not seen
        Binding("tab", "next_pane(1)", "Next pane", id="pane.next", show=False),
        Binding("shift+tab", "next_pane(-1)", "Previous pane", id="pane.previous", show=False),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pane = next(iter(self.PANES))
        self.tabs = Static("", id="pane-tabs", markup=False)
        self.zoomed = False

    def on_mount(self) -> None:
        for number, (pane, title) in enumerate(self.PANES.items(), 1):
            self.query_one(f"#{pane}").border_title = Content(f"{number} {title}")
        self.lay_out()

    def on_resize(self, _: events.Resize) -> None:
        self.lay_out()

    def lay_out(self) -> None:
        """Fit the panes to the size of the terminal."""
        wide = has_room_for_all(self.app.size)
        self.set_class(not wide or self.zoomed, "-single")
        self.set_class(is_tiny(self.app.size), "-tiny")
        self.tabs.display = not wide
        holders = set(self.in_use.ancestors_with_self)
        for pane in self.PANES:
            for node in self.query_one(f"#{pane}").ancestors_with_self:
                if isinstance(node, Widget) and node is not self:
                    node.set_class(node in holders, "-current")
        self.tabs.update(tab_line(self.PANES, self.pane))

    @property
    def in_use(self) -> Widget:
        """The pane that has the focus, or had it last."""
        return self.query_one(f"#{self.pane}")

    def action_pane(self, pane: str) -> None:
        """Go to a pane."""
        self.pane = pane
        self.lay_out()
        self.in_use.focus()

    def action_next_pane(self, by: int) -> None:
        """Go round the panes."""
        panes = list(self.PANES)
        self.action_pane(panes[(panes.index(self.pane) + by) % len(panes)])

    def action_zoom(self) -> None:
        """The whole screen for this pane, or back."""
        self.zoomed = not self.zoomed
        self.lay_out()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        for node in event.widget.ancestors_with_self:
            if node.id is not None and node.id in self.PANES and node.id != self.pane:
                self.pane = node.id
                self.lay_out()
