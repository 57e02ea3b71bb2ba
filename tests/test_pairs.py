"""Preferences from end to end: made by sampling and judging, trained on by DPO, shown on the workbench."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from moments import until
from textual.widgets import OptionList, Static
from tiny_models import save_tiny_model
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config import presets
from rlhf_engine.events import RunState
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.charts.metric import MetricScreen
from rlhf_tui.areas.inspect.screen import InspectScreen
from rlhf_tui.areas.settings_form.setting_rows import form_rows
from rlhf_tui.engine.bridge import EngineBridge

HEAD = """
format = 2
[model]
name = "{model}"
device = "cpu"
dtype = "float32"
[lora]
rank = 4
target_modules = []
[sampling]
max_new_tokens = 10
temperature = 3.0
[optimizer]
learning_rate = 0.01
[train]
steps = 6
threads = 1
checkpoint_every = 2
keep_checkpoints = 10
[sentinel]
truncated_share = "none"
"""
SAMPLES = HEAD + """
[data]
prompts = ["Once", "There was a", "x", "Long ago"]
[algorithm]
kind = "{kind}"
{algorithm}
[[rewards]]
name = "judge"
{reward}
"""
LEARNS = HEAD + """
[data]
source = "pairs.jsonl"
{data}
[algorithm]
kind = "dpo"
pairs_per_step = 3
"""
LENGTH = 'kind = "length"\nmin_words = 4\npenalty_per_word = 1.0'
NEVER = 'kind = "length"\nmin_words = 0\nmax_words = 1000\npenalty_per_word = 1.0'


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), list(arguments))


def done(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_tiny_model(tmp_path / "model", "gpt_neo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, name: str, text: str, **parts: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text(text.format(model=folder / "model", **parts))
    return str(path)


def sampling_preset(folder: Path, *, kind: str = "reinforce", algorithm: str = "responses_per_step = 8\n"
                    "minibatch_size = 8", reward: str = LENGTH, name: str = "samples") -> str:
    return write(folder, name, SAMPLES, kind=kind, algorithm=algorithm, reward=reward)


def make_pairs(folder: Path, count: int = 9) -> list[dict[str, object]]:
    rows = [{"prompt": f"Q{at % 5}: ", "chosen": "yes" * (1 + at % 3), "rejected": "no" * (1 + at % 2),
             "chosen_finished": at % 3 > 0} for at in range(count)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return rows


def told(run: Path) -> list[dict[str, float]]:
    """The metrics of each step that do not depend on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line)["metrics"].items()
             if not name.startswith(("time/", "throughput/"))} for line in lines]


# --- making them ---


def test_pairs_are_sampled_judged_and_what_dpo_learns_from(folder: Path) -> None:
    preset = sampling_preset(folder)
    summary = json.loads(done("pairs", preset, "pairs.jsonl", "--count", "7", "--responses", "4", "--json"))
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    assert summary["pairs"] == len(rows) == 7
    for row in rows:
        assert row["prompt"] in ("Once", "There was a", "x", "Long ago")
        assert row["chosen_score"] > row["rejected_score"]
        assert row["chosen"] != row["rejected"]
        assert {type(row["chosen_finished"]), type(row["rejected_finished"])} == {bool}
    scored = json.loads(done("score", preset, *(row["chosen"] or " " for row in rows), "--json"))["scores"]
    assert [one["total"] for one in scored] == pytest.approx([row["chosen_score"] for row in rows])
    done("pairs", preset, "again.jsonl", "--count", "7", "--responses", "4")
    assert (folder / "again.jsonl").read_bytes() == (folder / "pairs.jsonl").read_bytes()
    done("pairs", preset, "again.jsonl", "--count", "7", "--responses", "4", "--seed", "1", "--overwrite")
    assert (folder / "again.jsonl").read_bytes() != (folder / "pairs.jsonl").read_bytes()
    done("train", write(folder, "learns", LEARNS, data=""), "--name", "a")
    steps = told(folder / "runs" / "a")
    assert steps[-1]["loss/policy_avg"] < steps[0]["loss/policy_avg"]
    assert steps[-1]["rewards/accuracies"] > 0.9


def test_a_run_answers_by_its_newest_checkpoint_or_its_reference(folder: Path) -> None:
    preset = sampling_preset(folder)
    done("train", preset, "--name", "a")
    common = ("--count", "4", "--responses", "4")
    done("pairs", "a", "tuned.jsonl", *common)
    done("pairs", "a", "reference.jsonl", *common, "--reference")
    done("pairs", preset, "untrained.jsonl", *common)
    tuned, reference, untrained = ((folder / f"{name}.jsonl").read_text()
                                   for name in ("tuned", "reference", "untrained"))
    assert tuned != reference
    assert reference == untrained


def test_what_cannot_be_made_is_said_in_a_sentence(folder: Path) -> None:
    (folder / "there.jsonl").write_text("kept")
    learns = write(folder, "learns", LEARNS, data="")
    make_pairs(folder)
    preset = sampling_preset(folder)
    for arguments, said in (
        ((preset, "there.jsonl"), "--overwrite"), ((preset, "pairs.txt"), ".jsonl"),
        ((preset, "nowhere/pairs.jsonl"), "nowhere"), (("nothing", "new.jsonl"), "nothing"),
        ((learns, "new.jsonl"), "no rewards"),
        ((sampling_preset(folder, reward=NEVER, name="never"), "new.jsonl"), "equal scores"),
    ):
        result = invoke("pairs", *arguments)
        assert result.exit_code == 2, result.output
        assert said in result.stderr
        assert "Traceback" not in result.output
    assert (folder / "there.jsonl").read_text() == "kept"
    assert not (folder / "new.jsonl").exists()


