"""Lines that no longer count, dropped: of what came after the checkpoint that a run goes on from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_engine.files.disk import replace_bytes, writing
from rlhf_engine.files.reading import open_regular, whole_number
from rlhf_engine.runs.run_files import ALARMS, EDITS, METRICS, PROBES, SAMPLES
from rlhf_engine.runs.run_lines import each_line

_BLOCK_BYTES = 1024 * 1024


def truncate_after(folder: Path, step: int, edits: int) -> list[str]:
    """Drops everything that happened after `step` in the run in `folder`, for a resume from there; one sentence for
    each damaged file. Raises RunError when the disk refuses.

    edits: how many live changes the checkpoint holds; a change made between two steps may be in it or not.
    """
    notices = []
    for name in (METRICS, SAMPLES, ALARMS, PROBES, EDITS):
        # hundreds of megabytes after a long run: none of these files is held, and most are not written again
        path, rows, damaged, dropped = folder / name, 0, 0, False
        kept: list[tuple[int, int]] = []  # places of the file, lines that follow each other as one
        place = 0
        for length, row, blank in each_line(path):
            begin, place = place, place + length
            rows += row is not None
            stays = row is not None and (rows <= edits if name == EDITS else _step_of(row) <= step)
            damaged += row is None and not blank
            dropped = dropped or not (stays or blank)
            if stays and kept and kept[-1][1] == begin:
                kept[-1] = (kept[-1][0], place)
            elif stays:
                kept.append((begin, place))
        if damaged:
            notices.append(f"{name}: {damaged} unreadable {'line was' if damaged == 1 else 'lines were'} dropped.")
        if dropped:
            with writing(path):
                replace_bytes(path, _pieces(path, kept))
    return notices


def _step_of(row: Mapping[str, Any]) -> float:
    """The step that a line is of; of none, one that comes after all others."""
    try:
        return whole_number(row.get("step"))
    except ValueError:
        return math.inf


def _pieces(path: Path, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    with open_regular(path) as file:
        for begin, end in places:
            file.seek(begin)
            while (left := end - file.tell()) > 0 and (data := file.read(min(_BLOCK_BYTES, left))):
                yield data
