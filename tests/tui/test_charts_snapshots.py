"""Pictures of the charts. After a change that is meant: pytest tests/tui/test_charts_snapshots.py --snapshot-update"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from tui.fake_session import Sessions, step_metrics
from tui.test_charts import curves

from rlhf_tui.app import WorkbenchApp

SIZES = [(120, 40), (80, 24)]
SnapCompare = Callable[..., bool]


def charted(sessions: Sessions, *keys: str, ascii_only: bool = False) -> Callable[[Pilot[Any]], Awaitable[None]]:
    """Train 41 steps with a live edit at the 21st beside two older runs, then press `keys`."""

    async def run(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, WorkbenchApp)
        await pilot.press("f5")
        sessions.last.steps(20)
        app.show_events(app.bridge.drain())
        app.edited.edit("kl.coef", 0.3)
        sessions.last.steps(21)
        app.show_events(app.bridge.drain())
        charts = app.workbench.charts
        for label, steps, scale in (("quiet-owl", 60, 0.7), ("red-fox", 30, 1.2)):
            scaled = ({name: value * scale for name, value in step_metrics(step).items()} for step in range(1, steps))
            charts.curves.overlay(label, curves((step, step * scale, told) for step, told in enumerate(scaled, 1)))
        charts.ascii = ascii_only
        await pilot.pause()
        await pilot.press("2", *keys)
        await pilot.pause()
        app.workbench.charts.drawing.draw_changed()
        await pilot.pause()

    return run


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_other_runs_an_edit_and_the_cursor(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        keys = ("z", "right_square_bracket", *["left_square_bracket"] * 4)
        assert snap_compare(app, terminal_size=size, run_before=charted(sessions, *keys))

    def test_in_ascii_by_wall_time(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=charted(sessions, "z", "x", "x", ascii_only=True))

    def test_choosing_a_metric(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=charted(sessions, "m", *"kl"))

    def test_a_chart_explains_itself(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=charted(sessions, "down", "e"))
