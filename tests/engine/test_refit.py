"""A reward model that learns on while it rewards a run: what it becomes, what is left alone, what a resume makes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine.test_preference_reward import PROMPTS, TEXTS, told, totals, trained
from engine.test_reward_model import config_of, learner_of
from tiny_models import tiny_config

from rlhf_engine.config import fields
from rlhf_engine.config.methods.reward_model import RewardModelConfig
from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import load_data
from rlhf_engine.errors import ConfigError
from rlhf_engine.events import EditRefused, Event, Notice, RunState, StepFinished
from rlhf_engine.exporting.export import export
from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.label_file import LabelFile
from rlhf_engine.labels.pair import Answer, Origin, Pair
from rlhf_engine.learning.bradley_terry import member_batch
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.response_scores import score_responses
from rlhf_engine.models.written import written
from rlhf_engine.rewards.base import LearnsOn
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.function import pinned
from rlhf_engine.rewards.preference import PreferenceReward
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.checkpoint import Quality, TrainingState
from rlhf_engine.runs.reward_versions import versions_of
from rlhf_engine.runs.run_care import rename_run
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import settings_now
from rlhf_engine.training.fork import fork
from rlhf_engine.training.trainer import Trainer

VERDICTS = ("first", "second", "tie", "first", "both_bad", "first")
ORIGIN = Origin("reference")


def judge(labels: Path, first: int, count: int, verdict: str | None = None) -> None:
    """Judges so many pairs more, from number `first` on."""
    with LabelFile.open(labels, rater="ann") as file:
        for at in range(first, first + count):
            pair = Pair(PROMPTS[at % 4], Answer(f" a fox ran {at}", True, ORIGIN), Answer(f" man {at}", True, ORIGIN))
            file.add(Judgement(pair, "ann", verdict or VERDICTS[at % 6], swapped=False, seconds=1.0,  # type: ignore[arg-type]
                               time="2026-01-01T00:00:00+00:00"))


def rewarded(
    folder: Path, model: Path, labels: Path, *, steps: int = 4, method: str = "ppo", **reward: Any
) -> RunConfig:
    section = {"kind": "preference", "name": "liked", "model": str(model), "labels": str(labels), "refit_every": 4}
    config = tiny_config(folder, train={"steps": steps, "checkpoint_every": 2}, sampling={"max_new_tokens": 6},
                         algorithm={"responses_per_step": 4, "epochs": 1}, lora={"target_modules": ["q_proj"]})
    sections = config.model_dump() | {"rewards": [section | reward]}
    if method != "ppo":
        sections["algorithm"] = {"kind": method}
    return pinned(RunConfig.model_validate(sections))


def section(config: RunConfig) -> PreferenceRewardConfig:
    found = config.rewards[0]
    assert isinstance(found, PreferenceRewardConfig)
    return found


def run_of(root: Path, config: RunConfig, emit: Callable[[Event], None] = lambda event: None, name: str = "run"
           ) -> RunDir:
    run = RunDir.create(root, config, name=name)
    assert Trainer(config, run_dir=run, emit=emit).run() is RunState.FINISHED
    return run


def judging_at(step: int, labels: Path, first: int, count: int, events: list[Event] | None = None
               ) -> Callable[[Event], None]:
    """Somebody judges while the run takes its step."""

    def emit(event: Event) -> None:
        if events is not None:
            events.append(event)
        if isinstance(event, StepFinished) and event.step == step:
            judge(labels, first, count)

    return emit


@pytest.mark.parametrize(("members", "reads"), [(1, "last"), (2, "mean")])
def test_a_refit_is_the_training_of_its_method_on_the_same_base(
    model_folders: dict[str, Path], tmp_path: Path, members: int, reads: str
) -> None:
    """The guest against the method itself: the same pairs in the same order give the same weights and scores."""
    folder, labels = model_folders["gpt_neo"], tmp_path / "labels.jsonl"
    judge_run, _ = trained(folder, tmp_path / "runs", members=members, reads=reads)
    judge(labels, 0, 6)
    config = rewarded(folder, judge_run.path, labels, refit_passes=3, refit_learning_rate=1e-3)
    made = PreferenceReward(section(config))
    policy = Policy.from_config(config)
    made.use_policy(policy)
    before = {name: weight.detach().clone() for name, weight in policy.parameters.items()}
    random = torch.get_rng_state()
    learnt = made.learn_on(tmp_path / "versions", 3, lambda fraction: None)
    assert learnt is not None
    assert "version 1" in learnt.text
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(weight, before[name]) for name, weight in policy.parameters.items())
    again = PreferenceReward(section(config).model_copy(update=dict(learnt.settings)))
    again.use_policy(policy)

    # the method, from the same weights, on the same file
    state = checkpoint.load(checkpoint.candidates(judge_run)[0])
    own = fields.validate(state.config.model_dump() | {"data": {"source": str(labels), "shuffle": False}})
    learner = learner_of(own, stirred=False)
    with torch.no_grad():
        for name, weight in learner.policy.parameters.items():
            weight.copy_(state.tensors[name])
    method = own.algorithm
    assert isinstance(method, RewardModelConfig)
    rows = load_data(own).train
    for at, (head, adapter) in enumerate(method.adapter_heads.items()):
        for number in range(1, 3 * 2 + 1):
            batch = member_batch(rows, own, at, number, own.train.seed + 1)
            learner.learning.update(learner._reader(head), learner.learners.optimizers[adapter],
                                    learner.learning.lesson(batch), 1e-3, own.optimizer.max_grad_norm)
    raw = score_responses(learner.policy, learner.readers,
                          written(learner.policy, PROMPTS * 2, TEXTS, [False] * 8), learner.limit)
    answers = state.numbers["reference_answers"]
    asked = written(learner.policy, [prompt for prompt, _ in answers], [answer for _, answer in answers],
                    [False] * len(answers))
    reference = score_responses(learner.policy, learner.readers, asked, learner.limit).double()
    center, scale = reference.mean(dim=1, keepdim=True), reference.std(dim=1, correction=0, keepdim=True)
    expected = ((raw - center) / scale).mean(dim=0).tolist()
    assert totals(again) == pytest.approx(expected, abs=2e-3)
    assert totals(again) != pytest.approx(totals(made), abs=1e-2), "nothing was learnt"


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_a_run_goes_on_with_what_its_reward_has_become(
    model_folders: dict[str, Path], tmp_path: Path, method: str
) -> None:
    folder, labels, events = model_folders["gpt_neo"], tmp_path / "labels.jsonl", list[Event]()
    judge_run, _ = trained(folder, tmp_path / "judge", members=2)
    config = rewarded(folder, judge_run.path, labels, steps=2, method=method)
    run = run_of(tmp_path / "runs", config, judging_at(1, labels, 0, 5, events))
    (version,) = versions_of(run)
    assert (version.reward, version.first_step, version.judgements) == ("liked", 2, 5)
    (edit,) = run.edits()
    assert (edit.step, edit.path, edit.old) == (2, "rewards.0.version", None)
    assert edit in events
    assert any(isinstance(event, Notice) and "version 1 rewards from step 2 on" in event.text for event in events)
    assert section(settings_now(run)).version == edit.new
    assert told(run)[1] != told(run_of(tmp_path / "runs", fields.replace(config, {"rewards.0.refit_every": None}),
                                       name="without"))[1]


def test_skips_do_not_count_nor_judgements_that_it_knows(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder, labels = model_folders["gpt_neo"], tmp_path / "labels.jsonl"
    judge(labels, 0, 5)
    own = config_of(folder, data={"source": str(labels)})
    learner = learner_of(own)
    judge_run = RunDir.create(tmp_path / "judge", own, name="judge")
    checkpoint.save(judge_run, TrainingState(2, *learner.state(), own, Quality("accuracy", 0.9, True)), keep=3)
    config = rewarded(folder, judge_run.path, labels)
    assert section(config).judgements == 5
    made = PreferenceReward(section(config))
    judge(labels, 5, 3)
    judge(labels, 8, 6, "skip")
    assert made.learn_on(tmp_path / "versions", 1, lambda fraction: None) is None
    judge(labels, 14, 1)
    assert made.learn_on(tmp_path / "versions", 1, lambda fraction: None) is not None


def test_a_resumed_run_repeats_itself_with_a_refit_between(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder, labels = model_folders["gpt_neo"], tmp_path / "labels.jsonl"
    judge_run, _ = trained(folder, tmp_path / "judge", members=2)
    config = rewarded(folder, judge_run.path, labels)
    whole = run_of(tmp_path / "runs", config, judging_at(1, labels, 0, 5), "whole")
    labels.unlink()
    half = run_of(tmp_path / "runs", fields.replace(config, {"train.steps": 2}), judging_at(1, labels, 0, 5), "half")
    shutil.rmtree(judge_run.path)  # what it has become is the run's own
    half = rename_run(half, "elsewhere")
    state, _ = checkpoint.load_newest(half)
    shutil.rmtree(half.checkpoints)
    checkpoint.save(half, replace(state, config=fields.replace(state.config, {"train.steps": 4})), keep=3)
    Trainer.resume(half, emit=lambda event: None).run()
    assert told(half) == told(whole)
    ends = [checkpoint.load_newest(run)[0].tensors for run in (whole, half)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert [edit.new for edit in half.edits()] == [edit.new for edit in whole.edits()]


def test_versions_of_a_course_that_is_gone_go_and_a_fork_takes_its_own_along(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder, labels = model_folders["gpt_neo"], tmp_path / "labels.jsonl"
    judge_run, _ = trained(folder, tmp_path / "judge")

    def emit(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step in (1, 4):
            judge(labels, 10 * event.step, 5)

    run = run_of(tmp_path / "runs", rewarded(folder, judge_run.path, labels, steps=5), emit)
    assert [each.first_step for each in versions_of(run)] == [2, 5]
    child = fork(run, step=4, changes={"train.steps": 6}, root=tmp_path / "runs", name="child")
    assert [each.first_step for each in versions_of(child)] == [2]
    shutil.rmtree(run.path / "reward_models" / "version-001")
    Trainer.resume(child, emit=lambda event: None).run()  # 5 judgements are new to it, too
    assert [each.first_step for each in versions_of(child)] == [2, 5]

    checkpoints = checkpoint.candidates(child)
    for path in checkpoints[:-1]:  # back to that of step 4, before the refit
        shutil.rmtree(path)
    events: list[Event] = []
    judge(labels, 90, 1)
    Trainer.resume(child, emit=events.append).run()
    assert [(each.first_step, each.judgements) for each in versions_of(child)] == [(2, 5), (5, 11)]
    assert not [event for event in events if isinstance(event, EditRefused)]
    assert [edit.path for edit in child.edits()] == ["rewards.0.version"]


def test_labels_that_cannot_be_learnt_from_are_told_once_and_the_run_goes_on(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder, labels, events = model_folders["gpt_neo"], tmp_path / "labels.jsonl", list[Event]()
    judge_run, _ = trained(folder, tmp_path / "judge")
    config = rewarded(folder, judge_run.path, labels, steps=3)

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepFinished):
            labels.write_text("no label file\n" * event.step)

    run_of(tmp_path / "runs", config, emit)
    said = [event.text for event in events if isinstance(event, Notice) and "learn on" in event.text]
    assert len(said) == 2
    assert "no label file" in said[0]
    assert "JSON" in said[1]
    assert not versions_of(RunDir(tmp_path / "runs" / "run"))


def test_a_version_that_is_another_one_now_is_no_reward(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder, labels = model_folders["gpt_neo"], tmp_path / "labels.jsonl"
    judge_run, _ = trained(folder, tmp_path / "judge")
    run = run_of(tmp_path / "runs", rewarded(folder, judge_run.path, labels, steps=2), judging_at(1, labels, 0, 5))
    about = run.path / "reward_models" / "version-001" / "reward_model.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"center": [0.0]}))
    with pytest.raises(ConfigError, match="damaged"):
        build_rewards(settings_now(run).rewards)
    with pytest.raises(ConfigError, match="not known here"):
        build_rewards([section(settings_now(run)).model_copy(update={"version_folder": None})])


def test_an_exported_model_learns_on_and_tells_what_it_tells_apart(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    """Without the settings of its run: by defaults, and centred on answers to the labels' prompts."""
    folder, labels = model_folders["gpt_neo"], tmp_path / "labels.jsonl"
    judge_run, _ = trained(folder, tmp_path / "judge")
    judge(labels, 0, 3)
    out = export(judge_run, tmp_path / "out").path
    config = rewarded(folder, out, labels)
    assert section(config).judgements == 3
    judge(labels, 3, 4)
    made = PreferenceReward(section(config))
    assert isinstance(made, LearnsOn)
    learnt = made.learn_on(tmp_path / "versions", 1, lambda fraction: None)
    assert learnt is not None
    version = PreferenceReward(PreferenceRewardConfig(model=str(tmp_path / "versions" / "version-001")))
    assert totals(version) != pytest.approx(totals(made), abs=1e-3)


def test_refits_without_labels_get_a_sentence() -> None:
    with pytest.raises(ValueError, match="labels"):
        PreferenceRewardConfig(model="judge", refit_every=5)
