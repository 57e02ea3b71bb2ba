"""Prompts that are too long for the model, on the real engine: what the screen says, and that no run is left."""

from __future__ import annotations

from pathlib import Path

from moments import until
from tiny_models import save_tiny_model, tiny_config
from tui.test_generate import shown

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import RunState
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.engine.bridge import EngineBridge

LONG = "z" * 60


def workbench(tmp_path: Path, prompts: list[str]) -> WorkbenchApp:
    config: RunConfig = tiny_config(save_tiny_model(tmp_path / "model", "llama"), data={"prompts": prompts})
    return WorkbenchApp(EngineBridge(tmp_path / "runs"), config, "p")


def said(app: WorkbenchApp) -> str:
    """All that is on the screen, whatever its lines break into."""
    return "".join(shown(app).split())


async def test_a_start_with_a_prompt_that_is_too_long_says_which_and_leaves_no_run(tmp_path: Path) -> None:
    app = workbench(tmp_path, ["Once", LONG])
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("f5")
        await until(pilot, lambda: app.bridge.view.state is RunState.FAILED, lambda: shown(app))
        for text in ("prompts.1", "60tokens"):
            await until(pilot, lambda text=text: text in said(app), lambda: shown(app))
        assert not list((tmp_path / "runs").glob("*/config.toml"))
        app.edited.edit("sampling.long_prompts", "skip")
        app.edited.edit("train.steps", 1)
        await pilot.press("f5")
        await until(pilot, lambda: app.bridge.view.state is RunState.FINISHED, lambda: shown(app))
    app.bridge.close()
    assert app.bridge.join(600)


async def test_a_prompt_that_is_typed_too_long_is_answered_with_its_length(tmp_path: Path) -> None:
    app = workbench(tmp_path, [LONG])
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("g", "enter")
        for text in ("60tokens", "64"):
            await until(pilot, lambda text=text: text in said(app), lambda: shown(app))
    app.bridge.close()
    assert app.bridge.join(600)
