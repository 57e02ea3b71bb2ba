"""The command palette: every action that has a key is a command as well."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.markup import escape
from textual.types import IgnoreReturnCallbackType

from rlhf_tui.areas.help.key_guide import available_actions
from rlhf_tui.terminal.clean_text import clean_line


class _Command(NamedTuple):
    name: str
    help: str
    run: IgnoreReturnCallbackType


class WorkbenchCommands(Provider):
    """What the screen under the palette can do, then what has no key; in the same order each time."""

    def _commands(self) -> Iterator[_Command]:
        for action in available_actions(self.screen):
            run = partial(self.app.run_action, action.action, default_namespace=action.node)
            # the palette reads this line as markup
            yield _Command(action.name, escape(clean_line(f"{action.purpose}  ({action.key})")), run)
        for command in self.app.get_system_commands(self.screen):
            yield _Command(command.title, command.help, command.callback)

    async def discover(self) -> Hits:
        """All commands, before anything is typed."""
        for command in self._commands():
            yield DiscoveryHit(Content(command.name), command.run, text=command.name, help=command.help)

    async def search(self, query: str) -> Hits:
        """Commands whose name, or else whose purpose, matches."""
        matcher = self.matcher(query)
        for command in self._commands():
            score = matcher.match(command.name)
            if score > 0:
                yield Hit(score, matcher.highlight(command.name), command.run, text=command.name, help=command.help)
            elif (score := matcher.match(command.help)) > 0:
                yield Hit(score / 2, Content(command.name), command.run, text=command.name, help=command.help)
