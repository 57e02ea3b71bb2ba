"""What every view of word lists shares: a list is typed as text, checked as one types, applied, and never lost.

Enter opens a list as text, Enter again applies it, Esc puts it back (Ctrl+Z in the text brings back what Esc dropped).
A list that cannot be used yet stays as written until it is put right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static, TextArea

from rlhf_engine.config.fields import replace
from rlhf_engine.config.rewards import WordListRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_tui.areas.rewards.word_text import (
    Remark,
    lexicon_of,
    list_head,
    remark_line,
    remarks,
    unsayable,
    without_doubles,
)
from rlhf_tui.areas.settings_form.setting_rows import VIEWED_REASON, without_place
from rlhf_tui.editing.undo_stack import same_rewards
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.inputs import WordsArea
from rlhf_tui.widgets.word_entries import parse_words, words_text

SIDES = ("liked", "disliked")
NO_LISTS = "This preset has no word list among its rewards."


class WordEditor(Widget, can_focus=True):
    """The lists of one word-list reward; ← → go to another where there are several. Posts `Edited`.

    How the lists look is up to subclasses: `compose_lists`, and `draw_lists`, called whenever they may have changed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(-1)", "Previous reward", tooltip="Where there are several word lists",
                id="words.left"),
        Binding("right", "turn(1)", "Next reward", tooltip="Where there are several word lists", id="words.right"),
        Binding("enter", "edit", "Edit words", tooltip="Open the list under the cursor as text", id="words.edit"),
        Binding("E", "own_editor", "Own editor", id="words.own_editor",
                tooltip="The list under the cursor in your own editor ($VISUAL, $EDITOR)"),
        Binding("escape", "restore", "Restore words", tooltip="Drop a list that cannot be used", id="words.restore"),
    ]
    DEFAULT_CSS = """
    WordEditor { layout: vertical; }
    WordEditor #heading { height: 1; display: none; }
    WordEditor #words-shown { height: 1fr; }
    WordEditor #area { height: 1fr; min-height: 1; display: none; scrollbar-size-vertical: 1; padding: 0; }
    WordEditor #remarks { height: auto; max-height: 5; }
    WordEditor.-editing #words-shown { display: none; }
    WordEditor.-editing #heading, WordEditor.-editing #area { display: block; }
    """
    hint = "Enter edits · ↑ ↓ choose a list"
    typing_hint = ""

    @dataclass
    class Edited(Message):
        """A person changed the list at `path`, as in `rewards.0.liked`."""

        path: str
        value: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.config: RunConfig | None = None
        self.training = self.viewing = False
        self.drafts: dict[str, str] = {}
        self.side = "liked"
        self.editing = False
        self._rewards: list[int] = []
        self._chosen = 0

    # --- what a screen calls ---

    def load(self, config: RunConfig, *, training: bool, viewing: bool = False) -> None:
        """Show the lists of `config`. What is being typed stays. viewing: they can be read, and not be changed."""
        if config != self.config and not self.editing:
            self.drafts.clear()
        self.config, self.training, self.viewing = config, training, viewing
        self._rewards = [i for i, reward in enumerate(config.rewards) if isinstance(reward, WordListRewardConfig)]
        self._chosen = min(self._chosen, max(0, len(self._rewards) - 1))
        self.redraw()

    def follow(self, config: RunConfig) -> None:
        """Take in what another pane changed in the same settings; what is written here stays."""
        if config != self.config and self.config is not None:
            drafts = self.drafts.copy() if same_rewards(self.config, config) else {}
            self.load(config, training=self.training, viewing=self.viewing)
            self.drafts = drafts
            self.redraw()

    # --- drawing ---

    def compose(self) -> ComposeResult:
        yield Static(id="heading", markup=False)
        yield from self.compose_lists()
        yield WordsArea(id="area")
        yield Static(id="remarks", markup=False)

    def compose_lists(self) -> ComposeResult:
        """One widget with the id `words-shown`."""
        raise NotImplementedError

    def draw_lists(self) -> None:
        """Bring `words-shown` up to date; there may be no reward with lists."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.redraw()

    def on_focus(self) -> None:
        # Textual sets has_focus only after this handler
        self.call_later(self.redraw)

    def on_blur(self) -> None:
        self.call_later(self.redraw)

    def on_resize(self, event: events.Resize) -> None:
        self.query_one("#remarks").styles.max_height = max(1, min(5, event.size.height // 2))
        self.redraw()

    def redraw(self) -> None:
        """Draw the lists, and what there is to say about them."""
        if not self.is_mounted:
            return
        self.set_class(self.editing, "-editing")
        self.draw_lists()
        there = self.reward is not None
        self.query_one("#heading", Static).update(self.head(self.side, parse_words(self._text())) if there else "")
        self.query_one("#remarks", Static).update(self._foot() if there else "")

    def head(self, side: str, words: list[str], chosen: bool | None = None) -> Content:
        """Sign, name and length of a list; marked where `chosen`, which is up to the cursor if it is not given."""
        if chosen is None:
            chosen = side == self.side and (self.has_focus or self.editing)
        waiting = not self.editing and self.path(side) in self.drafts
        return list_head(side, words, waiting, max(0, self.size.width - 1) if chosen else 0)

    def which(self) -> list[Content]:
        """A line that names the reward, where there are several with lists; else none."""
        if self.reward is None or len(self._rewards) < 2:
            return []
        return [Content.assemble(f"‹ {self.reward.name} ›", (f"  {self._chosen + 1} of {len(self._rewards)}", "dim"))]

    def _foot(self) -> Content:
        found = self._remarks()
        # what must be put right first stands alone: there is little room
        found = [remark for remark in found if remark.wrong] or found
        lines = [remark_line(remark) for remark in found]
        if self.viewing and (self.editing or self.has_focus):
            keys = "Esc closes" if self.editing else "Enter shows all words"
            lines += [Content.styled(f"{keys} · {VIEWED_REASON}", "dim")]
        elif self.editing:
            ready = "Enter applies" + (" from the next step on" if self.training else "") + " · Esc puts back"
            if self.typing_hint:
                lines.append(Content.styled(self.typing_hint, "dim"))
            wrong = any(remark.wrong for remark in found)
            lines.append(Content.styled("✗ not applied until this is put right" if wrong else f"✓ {ready}", "dim"))
        elif self.has_focus:
            lines.append(Content.styled(self.hint + " · ← → reward" * (len(self._rewards) > 1), "dim"))
        return Content("\n").join(lines)

    # --- the lists ---

    @property
    def reward(self) -> WordListRewardConfig | None:
        """The reward whose lists are shown."""
        if self.config is None or not self._rewards:
            return None
        reward = self.config.rewards[self._rewards[self._chosen]]
        return reward if isinstance(reward, WordListRewardConfig) else None

    def path(self, side: str) -> str:
        """Where a list stands in the config."""
        return f"rewards.{self._rewards[self._chosen]}.{side}"

    def words(self, side: str) -> list[str]:
        """A list, as written where it cannot be used yet."""
        if self.reward is None:
            return []
        draft = self.drafts.get(self.path(side))
        return parse_words(draft) if draft is not None else list(getattr(self.reward, side))

    def mute(self, side: str) -> set[str]:
        """The words of a list that the model can never say."""
        sayable = lexicon_of(self.config)
        return set(unsayable(self.words(side), sayable)) if sayable is not None else set()

    def _text(self) -> str:
        if self.editing:
            return self.query_one("#area", WordsArea).text
        return words_text([clean_line(word) for word in self.words(self.side)])

    def _remarks(self) -> list[Remark]:
        """About the list under the cursor, as it is typed; from afar only what is wrong with either."""
        if not self.editing and not self.has_focus:
            both = [remark for side in SIDES for remark in self._remarks_on(side, self.words(side))]
            return list({remark.text: remark for remark in both if remark.wrong}.values())
        return self._remarks_on(self.side, parse_words(self._text()))

    def _remarks_on(self, side: str, words: list[str]) -> list[Remark]:
        other = SIDES[1 - SIDES.index(side)]
        found = remarks(words, self.words(other), lexicon_of(self.config))
        wanted = without_doubles(words)[0]
        # what the settings hold has been found to be allowed
        changed = self.reward is not None and wanted != list(getattr(self.reward, side))
        if changed and not any(remark.wrong for remark in found) and self.config is not None:
            try:
                replace(self.config, {self.path(side): wanted})
            except ConfigError as error:
                found.append(Remark(without_place(error.problems[0]), wrong=True))
        return found

    # --- editing ---

    def action_turn(self, step: int) -> None:
        """The word lists of another reward."""
        if self._rewards:
            self.choose_reward(self._rewards[(self._chosen + step) % len(self._rewards)])

    def choose_reward(self, index: int) -> None:
        """Show the lists of the reward at `index` of the config, if it has any."""
        if index in self._rewards and not self.editing:
            self._chosen = self._rewards.index(index)
            self.redraw()

    def action_edit(self) -> None:
        """Open the list as text."""
        if self.reward is None:
            return
        text = self._text()
        if "," in text:  # the cursor waits at the end, ready for another word
            text = text.rstrip(",") + ", "
        text = self.drafts.get(self.path(self.side), text)
        self.editing = True
        area = self.query_one("#area", WordsArea)
        area.put(text)
        area.read_only = self.viewing
        self.redraw()
        area.focus()

    def action_own_editor(self) -> None:
        """The list under the cursor in the user's own editor, a word or phrase a line."""
        from rlhf_tui.terminal.own_editor import edited

        if self.reward is None or self.viewing:
            return
        try:
            text = edited(self.app, "\n".join(self.words(self.side)) + "\n", f"{self.side}.txt")
        except ConfigError as error:
            self.app.notify(str(error), markup=False)
            return
        self.write(self.side, parse_words(text), text)
        self.redraw()

    def action_restore(self) -> None:
        """Drop what was typed but could not be applied."""
        self.drafts.pop(self.path(self.side), None)
        self.redraw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc belongs to this pane only while it has something to give up."""
        return action != "restore" or (bool(self._rewards) and self.path(self.side) in self.drafts)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Count and check as one types."""
        event.stop()
        if self.editing:
            self.redraw()

    def on_words_area_left(self, event: WordsArea.Left) -> None:
        """Enter stays where something is wrong; every other key leaves."""
        event.stop()
        if event.how == "enter" and not self.viewing and any(remark.wrong for remark in self._remarks()):
            return
        self._close(apply=event.how != "escape")
        self.focus()
        if event.how == "start":
            self.call_after_refresh(self.app.run_action, "app.toggle_run")

    def on_descendant_blur(self) -> None:
        """Leaving by mouse or by another pane's key applies, or keeps, what was typed."""
        if self.editing and self.app.app_focus:
            self._close(apply=True)

    def _close(self, *, apply: bool) -> None:
        text = self.query_one("#area", WordsArea).text
        self.editing = False
        if apply and not self.viewing:
            self.write(self.side, parse_words(text), text)
        else:
            self.drafts.pop(self.path(self.side), None)
        self.redraw()

    def write(self, side: str, words: list[str], text: str) -> None:
        """Use a list, or keep `text` as a draft of it; then use the other one, if it was only waiting for this."""
        path = self.path(side)
        self.drafts.pop(path, None)
        if any(remark.wrong for remark in self._remarks_on(side, words)):
            self.drafts[path] = text
            return
        assert self.config is not None
        # what is typed over is what can be shown: an entry left alone keeps its unprintable characters
        originals = {clean_line(word): word for word in getattr(self.reward, side)}
        if words == list(originals):
            return
        kept = [originals.get(word, word) for word in without_doubles(words)[0]]
        self.config = replace(self.config, {path: kept})
        self.post_message(self.Edited(path, kept))
        other = SIDES[1 - SIDES.index(side)]
        draft = self.drafts.get(self.path(other))
        if draft is not None:
            self.write(other, parse_words(draft), draft)
