"""What all screens share: they are left once, however often a key says so, and draw nothing after that."""

from __future__ import annotations

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.widget import Widget


class BaseScreen(Screen[ScreenResultType]):
    """A screen."""

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Leave. Textual would take the next screen away when a key that leaves is pressed twice before it has left."""
        return super().dismiss(result) if self.is_active else AwaitComplete()

    async def _invoke_and_clear_callbacks(self) -> None:
        """What waits for the next drawing, but for what asked for it and has been taken away since: it would look for
        parts of itself that are gone. Textual calls it all the same."""
        self._callbacks[:] = [(callback, asker) for callback, asker in self._callbacks
                              if not (isinstance(asker, Widget) and asker._pruning)]
        await super()._invoke_and_clear_callbacks()


class BaseDialog(BaseScreen[ScreenResultType], ModalScreen[ScreenResultType]):
    """A dialog over another screen."""
