"""Labelling: one key judges the pair in view, which is on the disk before the next one shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from moments import until
from textual.pilot import Pilot
from tui.fake_session import Sessions, story_pairs
from tui.test_generate import shown, tell

from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.label_file import read_labels
from rlhf_engine.requests import SamplePairs
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.label.pair_queue import Turn
from rlhf_tui.areas.label.screen import LabelScreen
from rlhf_tui.engine.bridge import EngineBridge

WIDE, SMALL, TINY = (120, 40), (80, 24), (44, 12)


@pytest.fixture
def labels(bridge: EngineBridge) -> Path:
    """Where the judgements of preset animals are kept."""
    return bridge.runs_root.parent / "labels" / "animals.jsonl"


def asked(sessions: Sessions) -> list[SamplePairs]:
    return [request for request in sessions.last.asked if isinstance(request, SamplePairs)]


async def opened(pilot: Pilot[Any]) -> LabelScreen:
    """The label screen, a pair in view."""
    await pilot.press("l")
    screen = pilot.app.screen
    assert isinstance(screen, LabelScreen)
    await until(pilot, lambda: "Once upon a time" in shown(pilot.app))
    await pilot.pause()
    return screen


def kept(labels: Path) -> list[Judgement]:
    return read_labels(labels) if labels.exists() else []


async def test_a_key_judges_the_pair_in_view(app: WorkbenchApp, sessions: Sessions, labels: Path) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot)
        print(shown(app))
        await pilot.press("a")
        from rlhf_tui.terminal.textual_private import is_idle, has_drawn_all
        sc=app.screen; print(sc.is_active, is_idle(app), has_drawn_all(sc), [n for n in sc.walk_children(with_self=True) if not is_idle(n)], app._input_order._follower, app._input_order._waiting, sc._callbacks, app.focused)
        await pilot.pause(2.0); print(labels.exists())

        await pilot.press(*"ab0t" * 5)
        print(shown(app))
        assert len(kept(labels)) == 21
