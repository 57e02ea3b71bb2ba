"""A run whose data file has changed since goes on only after a yes: real runs of a tiny model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from moments import until
from textual.pilot import Pilot
from tiny_models import save_tiny_model, tiny_config
from tui.test_generate import shown

from rlhf_engine.config import fields
from rlhf_engine.data.pinning import pinned_data
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.runs.fork import ForkScreen
from rlhf_tui.areas.runs.more_steps import MoreStepsScreen
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.widgets.dialogs import SureScreen

pytestmark = pytest.mark.timeout(600)


def write_rows(source: Path, word: str, rows: int = 12) -> None:
    source.write_text("".join(json.dumps({"prompt": f"{word} {place}"}) + "\n" for place in range(rows)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.jsonl", "Row")
    return tmp_path / "rows.jsonl"


@pytest.fixture
def run(tmp_path: Path, source: Path, runs_root: Path) -> RunDir:
    """A run of one step that has finished."""
    config = pinned_data(fields.replace(tiny_config(save_tiny_model(tmp_path / "model", "gpt_neo")), {
        "data.prompts": [], "data.source": str(source), "data.held_out_share": 0.25, "train.steps": 1,
        "probe.every": 0}))
    run = RunDir.create(runs_root, config, name="quiet-owl")
    Trainer(config, run_dir=run, emit=lambda event: None).run()
    return run


@pytest.fixture
async def pilot(run: RunDir, runs_root: Path) -> AsyncIterator[Pilot[Any]]:
    """The workbench, with the list of runs open."""
    app = WorkbenchApp(EngineBridge(runs_root), run.config(), "")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("r")
        await until(pilot, lambda: "quiet-owl" in shown(app))
        yield pilot
    app.bridge.close()
    assert app.bridge.join(600)


def workbench(pilot: Pilot[Any]) -> WorkbenchApp:
    assert isinstance(pilot.app, WorkbenchApp)
    return pilot.app


def asked(pilot: Pilot[Any]) -> bool:
    return isinstance(pilot.app.screen, SureScreen)


async def resume(pilot: Pilot[Any]) -> None:
    """As the list of runs does it, one more step."""
    await pilot.press("t")
    await until(pilot, lambda: isinstance(pilot.app.screen, MoreStepsScreen))
    pilot.app.screen.query_one("#more").value = "1"  # type: ignore[attr-defined]
    await pilot.press("enter")


async def finished(pilot: Pilot[Any], step: int) -> None:
    view = workbench(pilot).bridge.view
    await until(pilot, lambda: view.state is RunState.FINISHED and view.step == step, lambda: shown(workbench(pilot)))


async def test_a_run_with_other_data_goes_on_only_after_a_yes_and_is_asked_once(
    pilot: Pilot[Any], run: RunDir, source: Path
) -> None:
    write_rows(source, "Line", 15)
    await resume(pilot)
    await until(pilot, lambda: asked(pilot))
    told = " ".join(str(pilot.app.screen.query_one("#text").content).split())  # type: ignore[attr-defined]
    assert str(source) in told.replace(" ", "")
    answered = len({sample.prompt for sample in run.samples()})
    for part in ("15 rows", "Line 0", f"{answered} of {answered} prompts"):
        assert part in told
    await pilot.press("escape")
    await until(pilot, lambda: not asked(pilot))
    assert not workbench(pilot).bridge.busy
    assert not workbench(pilot).bridge.taking_over
    assert run.edits() == []

    await resume(pilot)
    await until(pilot, lambda: asked(pilot))
    await pilot.press("y")
    await finished(pilot, 2)
    assert "data.sha256" in {edit.path for edit in run.edits()}

    await pilot.press("t")  # on the workbench now
    await until(pilot, lambda: isinstance(pilot.app.screen, MoreStepsScreen))
    pilot.app.screen.query_one("#more").value = "1"  # type: ignore[attr-defined]
    await pilot.press("enter")
    await finished(pilot, 3)


async def test_a_run_whose_data_are_what_they_were_is_not_asked_about(pilot: Pilot[Any], source: Path) -> None:
    source.touch()
    await resume(pilot)
    await finished(pilot, 2)


async def test_data_that_are_no_table_any_more_are_said_to_be_none(
    pilot: Pilot[Any], run: RunDir, source: Path
) -> None:
    source.write_text("{no JSON")
    await resume(pilot)
    await until(pilot, lambda: "is not JSON" in shown(workbench(pilot)))
    assert not workbench(pilot).bridge.taking_over
    assert run.edits() == []


async def test_a_fork_takes_changed_data_after_a_yes(pilot: Pilot[Any], run: RunDir, source: Path) -> None:
    write_rows(source, "Line")
    await pilot.press("f")
    await until(pilot, lambda: asked(pilot))
    await pilot.press("y")
    await until(pilot, lambda: isinstance(pilot.app.screen, ForkScreen))
    await pilot.press(*"train.steps=2", "f5")
    await finished(pilot, 2)
    child = RunDir.open(workbench(pilot).bridge.run_path or Path())
    assert child.path != run.path
    assert child.config().data.sha256 not in (None, run.config().data.sha256)
