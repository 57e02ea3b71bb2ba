"""Methods of another package that learn from texts and from pairs, one of which answers nothing; and a reward of it.

`data/rows_package` is that package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_models import save_tiny_model

from rlhf_engine.config import fields, presets
from rlhf_engine.config.kinds import algorithm_kinds, reward_kinds
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PairBatch, TextBatch
from rlhf_engine.data.rows import load_data
from rlhf_engine.data.source import BatchSource
from rlhf_engine.errors import ConfigError
from rlhf_engine.rewards.build import build_rewards

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tests" / "data" / "rows_package"
PRESET = """
format = 2
[data]
source = "{source}"
{data}
[model]
name = "{model}"
device = "cpu"
dtype = "float32"
[sampling]
max_new_tokens = 8
[algorithm]
kind = "{kind}"
rows = 3
[optimizer]
learning_rate = 0.02
[train]
steps = 6
threads = 1
checkpoint_every = 2
"""
PAIRS = [{"prompt": f"Q{at}: ", "chosen": "yes" * (1 + at % 3), "rejected": "no" * (1 + at % 2), "place": at}
         for at in range(12)]
TEXTS = [{"text": f"A fox ran {at} miles.", "place": at} for at in range(12)]
ANSWERED = [{"prompt": f"Q{at}: ", "response": "a fox", "place": at} for at in range(12)]
Kind = tuple[str, list[dict[str, object]]]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PACKAGE))
    yield
    for name in ("learns_from_rows", "rows_learner", "vowels", "vowels_reward"):
        sys.modules.pop(name, None)


def write(folder: Path, kind: str, rows: list[dict[str, object]], data: str = "") -> Path:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = folder / "model"
    if not model.exists():
        save_tiny_model(model, "llama")
    preset = folder / f"{kind}.toml"
    preset.write_text(PRESET.format(source="rows.jsonl", kind=kind, model=model, data=data))
    return preset


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own that has the package."""
    return subprocess.run(
        [sys.executable, "-m", "rlhf_engine", *arguments], cwd=folder, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, PACKAGE)))}, capture_output=True)


def rlhf(folder: Path, *arguments: str) -> str:
    done = command(folder, *arguments, "--runs-dir", "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def losses(run: Path) -> list[float]:
    return [json.loads(line)["metrics"]["rows/loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def tensors(run: Path) -> bytes:
    return (run / "checkpoints" / "step-000006" / "tensors.safetensors").read_bytes()


@pytest.mark.parametrize(("kind", "rows"), [("from_texts", TEXTS), ("judge", PAIRS)])
def test_it_is_trained_and_resumed_bit_for_bit(kind: str, rows: list[dict[str, object]], tmp_path: Path) -> None:
    write(tmp_path, kind, rows, "held_out_share = 0.25")
    assert "loss of rows" in rlhf(tmp_path, "train", f"{kind}.toml", "--name", "whole")
    rlhf(tmp_path, "train", f"{kind}.toml", "--name", "half", "--set", "train.steps=3")
    rlhf(tmp_path, "resume", "half", "--set", "train.steps=6")
    whole, half = tmp_path / "runs" / "whole", tmp_path / "runs" / "half"
    assert len(losses(whole)) == 6
    assert losses(whole)[-1] < losses(whole)[0], "it learns"
    assert losses(half) == losses(whole)
    assert tensors(half) == tensors(whole)
    rlhf(tmp_path, "fork", "whole@4", "--set", "optimizer.learning_rate=0.1", "--name", "other")
    assert losses(tmp_path / "runs" / "other")[:5] == losses(whole)[:5]
    assert losses(tmp_path / "runs" / "other")[5:] != losses(whole)[5:]
    assert "whole" in rlhf(tmp_path, "runs")
    rlhf(tmp_path, "verify", "whole")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows[1:])))
    changed = command(tmp_path, "resume", "whole", "--set", "train.steps=7", "--runs-dir", "runs")
    assert changed.returncode != 0
    assert "rows.jsonl" in changed.stdout + changed.stderr, "another source than the run's is asked about"
    assert "Traceback" not in changed.stderr


