"""SFT on the workbench: trained on a file, charted, looked at token by token, with its own help and settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from moments import until
from textual.widgets import OptionList, Static
from tiny_models import save_tiny_model

from rlhf_engine.config import presets
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.charts.metric import MetricScreen
from rlhf_tui.areas.inspect.screen import InspectScreen
from rlhf_tui.areas.settings_form.setting_rows import form_rows
from rlhf_tui.engine.bridge import EngineBridge

PRESET = """
format = 2
[data]
source = "rows.jsonl"
held_out_share = 0.25
evaluate_every = 2
[model]
name = "{model}"
device = "cpu"
dtype = "float32"
[sampling]
max_new_tokens = 8
[algorithm]
kind = "sft"
texts_per_step = 4
minibatch_size = 4
[optimizer]
learning_rate = 0.02
[train]
steps = 4
threads = 1
"""


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text("\n".join(
        json.dumps({"prompt": f"Q{at}: ", "response": f"a fox {at}"}) for at in range(12)))
    path = tmp_path / "texts.toml"
    path.write_text(PRESET.format(model=save_tiny_model(tmp_path / "model", "llama")))
    return path


def text_of(app: WorkbenchApp) -> str:
    return " ".join(str(found.content) for found in app.screen.query(Static)).replace("\n", " ")


async def test_the_workbench_trains_charts_explains_and_shows_what_was_learned(preset: Path, tmp_path: Path) -> None:
    config = presets.load(str(preset))
    app = WorkbenchApp(EngineBridge(tmp_path / "runs"), config, "texts")
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("f5")
        await until(pilot, lambda: app.bridge.view.state is RunState.FINISHED, lambda: app.bridge.view.message)
        drawn = [chart.metric.name for chart in app.workbench.charts.charts]
        assert drawn == ["loss", "mean_token_accuracy", "eval/loss", "entropy"]
        await until(pilot, lambda: bool(app.workbench.samples.samples.shown))  # the pane draws a moment after the run
        shown = [sample.prompt + sample.response for sample in app.workbench.samples.samples.shown]
        assert all(text.startswith("Q") and ": a fox " in text for text in shown), "the rows that were learned"
        await pilot.press("2", "m")
        await until(pilot, lambda: isinstance(app.screen, MetricScreen))
        offered = app.screen.query_one(OptionList)
        titles = [str(offered.get_option_at_index(at).prompt) for at in range(offered.option_count)]
        assert any("perplexity" in title for title in titles)
        assert any("held-out loss" in title for title in titles)
        assert not any("value loss" in title or "clip" in title for title in titles)
        await pilot.press("escape")
        await pilot.press("question_mark")
        await until(pilot, lambda: "cross-entropy" in text_of(app), lambda: text_of(app))
        await pilot.press("escape")
        rows = {row.path: row.group for row in form_rows(config)}
        assert rows["algorithm.texts_per_step"] == "Main"
        assert rows["algorithm.packing"] == "SFT"
        assert not [path for path in rows if path.startswith(("kl.", "sentinel.critic"))]
        await pilot.press("3", "i")
        await until(pilot, lambda: isinstance(app.screen, InspectScreen))
        await until(pilot, lambda: "log p" in text_of(app) or "log-probability" in text_of(app), lambda: text_of(app))
    app.bridge.close()
    assert app.bridge.join(600)
    run_dir = RunDir.open(next((tmp_path / "runs").glob("*/metrics.jsonl")).parent)
    assert [line.step for line in run_dir.each_step() if "eval/loss" in line.metrics] == [2, 4]
