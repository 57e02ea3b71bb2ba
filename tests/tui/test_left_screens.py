"""A screen that is being left does nothing more, whatever waits for it."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Static

from rlhf_tui.screens.base import BaseScreen


class Asks(BaseScreen[None]):
    """Asks to look at its parts after the next drawing."""

    def __init__(self, called: list[str]) -> None:
        super().__init__()
        self.called = called

    def compose(self) -> ComposeResult:
        yield Static("here")

    def look(self) -> None:
        self.called.append(str(self.query_one(Static).content))

    def ask(self, part: Static) -> None:
        # what call_after_refresh comes to, once the messages before it are through
        self._invoke_later(self.look, self)
        self._invoke_later(self.look, part)
        self._invoke_later(lambda: self.called.append("app"), self.app)


@pytest.mark.parametrize("left", [True, False])
async def test_a_callback_does_not_look_for_what_is_gone(left: bool) -> None:
    app, called = App[None](), list[str]()
    async with app.run_test() as pilot:
        screen = Asks(called)
        await app.push_screen(screen)
        await pilot.pause()
        part = screen.query_one(Static)
        if left:
            await screen.dismiss()
        screen.ask(part)
        await screen._invoke_and_clear_callbacks()  # as at the idle moment that may follow
        assert called == (["app"] if left else ["here", "here", "app"])
