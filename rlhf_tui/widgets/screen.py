"""What all screens share: they are left once, however often a key says so, and draw nothing after that."""

from __future__ import annotations

from typing import cast

from rich.console import RenderableType
from textual._styles_cache import StylesCache
from textual.actions import SkipAction
from textual.await_complete import AwaitComplete
from textual.content import Content
from textual.renderables.background_screen import BackgroundScreen
from textual.renderables.blank import Blank
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.widget import Widget
from textual.widgets import Static

from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.terminal.clipboard import copy


class FootLine(Static):
    """What was said to a screen that has no alarm line."""

    DEFAULT_CSS = "FootLine { dock: bottom; height: auto; width: 1fr; padding: 0 1; background: $panel; }"

    def __init__(self, text: str, level: str) -> None:
        super().__init__(markup=False)
        self.say(text, level)

    def say(self, text: str, level: str) -> None:
        """Show `text` in the place of what was said before."""
        style = "$text-warning bold" if level != "info" else ""
        self.update(Content.styled(clean_line(text), style))


class BaseScreen(Screen[ScreenResultType]):
    """A screen."""

    _has_begun = False

    def _on_timer_update(self) -> None:
        if not self._has_begun and self._layout_required:
            self._repaint_required = False  # this layout is the first to be drawn: it draws everything
        self._has_begun = True
        super()._on_timer_update()

    def _compositor_refresh(self) -> None:
        """Nothing is drawn by the layout that a screen opens with: what its parts show follows from the size that they
        get there. It would be an empty frame, and then another, of some 18 KB each."""
        if self._has_begun:
            super()._compositor_refresh()

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Leave. Textual would take the next screen away when a key that leaves is pressed twice before it has left."""
        return super().dismiss(result) if self.is_active else AwaitComplete()

    def render(self) -> RenderableType:
        """The background: for a dialog, the screen right below it, darkened.

        Textual takes whichever screen is left in a list that a drawing begins with. A screen below the top one that is
        asked to draw out of turn, by the mouse, then finds one above it there, and the two draw each other for ever.
        """
        background, stack = self.styles.background, self.app.screen_stack
        place = stack.index(self) if self in stack else 0
        if place and background.a < 1:
            return BackgroundScreen(stack[place - 1], background)
        return cast(RenderableType, self.app.render() if background.is_transparent else Blank(background))

    async def _invoke_and_clear_callbacks(self) -> None:
        """What waits for the next drawing, but for what asked for it and has been taken away since: it would look for
        parts of itself that are gone. Textual calls it all the same."""
        self._callbacks[:] = [(callback, asker) for callback, asker in self._callbacks
                              if not (isinstance(asker, Widget) and asker._pruning)]
        await super()._invoke_and_clear_callbacks()

    def tell(self, text: str, level: str = "info") -> None:
        """One sentence below, on a screen that has no line for it; the newest stays."""
        for line in self.query(FootLine):
            line.say(text, level)
            return
        self.mount(FootLine(text, level))

    def action_copy_text(self) -> None:
        """Copy what is selected with the mouse; with nothing selected the key means what it means elsewhere."""
        text = self.get_selected_text()
        if not text:
            raise SkipAction
        self.app.notify(copy(self.app, text), markup=False)

    def on_unmount(self) -> None:
        """Let go of what Textual keeps of a screen that was left: its cache of border colours holds a thousand widgets'
        lines by its keys, and the app, until its theme changes, the fields that asked to be told of that."""
        StylesCache.get_inner_outer.cache_clear()
        for asked in getattr(self.app, "__watchers", {}).values():
            asked[:] = [(asker, callback) for asker, callback in asked if not asker._closing]


class BaseDialog(BaseScreen[ScreenResultType], ModalScreen[ScreenResultType]):
    """A dialog over another screen."""
