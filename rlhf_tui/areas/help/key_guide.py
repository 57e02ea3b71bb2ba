"""What can be done on a screen: every binding that explains itself, for the help page and the command palette alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textual.app import App
from textual.dom import DOMNode
from textual.screen import Screen

from rlhf_tui.terminal.textual_private import bindings_of

_NAMES = {"⏎": "Enter", "pgup": "PgUp", "pgdn": "PgDn"}


@dataclass(frozen=True)
class Action:
    """One thing to do: its key, its name, what it is for, and the action on `node` that does it."""

    key: str
    name: str
    purpose: str
    action: str
    node: DOMNode
    place: str


def available_actions(screen: Screen[Any]) -> list[Action]:
    """All of `screen`, of what is on it, and of the app, each once; hidden panes count, since a key leads to them."""
    found: dict[tuple[str, str], Action] = {}
    for node in (screen, *screen.walk_children(), screen.app):
        for binding in bindings_of(node):
            # what has no tooltip is what everyone expects of a list or a field: arrows, Tab, Backspace
            if binding.tooltip and (binding.description, binding.action) not in found:
                shown = _named(screen.app.get_key_display(binding))
                found[binding.description, binding.action] = Action(
                    shown, binding.description, binding.tooltip, binding.action, node, _place(node))
    return list(found.values())


def reachable(actions: list[Action], screen: Screen[Any]) -> list[Action]:
    """Without those of the app whose key does something else on `screen`."""
    taken = {action.key for action in actions if action.node is screen}
    return [action for action in actions if not (isinstance(action.node, App) and action.key in taken)]


def nearest_first(actions: list[Action], focused: DOMNode | None) -> list[Action]:
    """First what counts where the focus is, then what counts on the screen, everywhere, and in the other panes."""
    around = set(focused.ancestors_with_self) if focused is not None else set()
    ranks: dict[str, tuple[int, int]] = {}
    for index, action in enumerate(actions):
        rank = _rank(action.node, around)
        known, first = ranks.get(action.place, (rank, index))
        ranks[action.place] = (min(known, rank), first)
    return sorted(actions, key=lambda action: ranks[action.place])


def _named(key: str) -> str:
    """A key as the key bar writes it: Enter, Esc, F2."""
    return _NAMES.get(key) or (key.capitalize() if len(key) > 1 else key)


def _rank(node: DOMNode, around: set[DOMNode]) -> int:
    if isinstance(node, App):
        return 2
    if isinstance(node, Screen):
        return 1
    return 0 if node in around else 3


def _place(node: DOMNode) -> str:
    """Where a key counts: everywhere, on this screen, or in a pane (by the title of the pane)."""
    if isinstance(node, App):
        return "Everywhere"
    if isinstance(node, Screen):
        return "On this screen"
    for parent in node.ancestors_with_self:
        title = str(getattr(parent, "border_title", None) or "")
        if title:
            # what stands behind a colon or a dot tells more than the name of the place
            return f"In {title.lstrip('1234567890 ').partition(':')[0].partition(' ·')[0]}"
    return "Here"
