"""`label` with a reward in a person's place: what is asked, what is kept, and that it goes on where it was left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_models import save_tiny_model
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.commands.labelling import LabelTask
from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.labels.label_file import LabelFile, read_labels
from rlhf_engine.labels.pair import shown_swapped
from rlhf_engine.labels.rater import SimulatedRater, rate
from rlhf_engine.rewards.build import build_rewards

PRESET = """
format = 2
[model]
name = "{model}"
device = "cpu"
dtype = "float32"
[lora]
rank = 4
target_modules = []
[data]
prompts = ["Once", "There was a", "x", "Long ago"]
[algorithm]
responses_per_step = 8
minibatch_size = 4
[sampling]
max_new_tokens = 8
temperature = 3.0
[train]
steps = 2
threads = 1
checkpoint_every = 1
[sentinel]
truncated_share = "none"
[[rewards]]
kind = "length"
name = "short"
min_words = 3
penalty_per_word = 1.0
[[rewards]]
kind = "length"
name = "hidden"
weight = 0.0
min_words = 0
max_words = 1
penalty_per_word = 1.0
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_model(folder, "gpt_neo")
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.toml").write_text(PRESET.format(model=model))
    monkeypatch.chdir(tmp_path)


def call(*args: str) -> Result:
    return CliRunner().invoke(make_app(), list(args))


def label(*args: str) -> dict[str, Any]:
    done = call("label", "tiny.toml", "--rater", "short", "--json", *args)
    assert done.exit_code == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_reward_judges_and_one_in_ten_pairs_comes_back(tmp_path: Path) -> None:
    told = label("--count", "40", "--error", "0.1")
    assert Path(told["file"]) == Path("labels/tiny.jsonl")
    assert (told["judged"], told["rater"]) == (40, "simulated:short")
    assert sum(told["labels"].values()) == 40
    assert told["pairs_per_minute"] == pytest.approx(60 * 40 / told["seconds"])
    assert told["consistency"]["n"] == 3
    found = read_labels(Path(told["file"]))
    assert len(found) == 40
    assert len({one.pair.id for one in found if not one.repeat}) == 37
    assert all(one.swapped == shown_swapped(one.pair, one.rater, one.repeat) for one in found)
    assert {one.pair.first.origin.kind for one in found} == {"reference"}


def test_what_was_judged_is_not_asked_again_and_goes_on_as_if_never_left(tmp_path: Path) -> None:
    label("--count", "25", "--out", "a.jsonl")
    label("--count", "20", "--out", "a.jsonl")
    label("--count", "45", "--out", "b.jsonl")
    one, other = ([(judgement.key, judgement.verdict) for judgement in read_labels(Path(name))]
                  for name in ("a.jsonl", "b.jsonl"))
    assert one == other
    assert len(one) == 45


def test_a_reward_that_is_not_learned_from_judges_with_its_own_scores(tmp_path: Path) -> None:
    done = call("label", "tiny.toml", "--rater", "hidden", "--count", "20", "--as", "ann", "--repeat-every", "0")
    assert done.exit_code == 0, done.stderr
    found = read_labels(Path("labels/tiny.jsonl"))
    assert {judgement.rater for judgement in found} == {"ann"}
    hidden = build_rewards([LengthRewardConfig(name="hidden", min_words=0, max_words=1, penalty_per_word=1.0)])
    for judgement in found:
        chosen, rejected = (score.total for score in hidden.score(
            [""] * 2, [judgement.chosen.text, judgement.rejected.text]).scores)
        assert (chosen > rejected) if judgement.decided else (chosen == rejected)
    assert any(judgement.decided for judgement in found)
    assert {judgement.repeat for judgement in found} == {0}


def test_a_run_answers_by_its_newest_checkpoint_or_as_it_is_told(tmp_path: Path) -> None:
    assert call("train", "tiny.toml", "--name", "one").exit_code == 0
    done = call("label", "one", "--rater", "tiny.toml", "--count", "4", "--ask", "gap", "--first", "reference",
                "--second", "one@1", "--json")
    assert done.exit_code == 0, done.stderr
    (pair, *_) = [judgement.pair for judgement in read_labels(Path("labels/one.jsonl"))]
    assert [pair.first.origin.kind, pair.second.origin.kind] == ["reference", "checkpoint"]
    assert (pair.second.origin.run, pair.second.origin.step, pair.asked_for) == ("one", 1, "gap")
    assert call("label", "one", "--rater", "short", "--count", "2").exit_code == 0
    newest = read_labels(Path("labels/one.jsonl"))[-1].pair
    assert (newest.first.origin.kind, newest.first.origin.step, newest.first.origin.run) == ("tuned", 2, "one")


