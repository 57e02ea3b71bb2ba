"""A disk that does not answer, or a bug in reading it: the list does without, and nothing else waits or ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from faults.damaged_files import make_run
from moments import until

from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.runs.screen import RunsScreen


async def test_a_disk_that_never_answers_keeps_nobody_from_leaving(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(app.bridge.runs_root, "far")
    before = set(threading.enumerate())
    asked, never = threading.Event(), threading.Event()
    monkeypatch.setattr(RunDir, "status", lambda run: asked.set() or never.wait())
    try:
        async with app.run_test() as pilot:
            await pilot.press("r")
            await until(pilot, asked.is_set)
            reading = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
            assert reading == []  # the program would wait for them
            await pilot.press("escape")
            assert not isinstance(app.screen, RunsScreen)
            await pilot.press("q")
        assert app.return_code == 0
    finally:
        never.set()


async def test_a_bug_in_reading_ends_neither_the_list_nor_the_app(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_run(app.bridge.runs_root, "odd")

    def status(_: RunDir) -> None:
        raise AttributeError("a bug")

    monkeypatch.setattr(RunDir, "status", status)
    async with app.run_test() as pilot:
        await pilot.press("r")
        await until(pilot, lambda: "a bug" in app.screen._alarm.text)  # type: ignore[attr-defined]
        assert app.is_running
