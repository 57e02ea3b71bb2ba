"""What all screens share: they are left once, however often a key says so, and draw nothing after that."""

from __future__ import annotations

from typing import cast

from rich.console import RenderableType
from textual.actions import SkipAction
from textual.await_complete import AwaitComplete
from textual.content import Content
from textual.renderables.background_screen import BackgroundScreen
from textual.renderables.blank import Blank
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import Static

from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.terminal.clipboard import copy
from rlhf_tui.terminal.textual_private import PatientScreen, let_go_of_what_left


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


class BaseScreen(PatientScreen[ScreenResultType]):
    """A screen."""

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Leave. Textual would take the next screen away when a key that leaves is pressed twice before it has left."""
        return super().dismiss(result) if self.is_active else AwaitComplete()

    def render(self) -> RenderableType:
        """The background: for a dialog, the screen right below it, darkened.

        Textual takes whichever screen is left in a list that a drawing begins with. A screen below the top one that is
        asked to draw out of turn, by the mouse, then finds one above it there, and the two draw each other for ever:
        https://github.com/Textualize/textual/issues/5669, https://github.com/Textualize/textual/issues/6340
        """
        background, stack = self.styles.background, self.app.screen_stack
        place = stack.index(self) if self in stack else 0
        if place and background.a < 1:
            return BackgroundScreen(stack[place - 1], background)
        return cast(RenderableType, self.app.render() if background.is_transparent else Blank(background))

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
        let_go_of_what_left(self.app)


class BaseDialog(BaseScreen[ScreenResultType], ModalScreen[ScreenResultType]):
    """A dialog over another screen."""
