"""Help: the keys of where one was, then all others; every metric and every term explained. `/` searches all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from rlhf_engine.config.methods.base import AlgorithmConfig
from rlhf_engine.metrics import Metric
from rlhf_tui.areas.help.glossary import GLOSSARY
from rlhf_tui.areas.help.key_guide import Action, available_actions, nearest_first, reachable
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.terminal.vi_keys import VI_KEYS_HELP
from rlhf_tui.widgets.inputs import TextField
from rlhf_tui.widgets.screen import BaseDialog

ON_THE_SCREEN = """\
The numbers open the panes: hyperparameters, charts, reward words, samples. Enter opens a setting or a list, and checks
it as you type; Enter, Tab or the arrows use it, Esc puts back what was there. Esc leaves a field, then a zoomed pane,
then a screen. • marks what was changed since the run began, ≠ what is not the preset's, ✗ what is not allowed, ⊘ what
is fixed during a run. u undoes a change, during a run too."""

WHAT_HELPS = {
    "a badge says diverged": "loss or gradient was not finite: start again with a lower learning rate",
}


_LEAST = 16  # cells beside the names of keys


@dataclass(frozen=True)
class Chapter:
    """A title, and what stands under it, each of which can be found on its own."""

    title: str
    entries: tuple[Content, ...]
    indent: int = 0
    """Where the later lines of an entry that is wider than the page begin."""


class HelpScreen(BaseDialog[None]):
    """Reads; ↑ ↓ PgUp PgDn scroll, / searches, Esc empties the search, then closes."""

    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,question_mark,f1,enter", "dismiss", "Close", id="help.close"),
        Binding("escape", "back", "Back", id="help.back"),
        Binding("slash", "search", "Search", tooltip="Show only what has some words", id="help.search"),
        Binding("down", "scroll(1)", "Down", show=False),
        Binding("up", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, method: AlgorithmConfig) -> None:
        """method: of the run on the screen, whose metrics and way are explained."""
        super().__init__()
        self._method = method
        self._chapters: list[Chapter] = []
        self._field = TextField(placeholder="words to look for", id="search")
        self._text = Static("", id="text", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content("Help")
            box.border_subtitle = Content("/ search · ↑↓ PgUp PgDn scroll · Esc close")
            yield self._field
            with VerticalScroll(id="page"):
                yield self._text

    def on_mount(self) -> None:
        self._field.display = False
        asked_on = self.app.screen_stack[-2] if len(self.app.screen_stack) > 1 else self.app.screen
        self._chapters = [
            *keys(nearest_first(reachable(available_actions(asked_on), asked_on), asked_on.focused)),
            Chapter("Other keys", (Content(VI_KEYS_HELP),)),
            Chapter("On the screen", (Content(_flowing(ON_THE_SCREEN)),)),
            Chapter("Charts and metrics", tuple(map(_metric, self._method.metrics))),
            Chapter("What helps", _definitions({**self._method.troubles, **WHAT_HELPS})),
            Chapter(f"How {clean_line(self._method.title)} works here",
                    (Content(_flowing(clean_text(self._method.explanation))),)),
            Chapter("Glossary", _definitions({**GLOSSARY, **self._method.glossary})),
        ]
        self._show()
        self.query_one("#page").focus()

    def _show(self) -> None:
        found = search(self._chapters, self._field.value)
        nothing = Content.styled("nothing here has these words", "$text-muted")
        width = self.query_one("#page").scrollable_content_region.width
        pages = Content("\n\n").join(_page(chapter, width) for chapter in found)
        self._text.update(pages if found else nothing)
        self.query_one("#page").scroll_home(animate=False)

    def on_resize(self, _: events.Resize) -> None:
        self.call_after_refresh(self._show)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search as one types."""
        event.stop()
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Read what was found."""
        event.stop()
        self.query_one("#page").focus()

    def action_search(self) -> None:
        """Open the field."""
        self._field.display = True
        self._field.focus()

    def action_scroll(self, lines: int) -> None:
        """The page, from the field too."""
        self.query_one("#page").scroll_relative(y=lines, animate=False)

    def action_back(self) -> None:
        """Out of the search first."""
        if not self._field.display:
            self.dismiss()
            return
        self._field.value = ""
        self._field.display = False
        self.query_one("#page").focus()


def search(chapters: Iterable[Chapter], wanted: str) -> list[Chapter]:
    """The entries that have all words of `wanted`, in any case, these words marked; chapters without one are left out.
    """
    words = wanted.lower().split()
    found = []
    for chapter in chapters:
        entries = tuple(_marked(entry, words) for entry in chapter.entries
                        if all(word in entry.plain.lower() for word in words))
        if entries:
            found.append(replace(chapter, entries=entries))
    return found


def keys(actions: list[Action]) -> Iterator[Chapter]:
    """A chapter for each place where keys count: key, name, what it is for."""
    width = max((len(action.key) for action in actions), default=0)
    name_width = max((len(action.name) for action in actions), default=0)
    for place, group in groupby(actions, attrgetter("place")):
        yield Chapter(f"Keys · {clean_line(place)}", tuple(
            Content.assemble((action.key.rjust(width), "$primary bold"), f"  {action.name:<{name_width}}  ",
                             (action.purpose, "$text-muted")) for action in group), width + name_width + 4)


def _metric(metric: Metric) -> Content:
    unit = f" ({metric.unit})" if metric.unit else ""
    good = {"up": "  ▲ is good", "down": "  ▼ is good", "neither": ""}[metric.better]
    lines = [Content.assemble((metric.title, "bold"), (f"{unit}{good}", "$text-muted")), Content(f"  {metric.help}")]
    lines += [Content.assemble((f"  {symbol} ", style), text) for symbol, style, text in
              (("✓", "$text-success", metric.good), ("✗", "$text-error", metric.bad)) if text]
    return Content("\n").join(lines)


def _definitions(meanings: Mapping[str, str]) -> tuple[Content, ...]:
    """Each word with what it means; a method of another package may have written anything."""
    return tuple(Content.assemble((clean_line(word), "bold"), f"  {clean_line(meaning)}")
                 for word, meaning in meanings.items())


def _page(chapter: Chapter, width: int) -> Content:
    entries = [hanging(entry, chapter.indent, width) for entry in chapter.entries]
    return Content("\n").join([Content.styled(chapter.title, "$primary bold underline"), *entries])


def hanging(entry: Content, indent: int, width: int) -> Content:
    """The entry with its later lines `indent` cells in, where there is room for that beside a few words."""
    if not indent or width - indent < _LEAST or entry.cell_length <= width:
        return entry
    first, *rest = entry[indent:].wrap(width - indent)
    return Content("\n").join([entry[:indent] + first, *(Content(" " * indent) + line for line in rest)])


def _marked(content: Content, words: Iterable[str]) -> Content:
    text = content.plain.lower()
    if len(text) != len(content.plain):  # a letter whose lower case is longer would shift all after it
        return content
    for word in words:
        at = text.find(word)
        while at >= 0:
            content = content.stylize("reverse", at, at + len(word))
            at = text.find(word, at + len(word))
    return content


def _flowing(text: str) -> str:
    """A paragraph without its line breaks: the page wraps it."""
    return " ".join(text.split("\n"))
