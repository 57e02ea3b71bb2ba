"""generate --best-of: the best of several responses, written as rows that SFT learns from. All through the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_config
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config import fields
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.run_config import RunConfig


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(make_app(), [str(argument) for argument in arguments])


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def preset(model_folders: dict[str, Path], tmp_path: Path) -> Path:
    config = fields.replace(tiny_config(model_folders["gpt_neo"]), {"sampling.temperature": 3.0})
    path = tmp_path / "tiny.toml"
    path.write_text(to_toml(config))
    return path


def test_the_best_of_n_of_each_prompt_is_kept(preset: Path, tmp_path: Path) -> None:
    every, best = tmp_path / "every.jsonl", tmp_path / "best.jsonl"
    assert invoke("generate", preset, "--best-of", 1, "--count", 6, "--seed", 3, "--out", every).exit_code == 0
    assert invoke("generate", preset, "--best-of", 3, "--count", 2, "--seed", 3, "--out", best).exit_code == 0
    rows, kept = rows_in(every), rows_in(best)
    assert (len(rows), len(kept)) == (4 * 6, 4 * 2)
    assert len({row["score"] for row in rows}) > 1
    for at, row in enumerate(kept):
        group = rows[3 * at: 3 * at + 3]
        assert row in group
        assert row["score"] == max(other["score"] for other in group)
    assert set(kept[0]) == {"prompt", "response", "score", "finished"}


def test_two_commands_are_a_method(preset: Path, tmp_path: Path) -> None:
    rows, runs = tmp_path / "rows.jsonl", tmp_path / "runs"
    assert invoke("generate", preset, "--best-of", 4, "--count", 3, "--out", rows).exit_code == 0
    sft = ["--set", "algorithm.kind=sft", "--set", f"data.source={rows}", "--set", "algorithm.texts_per_step=4",
           "--set", "algorithm.minibatch_size=4", "--set", "train.steps=3"]
    told = invoke("train", preset, *sft, "--name", "learnt", "--runs-dir", runs)
    assert told.exit_code == 0, told.output
    assert "step 3/3" in told.stdout
    # ... and on from what was learnt, by prompts of its own rows
    again = tmp_path / "again.jsonl"
    assert invoke("generate", "learnt", "--best-of", 2, "--out", again, "--runs-dir", runs).exit_code == 0
    assert {row["prompt"] for row in rows_in(again)} == {row["prompt"] for row in rows_in(rows)}
    forked = invoke("fork", "learnt", "--set", "algorithm.kind=grpo", "--set", "train.steps=1", "--name", "on",
                    "--runs-dir", runs)
    assert forked.exit_code == 0, forked.output
    assert "learnt@3" in forked.output
    assert "step 1/1" in forked.stdout
    resumed = invoke("resume", "on", "--set", "algorithm.kind=ppo", "--runs-dir", runs)
    assert resumed.exit_code == 2
    assert "algorithm.kind" in resumed.stderr


def test_sft_trains_on_a_file_and_says_what_it_measures(model_folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(
        json.dumps({"prompt": f"Q{at}: ", "response": "a fox"}) for at in range(8)))
    config = tiny_config(model_folders["llama"]).model_dump() | {
        "algorithm": {"kind": "sft", "texts_per_step": 4, "minibatch_size": 4, "packing": True}, "rewards": []}
    config["data"] = {"texts": ["x"], "held_out_share": 0.25, "evaluate_every": 1}
    preset = tmp_path / "sft.toml"
    preset.write_text(to_toml(RunConfig.model_validate(config)))
    done = invoke("train", preset, "--set", "data.source=" + str(tmp_path / "rows.jsonl"), "--json", "--runs-dir",
                  tmp_path / "runs")
    assert done.exit_code == 0, done.output
    steps = [told["metrics"] for told in map(json.loads, done.stdout.splitlines()) if told["event"] == "step"]
    assert {"loss", "perplexity", "mean_token_accuracy", "entropy", "eval/loss"} <= steps[-1].keys()
    assert steps[-1]["loss"] < steps[0]["loss"]


@pytest.mark.parametrize(("arguments", "said"), [
    (["storyteller", "--best-of", "2"], "storyteller"),
    (["PRESET", "--best-of", "2", "--out", "rows.txt"], "--out"),
    (["PRESET", "--best-of", "2", "--out", "nowhere/rows.jsonl"], "--out"),
    (["PRESET", "--best-of", "2", "--out", "there.jsonl"], "there.jsonl"),
    (["UNSCORED", "--best-of", "2"], "rewards"),
])
def test_what_cannot_be_chosen_or_written_is_one_sentence(
    preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.jsonl").write_text("mine")
    data = fields.replace(tiny_config(Path("model")), {"data.texts": ["x"]}).model_dump()
    unscored = RunConfig.model_validate(data | {"algorithm": {"kind": "sft"}, "rewards": []})
    (tmp_path / "unscored.toml").write_text(to_toml(unscored))
    names = {"PRESET": preset, "UNSCORED": "unscored.toml"}
    result = invoke("generate", *[names.get(each, each) for each in arguments])
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert (tmp_path / "there.jsonl").read_text() == "mine"
