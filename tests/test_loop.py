"""Where a loop of human feedback stands, as its files tell it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from loop_runs import (
    POLICY_METRICS,
    held_out,
    judgement,
    policy_config,
    reward_model_config,
    write_labels,
    write_run,
)

from rlhf_engine.config import fields, presets
from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.events import RunState
from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.pair import AskedFor, Origin
from rlhf_engine.pipelining.loop import LoopReader, LoopState
from rlhf_engine.pipelining.loop_list import Loop, labels_of, loops, own_labels_of
from rlhf_engine.runs.pipeline_dir import PipelineDir, PipelinePlan
from rlhf_engine.runs.reward_models import missing_reward_model

PLAN = PipelinePlan("human-feedback", "human-feedback-reward", (), "", 0.0, 0.0, 40, 2, 200, 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return tmp_path / "labels" / "mine.jsonl"


def read(root: Path, labels: Path) -> LoopState:
    return LoopReader(root).read(Loop(labels))


def test_before_anything_there_is_nothing(root: Path, labels: Path) -> None:
    state = read(root, labels)
    assert (state.labels.judged, state.labels.wanted, state.reward, state.policy) == (0, 300, None, None)
    assert loops(root, labels) == [Loop(labels)]


def test_pairs_count_once_whoever_judged_and_however_often(root: Path, labels: Path) -> None:
    write_labels(labels, [judgement(0), judgement(1, verdict="tie"), judgement(2, verdict="skip"),
                          judgement(0, "bob", "second"), judgement(0, repeat=1), judgement(1, repeat=1)])
    found = read(root, labels).labels
    assert (found.judged, found.raters) == (2, ("ann", "bob"))
    assert found.consistency is not None
    assert (found.consistency.value, found.consistency.n) == (0.5, 2)


def test_what_is_no_label_file_is_told(root: Path, labels: Path) -> None:
    labels.parent.mkdir()
    labels.write_text("no json\n")
    assert "mine.jsonl" in read(root, labels).labels.problem


def test_the_newest_reward_model_of_these_labels_is_told_by_the_step_that_rewards(root: Path, labels: Path) -> None:
    write_labels(labels, [judgement(0), judgement(1, time="2026-11-26T09:31:00.000Z")])
    other = write_labels(labels.with_name("other.jsonl"), [judgement(0)])
    write_run(root, reward_model_config(labels), "old", [held_out(0.9, 0.2)], started="2026-11-25T09:30:00+00:00")
    steps = [held_out(0.7, 0.5), held_out(0.8, 0.4), held_out(0.6, 0.9), {"loss": 0.1}]
    write_run(root, reward_model_config(labels), "new", steps)
    write_run(root, reward_model_config(other), "of-others", [held_out(0.99, 0.1)],
              started="2026-11-27T09:30:00+00:00")
    reward = read(root, labels).reward
    assert reward is not None
    assert (reward.summary.name, reward.metrics["eval/accuracy"], reward.finished) == ("new", 0.6, True)
    assert reward.newer == 1  # judged a minute after it began
    keeps_best = fields.replace(reward_model_config(labels), {"train.keep_best": "auto"})
    write_run(root, keeps_best, "best", steps, started="2026-11-26T10:30:00+00:00")
    reward = read(root, labels).reward
    assert reward is not None
    assert (reward.summary.name, reward.metrics["eval/accuracy"]) == ("best", 0.8)


def test_a_policy_belongs_to_the_loop_by_its_reward_model(root: Path, labels: Path) -> None:
    write_labels(labels, [judgement(0)])
    old = write_run(root, reward_model_config(labels), "old", [held_out(0.9, 0.2)])
    policy = write_run(root, policy_config(old.path), "policy", POLICY_METRICS)
    state = read(root, labels)
    assert state.policy is not None
    assert state.policy.summary.path == policy.path
    assert state.up_to_date
    assert state.policy.gold == "hidden"
    assert (state.policy.first["rewards/hidden/mean"], state.policy.metrics["rewards/hidden/mean"]) == (-2.1, 0.4)
    write_run(root, reward_model_config(labels), "new", [held_out(0.9, 0.2)], started="2026-11-27T09:30:00+00:00")
    later = read(root, labels)
    assert later.policy == state.policy
    assert not later.up_to_date


def test_a_policy_that_learns_from_the_pairs_needs_no_reward_model(root: Path, labels: Path) -> None:
    write_labels(labels, [judgement(0)])
    by_pairs = fields.replace(reward_model_config(labels), {"algorithm.kind": "dpo"})
    write_run(root, by_pairs, "by-pairs", [{"rewards/accuracies": 0.6}])
    state = read(root, labels)
    assert state.reward is None
    assert state.policy is not None
    assert (state.policy.summary.name, state.up_to_date) == ("by-pairs", True)


def _asked_for(ask: AskedFor, one: Judgement) -> Judgement:
    return replace(one, pair=replace(one.pair, asked_for=ask))


def test_how_often_the_tuned_model_won_is_counted_of_pairs_with_the_reference(root: Path, labels: Path) -> None:
    reward = write_run(root, reward_model_config(labels), "reward", [held_out(0.9, 0.2)])
    write_run(root, policy_config(reward.path), "policy", POLICY_METRICS)
    tuned, other = (Origin("checkpoint", "storyteller", str(root / name), 2) for name in ("policy", "other"))
    write_labels(labels, [
        judgement(0, second=tuned, verdict="second"), judgement(1, first=tuned, verdict="first"),
        judgement(2, first=tuned, verdict="second"), judgement(3, first=tuned, second=tuned),
        judgement(4, first=tuned, verdict="tie"), judgement(5, first=other), judgement(6),
        judgement(0, second=tuned, verdict="second", repeat=1), _asked_for("gap", judgement(7, first=tuned)),
    ])
    won = read(root, labels).tuned_won
    assert won is not None
    assert (won.value, won.n, won.chance) == (2 / 3, 3, 0.5)


def test_a_pipeline_is_a_loop_that_knows_its_round(root: Path, labels: Path) -> None:
    pipeline = PipelineDir.begin(root, "by-itself", PLAN)
    [first, second] = loops(root, labels)
    assert (first.pipeline and first.pipeline.name, second) == ("by-itself", Loop(labels))
    reader = LoopReader(root)
    state = reader.read(first)
    assert (state.plan and state.plan.rounds, state.labels.wanted, state.rounds_done) == (2, 80, 0)
    assert state.name_of("reward") == "by-itself-reward-1"
    reward = write_run(root, reward_model_config(pipeline.labels), "by-itself-reward-1", [held_out(0.9, 0.2)])
    write_run(root, policy_config(reward.path), "by-itself-policy-1", POLICY_METRICS)
    state = reader.read(first)
    assert (state.rounds_done, state.name_of("policy"), state.driver) == (1, "by-itself-policy-2", "")
    write_run(root, reward_model_config(pipeline.labels), "by-itself-reward-2", [], RunState.STOPPED)
    assert reader.read(first).name_of("reward") is None
    with pipeline.driven.lock():
        assert reader.read(first).driver


def test_settings_tell_which_loop_they_are_of(root: Path, labels: Path) -> None:
    reward = write_run(root, reward_model_config(labels), "reward", [held_out(0.9, 0.2)])
    assert labels_of(reward_model_config(labels)) == labels
    assert labels_of(policy_config(reward.path)) == labels
    assert labels_of(policy_config(root / "gone")) is None
    assert labels_of(presets.load("animals")) is None


def test_the_loop_that_trained_last_is_told_from_one_that_was_judged_last(root: Path, labels: Path) -> None:
    write_labels(labels, [judgement(0)])
    other = write_labels(labels.with_name("other.jsonl"), [judgement(0)])
    for age, path in ((200.0, labels), (100.0, other)):
        os.utime(path, (time.time() - age, time.time() - age))
    found, reader = loops(root, labels), LoopReader(root)
    assert [loop.labels for loop in found] == [other, labels]
    assert reader.last_worked_on(found) == Loop(other)
    write_run(root, presets.load("animals"), "of-no-loop", [{}])
    assert reader.last_worked_on(found) == Loop(other)
    reward = write_run(root, reward_model_config(labels), "reward", [held_out(0.9, 0.2)])
    write_run(root, policy_config(reward.path), "policy", POLICY_METRICS)
    assert reader.last_worked_on(found) == Loop(labels)
    os.utime(other, (time.time() + 60, time.time() + 60))
    assert reader.last_worked_on(loops(root, labels)) == Loop(other)


def test_a_run_of_a_loop_is_judged_into_its_labels_but_nothing_is_added_to_data_of_others(
    root: Path, labels: Path, tmp_path: Path
) -> None:
    reward = write_run(root, reward_model_config(labels), "reward", [held_out(0.9, 0.2)])
    assert own_labels_of(policy_config(reward.path), root) == labels
    assert own_labels_of(reward_model_config(labels), root) == labels
    of_others = write_run(root, reward_model_config(tmp_path / "public.jsonl"), "public", [held_out(0.9, 0.2)])
    assert own_labels_of(policy_config(of_others.path), root) is None
    assert own_labels_of(reward_model_config(PipelineDir.begin(root, "driven", PLAN).labels), root) is None
    assert own_labels_of(presets.load("animals"), root) is None


def test_the_reward_model_that_is_missing_is_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = policy_config(root / "reward")
    assert missing_reward_model(config) == str(root / "reward")
    (root / "reward").mkdir(parents=True)
    assert missing_reward_model(config) == ""
    by_name = config.model_copy(update={"rewards": [PreferenceRewardConfig(model="reward"), *config.rewards]})
    assert missing_reward_model(by_name) == ""
    nowhere = [PreferenceRewardConfig(model="gone\0")]
    assert missing_reward_model(config.model_copy(update={"rewards": nowhere})) == "gone\0"
