"""The loop from labels to a policy: what it will do, what it waits for, and that it goes on after any kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from loop_runs import judgement, write_labels
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.grid import Cell
from rlhf_engine.errors import ConfigError, RunError
from rlhf_engine.pipelining.drive import judged
from rlhf_engine.pipelining.stages import policy_config
from rlhf_engine.runs.pipeline_dir import PipelineDir, PipelinePlan
from rlhf_engine.sweeping.cells import DRIVEN, WAITING, status_of
from rlhf_engine.system.own_process import environment, python

PLAN = PipelinePlan("human-feedback", "human-feedback-reward", (), "animals", 0.1, 0.0, 300, 1, 200, 0)
KEYS = {"labels", "reward_model.accuracy", "hidden_score.reference", "hidden_score.tuned", "kl", "seconds"}


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), list(arguments))


def test_the_same_pipeline_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    mistyped = PipelineDir.begin(tmp_path, "loop", replace(PLAN, settings=("model.name=/nowhere",)))
    with mistyped.driven.lock(), pytest.raises(ConfigError, match="/nowhere"):
        PipelineDir.begin(tmp_path, "loop", PLAN)
    first = PipelineDir.begin(tmp_path, "loop", PLAN)  # nothing had come of the other
    write_labels(first.labels, [judgement(0)])
    started = first.plan().started
    assert started
    again = PipelineDir.begin(tmp_path, "loop", replace(PLAN, rounds=3))
    assert again.plan() == replace(PLAN, rounds=3, started=started)
    assert PipelineDir.begin(tmp_path, "loop", PLAN).plan().rounds == 3
    with pytest.raises(ConfigError, match=r"labels 300 and not 40.*--name"):
        PipelineDir.begin(tmp_path, "loop", replace(PLAN, labels=40))
    with pytest.raises(RunError, match="not allowed"):
        PipelineDir.begin(tmp_path, "../loop", PLAN)


def test_one_process_drives_a_pipeline(tmp_path: Path) -> None:
    found = PipelineDir.begin(tmp_path, "loop", PLAN)
    with found.driven.lock(), pytest.raises(RunError, match="pipeline loop"), PipelineDir(found.path).driven.lock():
        pass


def test_the_policy_learns_from_the_reward_model_and_the_rater_is_gold(tmp_path: Path) -> None:
    found = PipelineDir.begin(tmp_path, "loop", PLAN)
    config = policy_config(found, PLAN, 2)
    learnt, hidden = config.rewards
    assert (learnt.kind, learnt.weight) == ("preference", 1.0)
    assert getattr(learnt, "model", None) == str(tmp_path.resolve() / "loop-reward-2")
    assert (hidden.kind, hidden.name, hidden.weight) == ("word_list", "hidden-animals", 0.0)
    assert len(policy_config(found, replace(PLAN, rater=""), 1).rewards) == 1

    by_pairs = policy_config(found, replace(PLAN, settings=("algorithm.kind=dpo",)), 1)
    assert by_pairs.data.source == str(found.labels.resolve())
    assert policy_config(found, replace(PLAN, preset="dpo-animals"), 1).data.source == by_pairs.data.source
    with pytest.raises(ConfigError, match="preference"):
        policy_config(found, replace(PLAN, preset="animals"), 1)


LEAVES_A_COMMAND = """
import os, sys
from pathlib import Path
from rlhf_engine.runs.pipeline_dir import PipelineDir
left = PipelineDir(Path(sys.argv[1])).driven.start(["train", "--help"], "policy-1")
os.kill(left.process.pid, 19)
print(left.process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_command_that_outlives_its_pipeline_is_known_before_it_has_left_anything(tmp_path: Path) -> None:
    driven = PipelineDir.begin(tmp_path, "loop", PLAN).driven
    assert not driven.running("policy-1")
    killed = subprocess.run([sys.executable, "-c", LEAVES_A_COMMAND, str(driven.path)], env=environment(), text=True,
                            stdout=subprocess.PIPE, check=False)
    left = int(killed.stdout)
    try:
        assert killed.returncode == -signal.SIGKILL
        assert driven.running("policy-1")
        assert not driven.running("reward-1")
        with pytest.raises(RunError, match="policy-1"):
            driven.start(["train", "--help"], "policy-1")
        cell = Cell("loop-policy-1", (), 0)
        assert status_of(tmp_path, cell).state == WAITING
        assert status_of(tmp_path, cell, at_work=True).state == DRIVEN
    finally:
        os.kill(left, signal.SIGKILL)
    while driven.running("policy-1"):
        time.sleep(0.01)


def test_without_a_rater_it_says_how_many_pairs_a_person_has_to_judge(tmp_path: Path) -> None:
    result = invoke("pipeline", "human-feedback", "--labels", "40", "--runs-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "40 pairs" in result.output
    assert "rlhf-tui label human-feedback" in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_of_people_every_pair_counts_that_somebody_has_judged(tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    assert judged(labels) == 0
    write_labels(labels, [judgement(0, "ann"), judgement(1, "ann", "tie"), judgement(0, "bob", "second"),
                          judgement(1, "bob", "skip"), judgement(2, "bob", "both_bad")])
    assert judged(labels) == 3  # the first two by one or both, the third by one
    assert (judged(labels, "ann"), judged(labels, "bob"), judged(labels, "carl")) == (2, 2, 0)


@pytest.mark.parametrize(("arguments", "word"), [
    (["nowhere"], "no preset"), (["human-feedback", "--rater", "nowhere"], "no preset"),
    (["animals", "--rater", "animals"], "preference"), (["human-feedback", "--set", "nothing=1"], "nothing"),
    (["human-feedback", "--rater", "reward-model"], "no rewards"),
    (["human-feedback", "--reward-model", "animals"], "no reward model"),
    (["human-feedback", "--set", "algorithm.kind=reward_model"], "answers no prompts"),
    (["human-feedback", "--set", "data.source=/nowhere"], "/nowhere"), (["human-feedback", "--name", ""], "name"),
])
def test_what_cannot_be_is_one_sentence(arguments: list[str], word: str, tmp_path: Path) -> None:
    result = invoke("pipeline", *arguments, "--runs-dir", str(tmp_path))
    assert result.exit_code == 2
    assert word in result.output
    assert not (tmp_path / ".pipelines").exists()  # what is mended goes by the same name


@pytest.mark.soak
def test_killed_at_any_stage_the_same_command_goes_on(tmp_path: Path) -> None:
    words = ["pipeline", "human-feedback", "--rater", "animals", "--labels", "40", "--responses", "40", "--json",
             "--set", "train.steps=3", "--set", "train.checkpoint_every=1", "--runs-dir", str(tmp_path)]

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(python("rlhf_engine", words), env=environment(), text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL)

    pipeline = PipelineDir(tmp_path / ".pipelines" / "human-feedback")

    def labelling_begins() -> bool:
        return pipeline.driven.log_of("labels-1").exists()

    def some_labels() -> bool:
        return judged(pipeline.labels, "simulated:animals") >= 5

    def reward_model_begins() -> bool:
        return pipeline.driven.log_of("reward-1").exists()

    def reward_model_trains() -> bool:
        return (tmp_path / "human-feedback-reward-1" / "checkpoints" / "step-000005").exists()

    def policy_trains() -> bool:
        return (tmp_path / "human-feedback-policy-1" / "checkpoints" / "step-000001").exists()

    for reached in (labelling_begins, some_labels, reward_model_begins, reward_model_trains, policy_trains):
        process = begin()
        while not reached():
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    told, _ = begin().communicate(timeout=600)
    found = json.loads(told.splitlines()[-1])
    assert found.keys() == KEYS
    assert found["labels"] == 40
    assert 0 <= found["reward_model.accuracy"] <= 1  # what 40 labels teach is another question
