"""Who judges, into which file, and how many pairs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from rlhf_engine.errors import RlhfError
from rlhf_engine.labels.label_file import LabelFile
from rlhf_tui.areas.label.sitting import Sitting
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.dialogs import ActingDialog
from rlhf_tui.widgets.inputs import NumberField, TextField

MOST_WANTED = 1_000_000
LONGEST_NAME = 100


@dataclass(frozen=True)
class Choice:
    """What was chosen."""

    rater: str
    path: Path
    wanted: int


class Opening:
    """Opens the file that is chosen, and lets go of the one before; nothing is done to that where it cannot be."""

    def __init__(self, repeat_every: int, before: Sitting | None = None) -> None:
        """repeat_every: see `Repeats`. before: who sits there now."""
        self._repeat_every, self._before = repeat_every, before
        self.opened: tuple[Choice, Sitting] | None = None
        self._abandoned = False
        self._held = threading.Lock()

    def open(self, choice: Choice) -> None:
        """Not for the screen's thread. Raises RlhfError."""
        before = self._before
        if before is not None and before.file.path == choice.path:
            same = before.rater == choice.rater
            self.opened = choice, before if same else Sitting(before.file, choice.rater, self._repeat_every)
            return
        file = LabelFile.open(choice.path, rater=choice.rater)
        sitting = Sitting(file, choice.rater, self._repeat_every)
        with self._held:
            self.opened = choice, sitting
            if self._abandoned:
                sitting.close()
        if before is not None:
            with suppress(RlhfError):  # no judgement depends on it
                before.close()

    def abandon(self) -> None:
        """Nobody takes the file any more: it is let go of, now or as soon as it is open."""
        with self._held:
            self._abandoned = True
            if self.opened is not None:
                self.opened[1].close()


class LabelOptionsScreen(ActingDialog):
    """`act` is called in a thread; what it refuses is said here, and everything stays as it was."""

    CSS_PATH = Path(__file__).with_name("screen.tcss")
    title_text = "Who judges, and where it is kept"
    keys_text = "Enter apply · Tab next · Esc back"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Back", id="label-options.back")]

    def __init__(self, now: Choice, act: Callable[[Choice], object]) -> None:
        super().__init__()
        self._before, self._choose = now, act
        self._rater = TextField(now.rater, id="rater", max_length=LONGEST_NAME)
        self._file = TextField(str(now.path), id="path")
        self._path_before = self._file.value.strip()
        self._wanted = NumberField(now.wanted, whole=True, step=10, low=1, high=MOST_WANTED, id="wanted")

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            for name, field in (("rater", self._rater), ("file", self._file), ("pairs", self._wanted)):
                with Horizontal(classes="row"):
                    yield Static(name, classes="name", markup=False)
                    yield field
            yield self._said

    def on_mount(self) -> None:
        super().on_mount()
        self._rater.focus()
        self.say("each judgement names its rater; a second person's in the same file show how far the two agree")

    def on_input_submitted(self) -> None:
        """Apply."""
        rater, path, wanted = clean_line(self._rater.value.strip()), self._file.value.strip(), self._wanted.number
        if not rater:
            self.say("✗ a judgement needs the name of who made it", "$text-error")
        elif not path:
            self.say("✗ judgements need a file to be kept in", "$text-error")
        elif wanted is None:
            self.say(f"✗ pairs is {self._wanted.allowed}", "$text-error")
        else:
            # what a field shows of a path that has no text is not that path
            chosen = self._before.path if path == self._path_before else Path(path).expanduser()
            self.do(partial(self._choose, Choice(rater, chosen, int(wanted))))
