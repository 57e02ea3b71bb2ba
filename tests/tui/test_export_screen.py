"""Exporting a run from the runs screen: in a process of its own, while the screen goes on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import warm
from moments import until
from tiny_models import make_ppo, save_tiny_model, tiny_config
from tui.test_generate import shown
from tui.test_hostile_text import shown_lines
from tui.test_runs_screen import press

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.runs.export import ExportScreen
from rlhf_tui.areas.runs.screen import RunsScreen


@pytest.fixture
def taught(app: WorkbenchApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run with real checkpoints of steps 1 and 2; the current folder is a new one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = tiny_config(save_tiny_model(tmp_path / "model", "gpt2"))
    run = RunDir.create(app.bridge.runs_root.absolute(), config, name="taught")
    tensors, numbers = make_ppo(config).state()
    for step in (1, 2):
        checkpoint.save(run, TrainingState(step, tensors, numbers, config), keep=3)
    return run


async def test_the_adapter_goes_into_the_proposed_folder_while_the_screen_goes_on(
    app: WorkbenchApp, taught: RunDir
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "r", "e")
        for part in ("Export taught", "checkpoint", "‹ step 2 ›", "‹ adapter ›", "exports/taught-step-2"):
            assert part in shown(app), part
        await press(pilot, "shift+tab", "shift+tab", "right")  # the older checkpoint, into another folder
        assert "exports/taught-step-1" in shown(app)
        await press(pilot, "f5")
        assert isinstance(app.screen, RunsScreen)
        await press(pilot, "slash", *"ta", "escape")  # keys work meanwhile
        target = Path("exports/taught-step-1").absolute()
        await until(pilot, lambda: "exported taught@1" in shown(app), lambda: shown_lines(app)[-4:])
        assert "kB: exports/taught-step-1" in shown(app)
        told = json.loads((target / "adapter_config.json").read_text())
        assert told["fan_in_fan_out"] is True
        assert (target / "adapter_model.safetensors").is_file()


@pytest.fixture
def fork_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of an export forks from an interpreter that has imported all; one test has the real one."""
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return warm.run([word for word in command[1:] if word != "-P"], cwd=Path.cwd())

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.usefixtures("fork_exports")
async def test_the_merged_model_by_enter_in_a_folder_of_ones_own(
    app: WorkbenchApp, taught: RunDir, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "r", "e", "shift+tab", "right", "tab")
        assert "exports/taught-step-2-merged" in shown(app)
        await press(pilot, "end", *["backspace"] * 30, *"../full", "enter")
        assert isinstance(app.screen, ExportScreen)
        assert "is not empty" in shown(app)
        await press(pilot, *"2", "enter")
        await until(pilot, lambda: "exported taught@2" in shown(app), lambda: shown_lines(app)[-4:])
        assert {"config.json", "model.safetensors"} <= {path.name for path in (tmp_path / "full2").iterdir()}
        assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


@pytest.mark.usefixtures("fork_exports")
async def test_why_an_export_failed_is_said(app: WorkbenchApp, taught: RunDir, tmp_path: Path) -> None:
    (tmp_path / "model" / "config.json").write_text("{}")
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "r", "e", "f5")
        await until(pilot, lambda: "y yes" in shown(app) or "not exported" in shown(app), lambda: shown_lines(app)[-4:])
        if "y yes" in shown(app):  # another base than the one that was trained, as far as its files tell
            await press(pilot, "y")
        await until(pilot, lambda: "not exported: " in shown(app), lambda: shown_lines(app)[-4:])
        assert not Path("exports").exists() or not list(Path("exports").iterdir())


async def test_a_run_without_a_checkpoint_has_nothing_to_export(app: WorkbenchApp, config: RunConfig) -> None:
    RunDir.create(app.bridge.runs_root, config, name="fresh")
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "r", "e")
        assert "no checkpoint to export" in shown(app)
