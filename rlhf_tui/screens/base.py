"""What all screens over the workbench share: they are left once, however often a key says so."""

from __future__ import annotations

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, Screen, ScreenResultType


class BaseScreen(Screen[ScreenResultType]):
    """A screen over the workbench."""

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Leave. Textual would take the next screen away when a key that leaves is pressed twice before it has left."""
        return super().dismiss(result) if self.is_active else AwaitComplete()


class BaseDialog(BaseScreen[ScreenResultType], ModalScreen[ScreenResultType]):
    """A dialog over another screen."""
