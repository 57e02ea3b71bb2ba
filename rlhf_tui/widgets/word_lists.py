"""The word lists of the reward: what is liked, what is disliked; edited as text, in use from the next step on.

↑ ↓ choose a list, Enter opens it as text, Enter again applies it, Esc puts it back (Ctrl+Z in the text brings back what
Esc dropped). A list that cannot be used yet stays as written until it is put right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static, TextArea

from rlhf_engine.config import RunConfig, WordListRewardConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.fields import replace
from rlhf_tui.clean_text import clean_line
from rlhf_tui.widgets.inputs import WordsArea
from rlhf_tui.widgets.setting_rows import without_place
from rlhf_tui.widgets.word_text import Remark, count, parse_words, remarks, unsayable, without_doubles, words_text

SIDES = ("liked", "disliked")
_SIGN = {"liked": ("+", "$text-success bold"), "disliked": ("−", "$text-error bold")}


class WordListsPane(Widget, can_focus=True):
    """The lists of one word-list reward; ← → go to another where there are several. Posts `Edited`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "choose('liked')", "Liked words", tooltip="Go to the list of liked words", id="words.liked"),
        Binding("down", "choose('disliked')", "Disliked words", tooltip="Go to the list of disliked words",
                id="words.disliked"),
        Binding("left", "turn(-1)", "Previous reward", tooltip="Where there are several word lists",
                id="words.left"),
        Binding("right", "turn(1)", "Next reward", tooltip="Where there are several word lists", id="words.right"),
        Binding("enter", "edit", "Edit words", tooltip="Open the list under the cursor as text", id="words.edit"),
        Binding("escape", "restore", "Restore words", tooltip="Drop a list that cannot be used", id="words.restore"),
    ]
    DEFAULT_CSS = """
    WordListsPane { layout: vertical; }
    WordListsPane #heading { height: 1; display: none; }
    WordListsPane #words-shown { height: 1fr; }
    WordListsPane #area { height: 1fr; min-height: 1; display: none; scrollbar-size-vertical: 1; padding: 0; }
    WordListsPane #remarks { height: auto; max-height: 5; }
    WordListsPane.-editing #words-shown { display: none; }
    WordListsPane.-editing #heading, WordListsPane.-editing #area { display: block; }
    """

    @dataclass
    class Edited(Message):
        """A person changed the list at `path`, as in `rewards.0.liked`."""

        path: str
        value: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.config: RunConfig | None = None
        self.training = False
        self.drafts: dict[str, str] = {}
        self._rewards: list[int] = []
        self._chosen = 0
        self._side = "liked"
        self._lines_of = (1, 1)
        self._editing = False

    # --- what the workbench calls ---

    def load(self, config: RunConfig, *, training: bool) -> None:
        """Show the lists of `config`. What is being typed stays."""
        if config != self.config and not self._editing:
            self.drafts.clear()
        self.config, self.training = config, training
        self._rewards = [i for i, reward in enumerate(config.rewards) if isinstance(reward, WordListRewardConfig)]
        self._chosen = min(self._chosen, max(0, len(self._rewards) - 1))
        self._redraw()

    # --- drawing ---

    def compose(self) -> ComposeResult:
        yield Static(id="heading", markup=False)
        yield Static(id="words-shown", markup=False)
        yield WordsArea(id="area")
        yield Static(id="remarks", markup=False)

    def on_mount(self) -> None:
        self._redraw()

    def on_focus(self) -> None:
        # Textual sets has_focus only after this handler
        self.call_later(self._redraw)

    def on_blur(self) -> None:
        self.call_later(self._redraw)

    def on_resize(self, event: events.Resize) -> None:
        self.query_one("#remarks").styles.max_height = max(1, min(5, event.size.height // 2))
        self._redraw()

    def _redraw(self) -> None:
        if not self.is_mounted:
            return
        self.set_class(self._editing, "-editing")
        reward = self._reward()
        if reward is None:
            self.query_one("#words-shown", Static).update("This preset has no word list among its rewards.")
            self.query_one("#remarks", Static).update("")
            return
        blocks = self._blocks()
        if len(self._rewards) > 1:
            at = f"  {self._chosen + 1} of {len(self._rewards)}"
            blocks.insert(0, Content.assemble(f"‹ {clean_line(reward.name)} ›", (at, "dim")))
        self.query_one("#words-shown", Static).update(Content("\n").join(blocks))
        self.query_one("#heading", Static).update(self._head(self._side, parse_words(self._text())))
        self.query_one("#remarks", Static).update(self._foot())
        # the foot may have grown or shrunk, and with it the room for the words
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        if self._lines_of != (lines := self._room()):
            self._lines_of = lines
            self._redraw()

    def _room(self) -> tuple[int, int]:
        """Lines for the words of the two lists: all if both fit, else most for the list under the cursor."""
        width = max(1, self.size.width - 1)
        need = [len(self._listed(side).wrap(width)) for side in SIDES]
        free = self.query_one("#words-shown").size.height - len(SIDES) - (len(self._rewards) > 1)
        if sum(need) <= free:
            return need[0], need[1]
        mine = SIDES.index(self._side)
        other = min(need[1 - mine], max(1, free // 3, free - need[mine]))
        kept = (max(1, free - other), other)
        return kept if mine == 0 else (kept[1], kept[0])

    def _blocks(self) -> list[Content]:
        width, blocks = max(1, self.size.width - 1), []
        for side, room in zip(SIDES, self._lines_of, strict=True):
            head = self._head(side, self._words(side))
            lines = self._listed(side).wrap(width)
            if len(lines) > room:
                lines = lines[:room]
                lines[-1] = lines[-1].truncate(max(1, width - 2)) + Content.styled(" …", "dim")
            blocks.append(Content("\n").join([head, *lines]))
        return blocks

    def _listed(self, side: str) -> Content:
        """The words of a list, those that cannot be said marked."""
        words, sayable = self._words(side), self._sayable()
        mute = set(unsayable(words, sayable)) if sayable is not None else set()
        shown = [Content.styled(clean_line(word), "$text-warning italic" if word in mute else "") for word in words]
        return Content(", ").join(shown) if shown else Content.styled("none", "dim")

    def _head(self, side: str, words: list[str]) -> Content:
        sign, style = _SIGN[side]
        chosen = side == self._side and (self.has_focus or self._editing)
        waiting = "  ✗ not applied" if not self._editing and self._path(side) in self.drafts else ""
        name = Content.assemble((f"{sign} {side}", style), (f"  {count(words)}", "dim" if not chosen else ""),
                                (waiting, "$text-error bold"))
        if not chosen:
            return name
        return name.pad_right(max(0, self.size.width - name.cell_length - 1)).stylize("on $block-cursor-background")

    def _foot(self) -> Content:
        found = self._remarks()
        # what must be put right first stands alone: there is little room
        found = [remark for remark in found if remark.wrong] or found
        lines = [Content.styled(f"{'✗' if r.wrong else '⚠'} {clean_line(r.text)}",
                                "$text-error" if r.wrong else "$text-warning") for r in found]
        if self._editing:
            ready = "Enter applies" + (" from the next step on" if self.training else "") + " · Esc puts back"
            wrong = any(remark.wrong for remark in found)
            lines.append(Content.styled("✗ not applied until this is put right" if wrong else f"✓ {ready}", "dim"))
        elif self.has_focus:
            lines.append(Content.styled("Enter edits · ↑ ↓ choose a list" + " · ← → reward" * (len(self._rewards) > 1),
                                        "dim"))
        return Content("\n").join(lines)

    # --- the lists ---

    def _reward(self) -> WordListRewardConfig | None:
        if self.config is None or not self._rewards:
            return None
        reward = self.config.rewards[self._rewards[self._chosen]]
        return reward if isinstance(reward, WordListRewardConfig) else None

    def _path(self, side: str) -> str:
        return f"rewards.{self._rewards[self._chosen]}.{side}"

    def _words(self, side: str) -> list[str]:
        reward = self._reward()
        if reward is None:
            return []
        draft = self.drafts.get(self._path(side))
        return parse_words(draft) if draft is not None else list(getattr(reward, side))

    def _text(self) -> str:
        if self._editing:
            return self.query_one("#area", WordsArea).text
        return words_text([clean_line(word) for word in self._words(self._side)])

    def _sayable(self) -> frozenset[str] | None:
        return _lexicon() if self.config is not None and self.config.model.name == "storyteller" else None

    def _remarks(self) -> list[Remark]:
        """About the list under the cursor, as it is typed; from afar only what is wrong with either."""
        if not self._editing and not self.has_focus:
            both = [remark for side in SIDES for remark in self._remarks_on(side, self._words(side))]
            return list({remark.text: remark for remark in both if remark.wrong}.values())
        return self._remarks_on(self._side, parse_words(self._text()))

    def _remarks_on(self, side: str, words: list[str]) -> list[Remark]:
        other = SIDES[1 - SIDES.index(side)]
        found = remarks(words, self._words(other), self._sayable())
        if not any(remark.wrong for remark in found) and self.config is not None:
            try:
                replace(self.config, {self._path(side): without_doubles(words)[0]})
            except ConfigError as error:
                found.append(Remark(without_place(error.problems[0]), wrong=True))
        return found

    # --- editing ---

    def action_choose(self, side: str) -> None:
        """Move to a list."""
        self._side = side
        self._redraw()

    def action_turn(self, step: int) -> None:
        """The word lists of another reward."""
        if self._rewards:
            self._chosen = (self._chosen + step) % len(self._rewards)
            self._redraw()

    def action_edit(self) -> None:
        """Open the list as text."""
        if self._reward() is None:
            return
        text = self._text()
        if "," in text:  # the cursor waits at the end, ready for another word
            text = text.rstrip(",") + ", "
        text = self.drafts.get(self._path(self._side), text)
        self._editing = True
        area = self.query_one("#area", WordsArea)
        area.put(text)
        self._redraw()
        area.focus()

    def action_restore(self) -> None:
        """Drop what was typed but could not be applied."""
        self.drafts.pop(self._path(self._side), None)
        self._redraw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc belongs to this pane only while it has something to give up."""
        return action != "restore" or (bool(self._rewards) and self._path(self._side) in self.drafts)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Count and check as one types."""
        event.stop()
        if self._editing:
            self._redraw()

    def on_words_area_left(self, event: WordsArea.Left) -> None:
        """Enter stays where something is wrong; every other key leaves."""
        event.stop()
        if event.how == "enter" and any(remark.wrong for remark in self._remarks()):
            return
        self._close(apply=event.how != "escape")
        self.focus()
        if event.how == "start":
            self.call_after_refresh(self.app.run_action, "app.toggle_run")

    def on_descendant_blur(self) -> None:
        """Leaving by mouse or by another pane's key applies, or keeps, what was typed."""
        if self._editing and self.app.app_focus:
            self._close(apply=True)

    def on_click(self, event: events.Click) -> None:
        if self._editing or event.widget is None:
            return
        offset = event.get_content_offset(self.query_one("#words-shown"))
        if offset is not None:
            above = 1 + self._lines_of[0] + (len(self._rewards) > 1)
            self.action_choose("liked" if offset.y < above else "disliked")
            self.action_edit()

    def _close(self, *, apply: bool) -> None:
        text = self.query_one("#area", WordsArea).text
        path, words = self._path(self._side), parse_words(text)
        wrong = any(remark.wrong for remark in self._remarks_on(self._side, words))
        self._editing = False
        self.drafts.pop(path, None)
        if apply and wrong:
            self.drafts[path] = text
        elif apply:
            self._apply(path, words)
        self._redraw()

    def _apply(self, path: str, words: list[str]) -> None:
        """Use the list, and then the other one, if it was only waiting for this."""
        assert self.config is not None
        reward, side = self._reward(), path.rpartition(".")[2]
        if words == [clean_line(word) for word in getattr(reward, side)]:
            return
        kept = without_doubles(words)[0]
        self.config = replace(self.config, {path: kept})
        self.post_message(self.Edited(path, kept))
        other = SIDES[1 - SIDES.index(side)]
        draft = self.drafts.get(self._path(other))
        if draft is not None and not any(r.wrong for r in self._remarks_on(other, parse_words(draft))):
            del self.drafts[self._path(other)]
            self._apply(self._path(other), parse_words(draft))


@cache
def _lexicon() -> frozenset[str]:
    from rlhf_engine.storyteller import lexicon

    return lexicon()
