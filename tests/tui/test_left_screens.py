"""A screen that is being left does nothing more, whatever waits for it; one that is covered shows nothing above it."""

from __future__ import annotations

import gc
import weakref

import pytest
from moments import until
from textual._context import visible_screen_stack
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.renderables.background_screen import BackgroundScreen
from textual.widget import Widget
from textual.widgets import Static

from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.runs import screen as runs
from rlhf_tui.areas.system import screen as system
from rlhf_tui.widgets.screen import BaseDialog, BaseScreen


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


class Dialog(BaseDialog[None]):
    """Lets the screen below it show through."""

    CSS = "Dialog { background: black 60%; }"

    def compose(self) -> ComposeResult:
        yield Static("here")


async def test_dialogs_over_dialogs_never_draw_each_other_for_ever() -> None:
    app = App[None]()
    async with app.run_test() as pilot:
        lower, upper, top = Dialog(), Dialog(), Dialog()
        for dialog in (lower, upper, top):
            await app.push_screen(dialog)
            await pilot.pause()
        # as when the mouse asks a screen that has just been covered what is under it
        lower.refresh(layout=True)
        upper.refresh()
        visible_screen_stack.set([lower, upper])
        lower.render_lines(Region(0, 0, 10, 1))
        top.refresh(layout=True)
        await pilot.pause()
        below = [dialog.render() for dialog in (lower, upper, top)]
        assert [background.screen for background in below if isinstance(background, BackgroundScreen)] == [
            app.screen_stack[0], lower, upper]


async def test_what_a_screen_drew_is_let_go_of_when_it_is_left() -> None:
    app = App[None]()
    async with app.run_test() as pilot:
        await app.push_screen(dialog := Dialog())
        await pilot.pause()
        drawn = weakref.ref(dialog.query_one(Static)._styles_cache)
        await dialog.dismiss()
        del dialog

        def gone() -> bool:
            gc.collect()
            return drawn() is None

        await until(pilot, gone, lambda: "what it drew is kept")


OPENS = ("runs", "generate", "compare", "reward_lab", "presets", "prompts", "save_preset", "help", "settings",
         "alarms", "system")


async def test_nothing_is_kept_of_any_screen_that_was_left(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    # asyncio remembers who waited until the time that was waited for
    monkeypatch.setattr(runs, "READ_SECONDS", 0.05)
    monkeypatch.setattr(system, "SECONDS", 0.05)
    opened: list[tuple[str, weakref.WeakSet[Widget]]] = []
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        for action in [*OPENS, "runs"]:  # the newest reading in a thread is kept until the next one
            await app.run_action(action)
            await pilot.pause()
            assert app.screen is not app.workbench, action
            opened.append((action, weakref.WeakSet([app.screen, *app.screen.query(Widget)])))
            await app.workers.wait_for_complete()
            while app.screen is not app.workbench:
                await pilot.press("escape")
                await pilot.pause()

        def kept() -> dict[str, set[str]]:
            gc.collect()
            return {action: {type(part).__name__ for part in parts} for action, parts in opened[:-1] if parts}

        await until(pilot, lambda: kept() == {}, kept)