# --- learning from them ---


def test_it_is_trained_resumed_and_forked_bit_for_bit(folder: Path) -> None:
    make_pairs(folder)
    preset = write(folder, "learns", LEARNS, data="held_out_share = 0.2\nevaluate_every = 2")
    done("train", preset, "--name", "whole")
    done("train", preset, "--name", "half", "--set", "train.steps=3")  # in the midst of the second epoch
    done("resume", "half", "--set", "train.steps=6")
    whole, half = folder / "runs" / "whole", folder / "runs" / "half"
    assert len(told(whole)) == 6
    assert told(half) == told(whole)
    tensors = [(run / "checkpoints" / "step-000006" / "tensors.safetensors").read_bytes() for run in (whole, half)]
    assert tensors[0] == tensors[1]
    assert [step for step, metrics in enumerate(told(whole), 1) if "eval/pair_loss" in metrics] == [2, 4, 6]
    done("fork", "whole@4", "--set", "algorithm.beta=0.9", "--name", "other")
    other = told(folder / "runs" / "other")
    assert other[:4] == told(whole)[:4]
    assert other[4:] != told(whole)[4:]
    done("verify", "whole")
    assert "whole" in done("runs")
    done("export", "whole", "out")
    assert (folder / "out" / "adapter_model.safetensors").exists()


def test_a_run_that_is_evaluated_is_the_run_that_is_not(folder: Path) -> None:
    make_pairs(folder)
    preset = write(folder, "learns", LEARNS, data="held_out_share = 0.2\nevaluate_every = 2")
    done("train", preset, "--name", "a", "--set", "train.steps=4")
    done("train", preset, "--name", "b", "--set", "train.steps=4", "--set", "data.evaluate_every=0")
    a, b = (told(folder / "runs" / name) for name in "ab")
    assert [{name: value for name, value in step.items() if not name.startswith("eval/")} for step in a] == b


def test_pairs_that_are_too_long_are_told_once(folder: Path) -> None:
    rows = make_pairs(folder)
    rows[4]["rejected"] = "no" * 40
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = invoke("train", write(folder, "learns", LEARNS, data=""), "--name", "a")
    assert result.exit_code == 0, result.output
    assert (result.stdout + result.stderr).count("1 of 9 pairs") == 1


def test_online_dpo_is_trained_and_resumed_bit_for_bit(folder: Path) -> None:
    preset = sampling_preset(folder, kind="online_dpo", algorithm="responses_per_step = 16\ngroup_size = 4\n"
                             "minibatch_size = 2")
    done("train", preset, "--name", "whole", "--set", "train.steps=4")
    done("train", preset, "--name", "half", "--set", "train.steps=2")
    done("resume", "half", "--set", "train.steps=4")
    whole, half = (told(folder / "runs" / name) for name in ("whole", "half"))
    assert len(whole) == 4
    assert half == whole


# --- on the workbench ---


def screen_text(app: WorkbenchApp) -> str:
    return " ".join(str(found.content) for found in app.screen.query(Static))


async def test_the_workbench_trains_charts_and_shows_its_pairs(folder: Path) -> None:
    make_pairs(folder)
    config = presets.load(write(folder, "learns", LEARNS, data="held_out_share = 0.2\nevaluate_every = 2"))
    app = WorkbenchApp(EngineBridge(folder / "runs"), config, "learns")
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("f5")
        await until(pilot, lambda: app.bridge.view.state is RunState.FINISHED, lambda: app.bridge.view.message)
        drawn = [chart.metric.name for chart in app.workbench.charts.charts]
        assert drawn == ["rewards/accuracies", "rewards/margins", "loss/policy_avg", "logps/chosen"]
        rows = {row.path: row.group for row in form_rows(config)}
        assert rows["algorithm.beta"] == "Main"
        assert not [path for path in rows if path.startswith(("kl.", "sentinel.critic", "sentinel.kl"))]
        # the picker offers its own held-out curves, and no KL, which nothing here measures
        await pilot.press("2", "m")
        await until(pilot, lambda: isinstance(app.screen, MetricScreen))
        offered = app.screen.query_one(OptionList)
        titles = [str(offered.get_option_at_index(at).prompt) for at in range(offered.option_count)]
        for wanted in ("pair margin", "held-out pair loss"):
            assert any(wanted in title for title in titles), titles
        assert not any(words in title for title in titles for words in ("value loss", "KL coef", "entropy"))
        await pilot.press("escape")
        # samples are pairs; one of them, token by token
        await pilot.press("4")
        await until(pilot, lambda: bool(app.workbench.samples.samples.shown))
        parts = [list(sample.parts) for sample in app.workbench.samples.samples.shown]
        assert {"chosen", "rejected"} == {name for part in parts for name in part}
        await pilot.press("end", "i")
        await until(pilot, lambda: isinstance(app.screen, InspectScreen))
        await until(pilot, lambda: any(sign in screen_text(app) for sign in "▲▼"), lambda: screen_text(app))
        await pilot.press("escape")
        # help explains the method; the list of runs tells its metrics
        await pilot.press("question_mark")
        await until(pilot, lambda: "implicit reward" in screen_text(app), lambda: screen_text(app))
        await pilot.press("escape", "r")
        await until(pilot, lambda: "pair margin" in screen_text(app), lambda: screen_text(app))
        await pilot.press("escape")
    app.bridge.close()
    assert app.bridge.join(600)
