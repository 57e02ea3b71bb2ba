"""The word lists of the reward in little room: what is liked, what is disliked; in use from the next step on.

↑ ↓ choose a list; editing is that of `WordEditor`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from rlhf_tui.areas.rewards.word_editor import NO_LISTS, SIDES, WordEditor
from rlhf_tui.terminal.clean_text import clean_line


class WordListsPane(WordEditor):
    """Both lists as running text; where they do not fit, the one under the cursor gets most of the lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "choose('liked')", "Liked words", tooltip="Go to the list of liked words", id="words.liked"),
        Binding("down", "choose('disliked')", "Disliked words", tooltip="Go to the list of disliked words",
                id="words.disliked"),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lines_of = (1, 1)

    def compose_lists(self) -> ComposeResult:
        yield Static(id="words-shown", markup=False)

    def draw_lists(self) -> None:
        shown = self.query_one("#words-shown", Static)
        if self.reward is None:
            shown.update(NO_LISTS)
            return
        lists = self._wrapped()
        self._lines_of = self._room(lists)
        shown.update(Content("\n").join([*self.which(), *self._blocks(lists)]))
        # the foot may have grown or shrunk, and with it the room for the words
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        if self._lines_of != self._room(self._wrapped()):
            self.draw_lists()

    def _wrapped(self) -> list[list[Content]]:
        """The words of each list, as lines of the width there is."""
        width = max(1, self.size.width - 1)
        return [self._listed(side).wrap(width) for side in SIDES]

    def _room(self, lists: list[list[Content]]) -> tuple[int, int]:
        """Lines for the words of the two lists: all if both fit, else most for the list under the cursor."""
        need = [len(lines) for lines in lists]
        free = self.query_one("#words-shown").size.height - len(SIDES) - len(self.which())
        if sum(need) <= free:
            return need[0], need[1]
        mine = SIDES.index(self.side)
        other = min(need[1 - mine], max(1, free // 3, free - need[mine]))
        kept = (max(1, free - other), other)
        return kept if mine == 0 else (kept[1], kept[0])

    def _blocks(self, lists: list[list[Content]]) -> list[Content]:
        width, blocks = max(1, self.size.width - 1), []
        for side, lines, room in zip(SIDES, lists, self._lines_of, strict=True):
            if len(lines) > room:
                lines = lines[:room]
                lines[-1] = lines[-1].truncate(max(1, width - 2)) + Content.styled(" …", "dim")
            blocks.append(Content("\n").join([self.head(side, self.words(side)), *lines]))
        return blocks

    def _listed(self, side: str) -> Content:
        """The words of a list, those that cannot be said marked."""
        mute = self.mute(side)
        shown = [Content.styled(clean_line(word), "$text-warning italic" if word in mute else "")
                 for word in self.words(side)]
        return Content(", ").join(shown) if shown else Content.styled("none", "dim")

    def action_choose(self, side: str) -> None:
        """Move to a list."""
        self.side = side
        self.redraw()

    def on_click(self, event: events.Click) -> None:
        if self.editing or event.widget is None or self.screen.selections:
            return  # a drag that selects text ends with a click
        offset = event.get_content_offset(self.query_one("#words-shown"))
        if offset is not None:
            above = 1 + self._lines_of[0] + len(self.which())
            self.action_choose("liked" if offset.y < above else "disliked")
            self.action_edit()