def test_what_answers_can_be_compared_and_exported_and_what_does_not_says_so(tmp_path: Path) -> None:
    write(tmp_path, "from_texts", ANSWERED)
    rlhf(tmp_path, "train", "from_texts.toml", "--name", "answers")
    rlhf(tmp_path, "compare", "answers", "--responses", "2")
    (one,) = json.loads(rlhf(tmp_path, "generate", "answers", "--json"))["samples"]
    assert one["prompt"] in {row["prompt"] for row in ANSWERED}
    assert (tmp_path / "runs" / "answers" / "probes.jsonl").read_text(), "its prompts are probed with"
    rlhf(tmp_path, "export", "answers", "out")
    write(tmp_path, "judge", PAIRS)
    rlhf(tmp_path, "train", "judge.toml", "--name", "judges")
    for arguments in (("compare", "judges", "--responses", "2"), ("generate", "judges", "--prompt", "Q1: "),
                      ("export", "judges", "none")):
        done = command(tmp_path, *arguments, "--runs-dir", "runs")
        assert done.returncode != 0, arguments
        assert "Traceback" not in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    write(tmp_path, "from_texts", TEXTS)
    rlhf(tmp_path, "train", "from_texts.toml", "--name", "whole-texts")
    done = command(tmp_path, "compare", "whole-texts", "--responses", "2", "--runs-dir", "runs")
    assert (done.returncode != 0, "data.held_out" in done.stderr, "Traceback" in done.stderr) == (True, True, False)


def config_of(preset: Path, **changes: object) -> RunConfig:
    return fields.replace(presets.load(str(preset)), {f"data.{name}": value for name, value in changes.items()})


@pytest.mark.parametrize(("kind", "rows"), [("from_texts", TEXTS), ("from_texts", ANSWERED), ("judge", PAIRS)])
def test_rows_and_their_order_hang_on_step_and_seed_alone(
    kind: str, rows: list[dict[str, object]], package: None, tmp_path: Path
) -> None:
    config = config_of(write(tmp_path, kind, rows), held_out_share=0.25)
    data = load_data(config)
    source, again = BatchSource(data.train, config), BatchSource(load_data(config).train, config)
    batches = [source.batch(step) for step in range(6)]
    assert batches[::-1] == [again.batch(step) for step in reversed(range(6))]
    assert batches[0] != batches[3], "another order each time through"
    seen = {place for batch in batches for place in batch.columns["place"]}
    assert len(seen) == len(data.train) == 9, "a quarter is held out, and never given"
    assert set(data.held_out_rows.columns["place"]) == set(range(12)) - seen
    assert isinstance(data.held_out_rows.batch([0]), type(batches[0]))
    for batch in batches:
        for at, place in enumerate(batch.columns["place"]):
            row = rows[place]
            if isinstance(batch, PairBatch):
                assert (batch.prompts[at], batch.chosen[at], batch.rejected[at]) == (
                    row["prompt"], row["chosen"], row["rejected"])
            else:
                assert isinstance(batch, TextBatch)
                assert batch.prompts[at] == row.get("prompt", "")
                assert batch.responses[at] == row.get("text", row.get("response"))
    held_out = set(data.held_out.prompts)
    assert held_out == {row["prompt"] for at, row in enumerate(rows) if at not in seen and "prompt" in row}
    other = fields.replace(config, {"train.seed": 1})
    assert BatchSource(data.train, other).batch(0) != batches[0]


def test_its_columns_can_have_other_names(package: None, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"ask": "Q: ", "good": "yes", "bad": "no"}]
    preset = write(tmp_path, "judge", rows)
    with pytest.raises(ConfigError, match="prompt"):
        load_data(presets.load(str(preset)))
    config = config_of(preset, prompt_column="ask", chosen_column="good", rejected_column="bad")
    assert load_data(config).train.batch([0]) == PairBatch(["Q: "], ["yes"], ["no"])


REWARD = """
[[rewards]]
kind = "vowels"
per_vowel = {points}
"""


