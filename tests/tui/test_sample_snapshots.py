"""Pictures of the screens about samples. After a change that is meant: pytest --snapshot-update here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot
from tui.fake_session import Sessions, story_group, story_probe, story_sample, story_trace

from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.events import MethodsCompared, Probed, Sample
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.inspect.methods import MethodsScreen
from rlhf_tui.areas.inspect.screen import InspectScreen

SIZES = [(120, 40), (80, 24)]
SnapCompare = Callable[..., bool]
Before = Callable[[Pilot[Any]], Awaitable[None]]


def traced(index: int, *, sequence_level: bool = False) -> Sample:
    sample = story_sample(41, index)
    return replace(sample, trace=story_trace(sample, sequence_level=sequence_level))


def inspecting(sample: Sample, *keys: str) -> Before:
    async def run(pilot: Pilot[Any]) -> None:
        pilot.app.push_screen(InspectScreen(pilot.app.bridge, PPOConfig(), [sample]))
        await pilot.pause()
        await pilot.press(*keys)
        await pilot.pause()

    return run


def side_by_side(sessions: Sessions, *keys: str) -> Before:
    async def run(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, WorkbenchApp)
        app.push_screen(MethodsScreen(app.bridge, app.code_questions, app.edited.config, "Once upon a time "))
        await pilot.pause()
        sessions.last.emit(MethodsCompared(1, story_group()))
        app.show_events(app.bridge.drain())
        await pilot.pause()
        await pilot.press(*keys)
        await pilot.pause()

    return run


def probed(sessions: Sessions, *keys: str) -> Before:
    async def run(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, WorkbenchApp)
        await pilot.press("f5")
        for step in range(0, 45, 5):
            sessions.last.emit(Probed(step, story_probe(step)))
        app.show_events(app.bridge.drain())
        await pilot.pause()
        await pilot.press(*keys)
        await pilot.pause()

    return run


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_inspect(self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]) -> None:
        before = inspecting(traced(2), "right", "right", "right", "right", "down", "down")
        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_inspect_a_sequence(self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]) -> None:
        before = inspecting(traced(1, sequence_level=True), "end")
        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_history(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=probed(sessions, "h", "up"))

    def test_methods(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=side_by_side(sessions, "n", "left", "down", "down"))

    def test_methods_and_the_group(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        assert snap_compare(app, terminal_size=size, run_before=side_by_side(sessions, "tab", "down", "down"))
