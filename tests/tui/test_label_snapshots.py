"""Pictures of the label screen. After a change that is meant: `pytest tests/tui/test_label_snapshots.py
--snapshot-update`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from moments import until
from textual.pilot import Pilot
from tui.fake_session import Sessions
from tui.test_generate import shown
from tui.test_label import opened

from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.label.last_pair import LastPairScreen
from rlhf_tui.areas.label.statistics_screen import LabelStatisticsScreen

SIZES = [(120, 40), (80, 24)]
SnapCompare = Callable[..., bool]


@pytest.fixture
def app(app: WorkbenchApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkbenchApp:
    """Its file has a name as short as a user's, and every pair takes three seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rlhf_tui.areas.label.label_start.usual_path", lambda *_: Path("labels/animals.jsonl"))
    ticks = iter(range(0, 100_000, 3))
    monkeypatch.setattr("rlhf_tui.areas.label.sitting.monotonic", lambda: float(next(ticks)))
    monkeypatch.setenv("LOGNAME", "ann")
    return app


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_a_pair_and_what_is_said_of_the_one_before(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Pilot[Any]) -> None:
            await opened(pilot, sessions)
            await pilot.press("a", "b", "f")
            await until(pilot, lambda: "⚑ flagged" in shown(app) and "2/100" in shown(app))

        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_judged_anew_with_a_note(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Pilot[Any]) -> None:
            await opened(pilot, sessions)
            await pilot.press("a", "t", "u")
            await until(pilot, lambda: "judged anew" in shown(app))
            await pilot.press("n", *"both are about owls")
            await until(pilot, lambda: "both are about owls" in shown(app))

        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_why(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Pilot[Any]) -> None:
            await opened(pilot, sessions)
            await pilot.press("a", "b", "v")
            await until(pilot, lambda: isinstance(pilot.app.screen, LastPairScreen))

        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_statistics(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Pilot[Any]) -> None:
            await opened(pilot, sessions)
            await pilot.press(*"ababtaab0aaxbb", "i")
            await until(pilot, lambda: isinstance(pilot.app.screen, LabelStatisticsScreen))
            await until(pilot, lambda: "left won" in shown(app))

        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_who_judges_and_where(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        async def before(pilot: Pilot[Any]) -> None:
            await opened(pilot, sessions)
            await pilot.press("o")
            await until(pilot, lambda: "Who judges" in shown(app))

        assert snap_compare(app, terminal_size=size, run_before=before)
