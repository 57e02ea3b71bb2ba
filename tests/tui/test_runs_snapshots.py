"""Pictures of the runs screen and its dialogs. After a change that is meant: pytest --snapshot-update here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from tui.test_runs_screen import press, three

from rlhf_engine.runs import run_care, run_list
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp

__all__ = ["three"]  # the fixture
SnapCompare = Callable[..., bool]

KEYS = {
    "runs": ["down", "m"],
    "search": ["slash", "l", "m"],
    "differences": ["down", "i"],
    "fork": ["f", "tab", "slash", *"coef", "enter", "enter", *["backspace"] * 3, *"0.5", "enter"],
    "fork_wrong": ["f", "tab", "slash", *"coef", "enter", "enter", *["backspace"] * 3, *"-1"],
    "note": ["n"],
    "rename": ["R", "2"],
    "export": ["e"],
    "delete": ["m", "m", "x"],
    "trash": ["m", "m", "x", "y", "T"],
}


@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", KEYS)
def test_picture(
    snap_compare: SnapCompare, app: WorkbenchApp, three: list[RunDir], size: tuple[int, int], name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (run_care, run_list):  # a run's files hold numbers of this very process
        monkeypatch.setattr(module, "bytes_under", lambda path: 5_250_000)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    three[0].write_note("learnt fast; the words were few")

    async def before(pilot: Pilot[Any]) -> None:
        await press(pilot, "r", *KEYS[name])

    assert snap_compare(app, terminal_size=size, run_before=before)
