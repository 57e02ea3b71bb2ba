"""Samples that a user marked, of any run, in a file of the user's own.

Not in the run's directory: a workbench that only views a run may write nothing there, and a favourite outlives its run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from rlhf_engine.errors import RunError
from rlhf_engine.events import Sample
from rlhf_engine.files.disk import append_line, replace_text, writing
from rlhf_engine.files.own_files import open_to_add, own_folder
from rlhf_engine.runs.run_lines import read_lines, readable, sample, sample_row, to_line
from rlhf_tui.terminal.clean_text import clean_line, clean_sample

MOST = 500


@dataclass(frozen=True)
class Favourite:
    """A sample, and the name of its run."""

    run: str
    sample: Sample

    @property
    def key(self) -> tuple[str, int, str, str]:
        """What tells it from others."""
        return self.run, self.sample.step, self.sample.prompt, self.sample.response


@dataclass
class Favourites:
    """All favourites, newest mark first. Read at the first look, and again before each change: another workbench may
    have changed them."""

    path: Path = field(default_factory=lambda: Path(
        platformdirs.user_data_dir("rlhf-tui", appauthor=False), "favourites.jsonl"))
    _all: list[Favourite] | None = None
    _keys: set[tuple[str, int, str, str]] = field(default_factory=set)

    @property
    def all(self) -> list[Favourite]:
        """Newest mark first; their texts are clean. None where the file cannot be read."""
        if self._all is None:
            try:
                self._read()
            except RunError:
                self._know([])
        return self._all or []

    def holds(self, run: str, response: Sample) -> bool:
        """True for one of them."""
        return bool(self.all) and Favourite(run, response).key in self._keys

    def toggle(self, run: str, response: Sample) -> str:
        """Mark a sample, or take its mark off; a sentence that says so. Raises RunError when the disk refuses."""
        self._read()
        wanted = Favourite(run, response)
        rest = [known for known in self.all if known.key != wanted.key]
        if len(rest) < len(self.all):
            with writing(self.path):
                replace_text(self.path, "".join(_line(known) + "\n" for known in reversed(rest)))
            self._know(rest)
            return f"no favourite any more; {_count(len(rest))} left"
        if len(rest) >= MOST:
            return f"not marked: there are {MOST} favourites, and no more are kept; v lists them, * takes a mark off"
        with writing(self.path):
            own_folder(self.path.parent)
            os.close(open_to_add(self.path))
            append_line(self.path, _line(wanted))
        self._know([wanted, *rest])
        return f"favourite, kept in {self.path}; v lists {_count(len(rest) + 1)}"

    def _read(self) -> None:
        found = readable(read_lines(self.path, follow=True)[0],
                         lambda row: Favourite(clean_line(str(row["run"])), clean_sample(sample(row))))
        self._know(list({known.key: known for known in found}.values())[::-1][:MOST])

    def _know(self, favourites: list[Favourite]) -> None:
        self._all, self._keys = favourites, {known.key for known in favourites}


def _line(favourite: Favourite) -> str:
    return to_line({"run": favourite.run} | sample_row(favourite.sample, traced=True))


def _count(number: int) -> str:
    return f"{number} favourite{'' if number == 1 else 's'}"
