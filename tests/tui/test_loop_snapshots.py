"""Pictures of the guided path. After a change that is meant: `pytest tests/tui/test_loop_snapshots.py
--snapshot-update`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loop_runs import (
    POLICY_METRICS,
    held_out,
    judgement,
    policy_config,
    reward_model_config,
    write_labels,
    write_run,
)
from moments import until
from textual.pilot import Pilot
from tui.test_generate import shown

from rlhf_engine.config import presets
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.engine.bridge import EngineBridge

SIZES = [(120, 40), (80, 24)]
SnapCompare = Callable[..., bool]


@pytest.fixture
def app(bridge: EngineBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkbenchApp:
    """Its label file has a name as short as a user's."""
    monkeypatch.chdir(tmp_path)
    return WorkbenchApp(bridge, presets.load("human-feedback"), "human-feedback")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_before_anything(self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]) -> None:
        async def before(pilot: Pilot[Any]) -> None:
            await pilot.press("f5")
            await until(pilot, lambda: "0 of 300" in shown(app))

        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_half_way(
        self, snap_compare: SnapCompare, app: WorkbenchApp, tmp_path: Path, size: tuple[int, int]
    ) -> None:
        labels = tmp_path / "labels" / "human-feedback.jsonl"
        again = [judgement(place, repeat=1) for place in range(20)]
        write_labels(labels, [*(judgement(place) for place in range(300)), *again])
        reward = write_run(tmp_path / "runs", reward_model_config(labels), "liked-reward", [held_out(0.88, 0.4)])
        write_run(tmp_path / "runs", policy_config(reward.path), "tuned-fox", POLICY_METRICS)

        async def before(pilot: Pilot[Any]) -> None:
            await pilot.press("H")
            await until(pilot, lambda: "hidden score" in shown(app))

        assert snap_compare(app, terminal_size=size, run_before=before)
