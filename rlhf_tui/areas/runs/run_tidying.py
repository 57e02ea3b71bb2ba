"""Runs renamed, noted, deleted and brought back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from textual.screen import Screen

from rlhf_engine.errors import RlhfError, RunError
from rlhf_engine.files.disk import NAME, NAME_RULE
from rlhf_engine.runs.run_care import move_to_trash, rename_run
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import RunSummary
from rlhf_engine.system.units import format_bytes
from rlhf_tui.areas.runs.run_dialogs import NameScreen, NoteScreen
from rlhf_tui.areas.runs.run_reader import RunReader
from rlhf_tui.areas.runs.run_selection import RunSelection
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.widgets.dialogs import SureScreen

_NAMED = 6


class RunTidying:
    """Asks over `screen`; then does it, and has the list read again."""

    def __init__(self, screen: Screen[None], bridge: EngineBridge, reader: RunReader, selection: RunSelection) -> None:
        self._screen, self._bridge, self._reader, self._selection = screen, bridge, reader, selection

    def rename(self, run: RunSummary) -> None:
        """Ask for another name."""
        if self._in_use(run):
            return
        taken = {other.path.name for other in self._reader.runs}

        def check(name: str) -> str:
            if not NAME.fullmatch(name):
                return NAME_RULE
            return f"there is a run named {name}" if name in taken and name != run.path.name else ""

        self._ask(NameScreen(run.name, check, lambda name: rename_run(RunDir.open(run.path), name)), "renamed")

    def write_note(self, run: RunSummary, *, in_editor: bool = False) -> None:
        """Write about the run; in_editor: in the user's own editor."""
        note = NoteScreen(run.name, run.note, lambda text: RunDir.open(run.path).write_note(text), in_editor=in_editor)
        self._ask(note, "note kept")

    def delete(self, runs: Sequence[RunSummary]) -> None:
        """Ask, then move them into the trash."""
        if not runs or any(self._in_use(run) for run in runs):
            return
        names = ", ".join(run.name for run in runs[:_NAMED]) + (" …" if len(runs) > _NAMED else "")
        found = [self._reader.figures[run.path].bytes for run in runs if run.path in self._reader.figures]
        what = f"the run {names}" if len(runs) == 1 else f"{len(runs)} runs ({names})"
        text = f"Delete {what}, {format_bytes(sum(found))}?\n\nInto the trash: T restores from there, or empties it."
        self._ask(SureScreen("Delete", text, partial(_delete, runs)), "deleted, into the trash · T restores")

    def show_trash(self) -> None:
        """What was deleted."""
        from rlhf_tui.areas.runs.trash import TrashScreen

        self._screen.app.push_screen(TrashScreen(self._bridge.runs_root), lambda _: self._reader.read())

    def _in_use(self, run: RunSummary) -> bool:
        """True, and said, for the run that the workbench shows: its files may not go from under it."""
        if self._selection.is_shown(run):
            how = "v leaves the view first" if self._bridge.viewing else "F5 stops it first"
            self._selection.say(f"{run.name} is open on the workbench: {how}")
            return True
        return False

    def _ask(self, dialog: Screen[bool], said: str) -> None:
        def after(done: bool | None) -> None:
            self._selection.done(said) if done else self._reader.read()

        self._screen.app.push_screen(dialog, after)


def _delete(runs: Sequence[RunSummary]) -> None:
    problems = []
    for run in runs:
        try:
            move_to_trash(RunDir.open(run.path))
        except RlhfError as error:
            problems.append(str(error))
    if problems:
        raise RunError(" ".join(problems))
