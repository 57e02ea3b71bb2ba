"""Choose who answers in a comparison: the reference, the model as it stands, or a checkpoint of any run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError
from rlhf_engine.requests import REFERENCE, TUNED, Side
from rlhf_engine.runs.checkpoint_list import steps
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import list_runs
from rlhf_engine.runs.run_settings import settings_now
from rlhf_tui.background import run_in_background
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.dialogs import DIALOG_STYLES
from rlhf_tui.widgets.picker import Picker

_MOST = 200  # lines at once: more are found by typing


def side_label(side: Side) -> str:
    """A side in a word or two, fit to be shown."""
    if side.run is None:
        return side.kind
    return clean_line(f"{side.run.name}@{'newest' if side.step is None else side.step}")


def scored_by(
    first: Side, second: Side, config: RunConfig, *, busy: bool
) -> tuple[RunConfig | None, RunDir | None]:
    """The settings whose rewards score the answers of both, where they are not those of a run that goes on, and the run
    they are of. config: those of the screen; busy: a run goes on."""
    if first.kind == second.kind == "checkpoint" and first.run is not None:
        run_dir = RunDir(first.run)
        try:
            return settings_now(run_dir), run_dir
        except RlhfError:  # told by the engine
            return None, None
    return (None if busy else config), None


class SideScreen(Picker[Side]):
    """Checkpoints of `here` come first. Dismisses with a side, or None."""

    CSS_PATH = DIALOG_STYLES
    VERTICAL_BREAKPOINTS = [(0, "-tight"), (14, "-tall")]  # noqa: RUF012 (so the base class declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Take", tooltip="Let this one answer", id="side.take", priority=True),
    ]

    def __init__(self, which: str, root: Path, here: Path | None, *, with_live: bool) -> None:
        """with_live: the reference and the model as it stands can be chosen, for they are here."""
        super().__init__()
        self._which, self._root, self._here = which, root, here
        self._sides = [REFERENCE, TUNED] if with_live else []
        self._shown: list[Side] = []
        self._problem = ""
        self._said = Static("reading…", id="said", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content(f"The {self._which} of the two")
            box.border_subtitle = Content("Enter take · ↑↓ look · Esc back")
            yield self._filter
            yield self._list
            yield self._said

    def on_mount(self) -> None:
        run_in_background(self, self._look_up, self._found, partial(self._found, []))

    def _look_up(self) -> list[Side]:
        runs = sorted(list_runs(self._root), key=lambda run: run.path != self._here)
        return [Side("checkpoint", run.path, step) for run in runs for step in _steps(run.path)]

    def _found(self, sides: list[Side], problem: str = "") -> None:
        """Show them below those that are always there."""
        self._sides = [side for side in self._sides if side.run is None] + sides
        self._problem = problem
        self._fill()

    def _fill(self) -> None:
        wanted = self._filter.value.lower().split()
        found = [side for side in self._sides if all(word in _line(side).lower() for word in wanted)]
        self._shown, more = found[:_MOST], max(0, len(found) - _MOST)
        self._list.clear_options()
        self._list.add_options([Option(_line(side)) for side in self._shown])
        if self._shown:
            self._list.highlighted = 0
        counted = f"… and {more} more: type to find them" if more else "" if found else "nothing matches"
        said = self._problem or counted
        self._said.update(Content(said))

    def _meant(self, index: int) -> Side | None:
        return self._shown[index]


def _steps(path: Path) -> list[int]:
    """The checkpoints that can answer: none of a reward model."""
    run = RunDir(path)
    try:
        return steps(run) if run.config().algorithm.needs.answers else []
    except RlhfError:
        return []


def _line(side: Side) -> str:
    about = {"reference": "  the untrained model", "tuned": "  the model as it stands now"}.get(side.kind, "")
    return side_label(side) + about
