"""The fork dialog with another method: said as the command line says it, at 80 columns, and then trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from moments import until
from textual.widgets import Static
from tiny_models import save_tiny_model

from rlhf_engine.config import presets
from rlhf_engine.config.fields import replace
from rlhf_engine.config.kinds import algorithm_kinds
from rlhf_engine.data.pinning import pinned_data
from rlhf_engine.events import RunState
from rlhf_engine.runs.method_change import taken_over
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.runs.fork import ForkScreen
from rlhf_tui.areas.settings_form.setting_rows import form_rows
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.widgets.choice_list import ChoiceList

PRESET = """
format = 2
[data]
source = "rows.jsonl"
[model]
name = "{model}"
device = "cpu"
dtype = "float32"
[sampling]
max_new_tokens = 6
[algorithm]
kind = "sft"
texts_per_step = 4
minibatch_size = 4
[train]
steps = 2
threads = 1
[probe]
every = 0
[[rewards]]
kind = "length"
name = "length"
min_words = 2
"""
KINDS = list(algorithm_kinds())


def learnt(tmp_path: Path, preset: str) -> RunDir:
    (tmp_path / "rows.jsonl").write_text("\n".join(
        json.dumps({"prompt": f"Q{at}: ", "response": f"a fox {at}"}) for at in range(12)))
    (tmp_path / "texts.toml").write_text(preset.format(model=save_tiny_model(tmp_path / "model", "llama")))
    config = pinned_data(presets.load(str(tmp_path / "texts.toml")))
    run_dir = RunDir.create(tmp_path / "runs", config, name="texts")
    Trainer(run_dir.config(), run_dir=run_dir, emit=lambda event: None).run()
    return run_dir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return learnt(tmp_path, PRESET)


def text_of(app: WorkbenchApp) -> str:
    return " ".join(" ".join(str(found.content) for found in app.screen.query(Static)).split())


async def test_a_run_of_sft_is_forked_into_ppo_and_trained(run: RunDir, tmp_path: Path) -> None:
    app = WorkbenchApp(EngineBridge(tmp_path / "runs"), run.config(), "texts")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("r")
        await until(pilot, lambda: "texts" in text_of(app))
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, ForkScreen))
        methods = app.screen.query_one("#methods", ChoiceList)
        await until(pilot, lambda: methods.highlighted == KINDS.index("sft"))
        await pilot.press("tab")
        assert app.focused is methods
        await pilot.press("home")
        said = taken_over("texts", 2, replace(run.config(), {"algorithm.kind": "ppo"}))
        assert "critic" in said
        await until(pilot, lambda: said in text_of(app), lambda: text_of(app))
        await pilot.press("enter", "slash", *"responses/step", "enter", "enter", *["backspace"] * 3, "8", "enter")
        await until(pilot, lambda: "responses_per_step" in text_of(app), lambda: text_of(app))
        await pilot.press("f5")
        await until(pilot, lambda: app.bridge.view.state is RunState.FINISHED, lambda: app.bridge.view.message)
    app.bridge.close()
    assert app.bridge.join(600)
    (child,) = [RunDir(path) for path in (tmp_path / "runs").iterdir() if path.is_dir() and path.name != "texts"
                and (path / "config.toml").exists()]
    assert child.config().algorithm.kind == "ppo"
    assert child.config().algorithm.learned_per_step == 8
    assert len(list(child.each_step())) == 2


async def test_a_method_that_the_settings_do_not_fit_is_refused_and_another_can_be_taken(tmp_path: Path) -> None:
    run = learnt(tmp_path, PRESET[:PRESET.index("[[rewards]]")])
    app = WorkbenchApp(EngineBridge(tmp_path / "runs"), run.config(), "texts")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("r")
        await until(pilot, lambda: "texts" in text_of(app))
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, ForkScreen))
        await pilot.press("tab", "home")
        for _ in range(2):  # F5 changes nothing
            await until(pilot, lambda: "✗ rewards" in text_of(app), lambda: text_of(app))
            await pilot.press("f5")
        await until(pilot, lambda: "✗ rewards" in text_of(app), lambda: text_of(app))
        assert isinstance(app.screen, ForkScreen)
        await pilot.press("end", "up")  # the last one has no actor
        await until(pilot, lambda: "from step 2: train.steps" in text_of(app), lambda: text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ForkScreen))
    app.bridge.close()
    assert app.bridge.join(600)


@pytest.mark.parametrize(("kind", "shown", "hidden"), [
    ("ppo", {"data.prompt_column"}, {"data.texts", "data.chosen", "data.response_column", "data.rejected_column"}),
    ("sft", {"data.texts", "data.response_column"}, {"data.chosen", "data.rejected_column"})])
def test_the_form_shows_the_data_settings_that_the_method_reads(
    run: RunDir, kind: str, shown: set[str], hidden: set[str]
) -> None:
    config = replace(run.config(), {"algorithm.kind": kind})
    paths = {row.path for row in form_rows(config)}
    assert shown <= paths
    assert not hidden & paths
