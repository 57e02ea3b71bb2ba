"""Pictures of the workbench. After a change that is meant: `pytest tests/tui/test_snapshots.py --snapshot-update`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from tui.fake_session import Sessions

from rlhf_engine.events import Notice, RunState
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.terminal.theme import LIGHT

SIZES = [(120, 40), (80, 24)]
SnapCompare = Callable[..., bool]


def train(sessions: Sessions, *keys: str, end: RunState | None = None) -> Callable[[Pilot[Any]], Awaitable[None]]:
    """Start, show 41 steps with a live edit at the 20th, then press `keys`."""

    async def run(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, WorkbenchApp)
        await pilot.press("f5")
        sessions.last.steps(20)
        app.show_events(app.bridge.drain())
        app.edited.edit("kl.coef", 0.2)
        sessions.last.steps(21)
        sessions.last.emit(Notice("distinct words fell 40 % while reward rose", "warning"))
        if end is not None:
            sessions.last.end(end, "")
        app.show_events(app.bridge.drain())
        await pilot.pause()
        await pilot.press(*keys)
        await pilot.pause()
        app.workbench.charts.drawing.draw_changed()
        await pilot.pause()

    return run


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_idle(self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]) -> None:
        assert snap_compare(app, terminal_size=size)

    def test_charts(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=train(sessions, "2"))

    def test_samples(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=train(sessions, "4"))

    def test_one_sample(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=train(sessions, "4", "down", "enter"))

    def test_quitting(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=train(sessions, "4", "q"))

    def test_finished_in_the_light_theme(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        app.theme = LIGHT.name
        assert snap_compare(app, terminal_size=size, run_before=train(sessions, "2", "z", end=RunState.FINISHED))