def of_prompts(tmp_path: Path, points: str = "0.5") -> Path:
    preset = write(tmp_path, "ppo", [{"prompt": "Once"}, {"prompt": "There was"}])
    text = preset.read_text().replace("rows = 3", "responses_per_step = 4\nminibatch_size = 4")
    preset.write_text(text.replace("steps = 6", "steps = 2") + REWARD.format(points=points))
    return preset


def test_a_reward_of_another_package_is_trained_with_and_edited(package: None, tmp_path: Path) -> None:
    preset = of_prompts(tmp_path)
    config = presets.load(str(preset))
    scored = build_rewards(config.rewards).score(["Once"], ["a fox"])
    assert scored.by_reward == {"vowels": [1.0]}
    edited = fields.replace(config, {"rewards.0.vowels": ["x"]})
    assert build_rewards(edited.rewards).score(["Once"], ["a fox"]).scores[0].total == 0.5
    assert {item.path for item in fields.settings(config) if item.section == "rewards.0"} == {
        f"rewards.0.{name}" for name in ("name", "weight", "per_vowel", "vowels")}
    rlhf(tmp_path, "train", "ppo.toml", "--name", "a")
    told = json.loads((tmp_path / "runs" / "a" / "metrics.jsonl").read_text().splitlines()[0])["metrics"]
    assert told["rewards/vowels/mean"] == told["objective/scores"]
    listed = command(tmp_path, "presets", "--fields").stdout
    assert "rewards.N.per_vowel (vowels)" in listed
    assert "algorithm.rows (judge)" in listed
    assert "algorithm.rows (from_texts)" in listed


def test_kinds_of_packages_stand_behind_ours(package: None) -> None:
    assert {"from_texts", "judge", "ppo"} <= set(algorithm_kinds())
    assert list(reward_kinds())[:3] == ["word_list", "length", "function"]
    assert "vowels" in reward_kinds()


def test_mistakes_in_its_settings_are_named(package: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rewards\.0\.per_vowel: .*from 0 to 100"):
        presets.load(str(of_prompts(tmp_path, "-1")))
    preset = of_prompts(tmp_path)
    preset.write_text(preset.read_text().replace("per_vowel", "per_vowl"))
    with pytest.raises(ConfigError, match=r"rewards\.0\.per_vowl: .*rewards\.0\.per_vowel"):
        presets.load(str(preset))


BROKEN = {
    "gone": "no_such_module:Config", "raises": "broken_rewards:Nothing", "other": "broken_rewards:NotOne",
}


def test_a_package_that_is_missing_or_broken_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"'vowels' is not one of word_list, length, function") as missing:
        presets.load(str(of_prompts(tmp_path)))
    assert len(missing.value.problems) == 1
    broken = tmp_path / "packages"
    (broken / "broken-1.0.dist-info").mkdir(parents=True)
    (broken / "broken-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    named = "\n".join(f"{kind} = {target}" for kind, target in {**BROKEN, "unmade": "broken_rewards:Unmade"}.items())
    (broken / "broken-1.0.dist-info" / "entry_points.txt").write_text(f"[rlhf_tui.rewards]\n{named}\n")
    (broken / "broken_rewards.py").write_text("""
from typing import ClassVar, Literal
from rlhf_engine.config.rewards import RewardSection
class NotOne: ...
class Unmade(RewardSection):
    kind: Literal["unmade"] = "unmade"
    implementation: ClassVar = "no_such_module:Reward"
    name: str = "unmade"
""")
    monkeypatch.syspath_prepend(str(broken))
    preset = tmp_path / "ppo.toml"
    text = preset.read_text().replace("per_vowel = 0.5\n", "")
    for kind, target in BROKEN.items():
        preset.write_text(text.replace("vowels", kind))
        with pytest.raises(ConfigError, match=target) as told:
            presets.load(str(preset))
        assert len(told.value.problems) == 1
    preset.write_text(text.replace("vowels", "unmade"))
    with pytest.raises(ConfigError, match="no_such_module") as unmade:
        build_rewards(presets.load(str(preset)).rewards)
    assert "\n" not in str(unmade.value)
    sys.modules.pop("broken_rewards", None)