@pytest.mark.parametrize(("args", "said"), [
    (["--rater", "nobody"], "hidden"),
    (["--rater", "short", "--ask", "hardest"], "unsure"),
    (["--rater", "short", "--out", "labels.txt"], ".jsonl"),
    (["--rater", "short", "--first", "no-run"], "reference"),
    (["--rater", "short", "--as", " "], "--as"),
    (["--rater", "short", "--error", "0.9"], "--error"),
    ([], "--rater"),
])
def test_what_cannot_be_is_told_and_nothing_is_written(args: list[str], said: str) -> None:
    done = call("label", "tiny.toml", *args)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not Path("labels").exists()


def test_another_process_at_the_same_file_is_told() -> None:
    label("--count", "1")
    with LabelFile.open(Path("labels/tiny.jsonl"), rater="ann"):
        done = call("label", "tiny.toml", "--rater", "short", "--count", "1")
    assert done.exit_code == 1
    assert "another process" in done.stderr


def test_what_another_process_has_judged_meanwhile_is_not_judged_again() -> None:
    label("--count", "10", "--repeat-every", "0")
    path = Path("labels/tiny.jsonl")
    theirs = read_labels(path)
    path.rename("theirs.jsonl")
    nobody = SimulatedRater(NoScores(), theirs[0].rater)
    with LabelFile.open(path, rater=nobody.name) as late:  # it is not there yet: nobody holds it
        Path("theirs.jsonl").rename(path)
        assert rate(nobody, late, [one.pair for one in theirs], count=10, repeat_every=0) == 1
    kept = read_labels(path)
    assert [one.key for one in kept] == [one.key for one in theirs]
    assert [one.verdict for one in kept[1:]] == [one.verdict for one in theirs[1:]]
    assert len(path.read_text().splitlines()) == 10


class NoScores:
    """Finds all responses equally good."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Any:
        """One score for each."""
        return SimpleNamespace(scores=[SimpleNamespace(total=0.0)] * len(responses))


def test_a_person_is_handed_what_was_asked_for() -> None:
    asked: list[LabelTask] = []
    app = make_app(label=lambda task: asked.append(task) or 7)
    done = CliRunner().invoke(app, ["label", "tiny.toml", "--count", "3", "--as", "ann", "--ask", "unsure"])
    assert done.exit_code == 7
    (task,) = asked
    assert (task.rater, task.count, task.ask, task.file) == ("ann", 3, "unsure", Path("labels/tiny.jsonl"))


JUDGES = """
import sys
from pathlib import Path
from rlhf_engine.labels.judgement import Judgement, now
from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.labels.label_file import LabelFile
from rlhf_engine.labels.pair import Answer, Origin, Pair
here = Origin("tuned")
with LabelFile.open(Path(sys.argv[1]), rater="ann") as file:
    for number in range(len(file.judgements), 100_000):
        pair = Pair(f"number {number}", Answer("a " * 200, True, here), Answer("b " * 200, True, here))
        file.add(Judgement(pair, "ann", "first", False, time=now()))
        if number % 3 == 0:
            file.amend(Judgement(pair, "ann", "second", False, time=now()))
        print(number, flush=True)
"""


def test_killing_a_process_loses_no_judgement_that_it_has_kept(tmp_path: Path) -> None:
    path = tmp_path / "killed.jsonl"
    promised: list[int] = []
    for lines in (1, 30, 64):
        child = subprocess.Popen([sys.executable, "-c", JUDGES, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        promised += [int(child.stdout.readline()) for _ in range(lines)]
        os.kill(child.pid, signal.SIGKILL)
        promised += [int(line) for line in child.stdout if line.endswith("\n")]
        child.wait()
        child.stdout.close()
        kept = read_labels(path)
        assert [judgement.pair.prompt for judgement in kept] == [f"number {number}" for number in range(len(kept))]
        assert len(kept) > max(promised)
        assert all((kept[number].verdict == "second") == (number % 3 == 0) for number in promised)
