"""A method of another package, found by its entry point: trained, resumed, forked, compared, on the workbench.

`data/one_word_package` is that package. It has no critic, no reference, no rewards, and touches no file of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from moments import until
from textual.widgets import OptionList, Static
from tiny_models import save_tiny_model

from rlhf_engine.config import fields, presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.charts.metric import MetricScreen
from rlhf_tui.areas.settings_form.setting_rows import form_rows
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.widgets.status import StatusLine

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tests" / "data" / "one_word_package"
WHERE = os.pathsep.join(map(str, (ROOT, PACKAGE)))
PRESET = """
format = 2
[data]
prompts = ["Once", "There was a", "x", "Long ago"]
[model]
name = "{model}"
device = "cpu"
dtype = "float32"
[sampling]
max_new_tokens = 12
[algorithm]
kind = "one_word"
word = "fox"
prompts_per_step = 4
[optimizer]
learning_rate = 0.05
[train]
steps = 4
threads = 1
checkpoint_every = 2
"""


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(PACKAGE))
    path = tmp_path / "fox.toml"
    path.write_text(PRESET.format(model=save_tiny_model(tmp_path / "model", "llama")))
    return path


def rlhf(folder: Path, *arguments: str, cold: bool = False) -> str:
    """What a command prints, in a process of its own that has the package; cold: one that begins as a user's does."""
    words = ["-m", "rlhf_engine", *arguments, "--runs-dir", "runs"]
    if cold:
        done = subprocess.run([sys.executable, *words], cwd=folder, text=True, timeout=300, check=False,
                              env=os.environ | {"PYTHONPATH": WHERE}, capture_output=True)
    else:
        done = warm.run(words, cwd=folder, PYTHONPATH=WHERE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def word_log_probs(run: Path) -> list[float]:
    return [json.loads(line)["metrics"]["word/log_prob"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_it_goes_through_every_command(preset: Path, tmp_path: Path) -> None:
    told = rlhf(tmp_path, "train", "fox.toml", "--name", "whole", cold=True)
    assert "log-prob of the word" in told
    assert "nan" not in told, "what it does not measure is not told"
    rlhf(tmp_path, "train", "fox.toml", "--name", "half", "--set", "train.steps=2")
    rlhf(tmp_path, "resume", "half", "--set", "train.steps=4")
    whole, half = (word_log_probs(tmp_path / "runs" / name) for name in ("whole", "half"))
    assert len(whole) == 4
    assert whole[-1] > whole[0] + 1, "it learns"
    assert half == whole, "two and two steps are four"
    rlhf(tmp_path, "fork", "whole@2", "--set", "algorithm.word=owl", "--name", "other")
    assert word_log_probs(tmp_path / "runs" / "other")[:2] == whole[:2]
    assert word_log_probs(tmp_path / "runs" / "other")[2:] != whole[2:]
    listed = rlhf(tmp_path, "runs")
    assert all(name in listed for name in ("whole", "half", "other"))
    rlhf(tmp_path, "verify", "whole")
    rlhf(tmp_path, "attach", "whole")
    answered = json.loads(rlhf(tmp_path, "generate", "whole", "--prompt", "Once", "--max-new-tokens", "6", "--json"))
    (one,) = answered["samples"]
    assert one["score"] is None or not one["parts"]
    assert "no_scores" not in answered
    rlhf(tmp_path, "compare", "whole", "--responses", "2")
    rlhf(tmp_path, "export", "whole", "out")
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_its_checkpoints_hold_what_it_needs_and_nothing_else(preset: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    rlhf(tmp_path, "train", "fox.toml", "--name", "a", "--set", "train.steps=1")
    (newest,) = (tmp_path / "runs" / "a" / "checkpoints").glob("step-000001")
    with safe_open(newest / "tensors.safetensors", "pt") as file:
        assert {name.split("/")[0] for name in file.keys()} == {"actor", "optimizer", "generator"}  # noqa: SIM118


def test_settings_that_it_does_not_know_are_named(preset: Path) -> None:
    config = presets.load(str(preset))
    own = {item.name for item in fields.settings(config) if item.section == "algorithm"}
    assert own == {"kind", "word", "prompts_per_step"}
    with pytest.raises(ConfigError, match="clip_range"):
        fields.replace(config, {"algorithm.clip_range": 0.1})
    with pytest.raises(ConfigError, match="from 1 to 1024"):
        fields.replace(config, {"algorithm.prompts_per_step": 0})


def test_without_the_package_a_preset_and_a_run_say_what_is_missing(
    preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir.create(tmp_path / "runs", presets.load(str(preset)), name="a")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(PACKAGE)])
    for read in (lambda: presets.load(str(preset)), run.config):
        with pytest.raises(ConfigError, match="'one_word' is not one of ppo"):
            read()


def screen_text(app: WorkbenchApp) -> str:
    return " ".join(str(found.content) for found in app.screen.query(Static))


def help_text(app: WorkbenchApp) -> str:
    return " ".join(str(found.content) for found in app.screen.query("#text").results(Static)).replace("\n", " ")


async def test_the_workbench_trains_charts_and_resumes_it(preset: Path, tmp_path: Path) -> None:
    config: RunConfig = presets.load(str(preset))
    app = WorkbenchApp(EngineBridge(tmp_path / "runs"), config, "fox")
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("f5")
        await until(pilot, lambda: app.bridge.view.state is RunState.FINISHED, lambda: app.bridge.view.message)
        assert app.bridge.view.step == 4
        drawn = [chart.metric.name for chart in app.workbench.charts.charts]
        assert drawn[:2] == ["word/log_prob", "grad_norm/actor"], "the method's own, where others were PPO's"
        await pilot.press("question_mark")
        await until(pilot, lambda: "raises the log-probability of one word" in help_text(app), lambda: help_text(app))
        await pilot.press("escape")
        for key in ("c", "question_mark", "escape", "escape", "P", "escape", "h", "escape"):
            await pilot.press(key)
        # the picker offers what the method measures, and nothing of others
        await pilot.press("2", "m")
        await until(pilot, lambda: isinstance(app.screen, MetricScreen))
        offered = app.screen.query_one(OptionList)
        titles = [str(offered.get_option_at_index(at).prompt) for at in range(offered.option_count)]
        assert any("log-prob of the word" in title for title in titles)
        assert not any(words in title for title in titles for words in ("value loss", "KL", "score"))
        await pilot.press("escape")
        # the form shows its settings, and none of those that it does not read
        rows = {row.path: row.group for row in form_rows(config)}
        assert rows["algorithm.word"] == "Main"
        assert rows["algorithm.prompts_per_step"] == "One word"
        assert not [path for path in rows if path.startswith(("kl.", "rewards.", "sentinel.critic"))]
        # its answers through time have no scores; the list of runs tells its own metrics
        await pilot.press("r")
        await until(pilot, lambda: "log-prob of the word" in screen_text(app), lambda: screen_text(app))
        assert "nats/response" not in screen_text(app)
        await pilot.press("escape")
        # in a narrow terminal the status line tells what the charts would
        await pilot.press("1")
        await pilot.resize_terminal(60, 24)
        await until(pilot, lambda: "log-prob of the word" in str(app.screen.query_one(StatusLine).render()))
    app.bridge.close()
    assert app.bridge.join(600)
    assert len(word_log_probs(next((tmp_path / "runs").glob("*/metrics.jsonl")).parent)) == 4
