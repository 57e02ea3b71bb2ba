"""A reward model that learns on while it rewards a run: what it becomes, what is left alone, what a resume makes."""

from __future__ import annotations

import hashlib
import json
import math
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
from rlhf_engine.events import EditRefused, Event, Notice, RunState, StepFinished, StepProgress
from rlhf_engine.exporting.export import export
from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.label_file import LabelFile
from rlhf_engine.labels.pair import Answer, Origin, Pair
from rlhf_engine.learning.bradley_terry import HeldOutPairs, member_batch
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.response_scores import score_responses
from rlhf_engine.models.written import written
from rlhf_engine.pipelining.loop import LoopReader
from rlhf_engine.pipelining.loop_list import Loop
from rlhf_engine.requests import Stop
from rlhf_engine.rewards.base import LearnsOn
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.function import pinned
from rlhf_engine.rewards.preference import PreferenceReward
from rlhf_engine.rewards.version_check import VersionCheck
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


def contradict(labels: Path, held_out: str, count: int) -> None:
    """Judges so many pairs of each prompt: foxes win, but for those of one prompt."""
    with LabelFile.open(labels, rater="ann") as file:
        for at in range(4 * count):
            pair = Pair(PROMPTS[at % 4], Answer(f"{6 * ' fox'} {at}", True, ORIGIN),
                        Answer(f"{6 * ' man'} {at}", True, ORIGIN))
            file.add(Judgement(pair, "ann", "second" if pair.prompt == held_out else "first", swapped=False,
                               seconds=1.0, time="2026-01-01T00:00:00+00:00"))


def by_digest() -> list[str]:
    """The prompts in the order in which a share of them is held out."""
    return sorted(PROMPTS, key=lambda prompt: hashlib.sha256(prompt.encode()).digest())


def learnt_from_labels(folder: Path, root: Path, labels: Path, *, stirred: bool = True, **data: Any) -> RunDir:
    """A reward model's run whose own labels these are, as it is at its end."""
    config = config_of(folder, data={"source": str(labels), **data}, reads="mean")
    learner = learner_of(config, stirred=stirred)
    run = RunDir.create(root, config, name="judge")
    state = TrainingState(2, *learner.state(), config, Quality("accuracy", 0.9, True), learner.policy.fingerprint)
    checkpoint.save(run, state, keep=3)
    return run


def learnt_on(run: RunDir, number: int = 1) -> dict[str, Any]:
    """What the run's version says of how it came to be."""
    found = json.loads((run.path / "reward_models" / f"version-{number:03d}" / "reward_model.json").read_text())
    return dict(found["learnt_on"])


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
    judge_run = learnt_from_labels(folder, tmp_path / "judge", labels)
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


def test_a_refit_is_given_up_where_the_run_is_to_end_and_a_resumed_run_makes_it(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder, labels = model_folders["gpt_neo"], tmp_path / "labels.jsonl"
    judge_run, _ = trained(folder, tmp_path / "judge")
    config = rewarded(folder, judge_run.path, labels, refit_passes=50)
    run, phases = RunDir.create(tmp_path / "runs", config, name="run"), list[float]()

    def emit(event: Event) -> None:
        if isinstance(event, StepFinished) and not labels.exists():
            judge(labels, 0, 5)
        if isinstance(event, StepProgress) and event.phase == "reward model":
            phases.append(event.fraction)
            trainer.requests.ask(Stop())

    trainer = Trainer(config, run_dir=run, emit=emit)
    assert trainer.run() is RunState.STOPPED
    assert phases == [0.0]
    assert not list((run.path / "reward_models").glob("*"))
    Trainer.resume(run, emit=lambda event: None).run()
    assert [each.judgements for each in versions_of(run)] == [5]


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


def test_from_scratch_it_is_what_the_labels_make_it_wherever_it_stood(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    """The method's own training, from a fresh adapter: as many steps, and nothing left of the weights of before."""
    folder, labels = model_folders["gpt_neo"], tmp_path / "labels.jsonl"
    judge(labels, 0, 5)
    runs = [learnt_from_labels(folder, tmp_path / name, labels, stirred=name == "far") for name in ("far", "new")]
    judge(labels, 5, 4)
    found = {}
    for begin, run in [(None, runs[0]), ("scratch", runs[1]), ("weights", runs[0])]:
        config = section(rewarded(folder, run.path, labels, judgements=5, refit_from=begin))
        made = PreferenceReward(config)
        learnt = made.learn_on(tmp_path / f"versions-{begin}", 1, lambda fraction: None)
        assert learnt is not None
        about = json.loads((tmp_path / f"versions-{begin}" / "version-001" / "reward_model.json").read_text())
        found[begin] = (totals(PreferenceReward(config.model_copy(update=dict(learnt.settings)))), about["learnt_on"])
    assert found[None][0] == found["scratch"][0] != found["weights"][0]
    own = checkpoint.load(checkpoint.candidates(runs[0])[0]).config
    assert [found[None][1][name] for name in ("steps", "learning_rate")] == [
        own.train.steps, own.optimizer.learning_rate]
    assert found["weights"][1]["steps"] == 3  # one pass over 9 pairs, 4 a step
    assert found["weights"][1]["learning_rate"] == pytest.approx(own.optimizer.learning_rate / 5)


def test_a_version_that_is_worse_does_not_reward(model_folders: dict[str, Path], tmp_path: Path) -> None:
    """Held-out pairs that say the opposite of the others: whatever learns from those is worse on these."""
    folder, labels, events = model_folders["gpt_neo"], tmp_path / "labels.jsonl", list[Event]()
    judge(labels, 0, 4)
    judge_run = learnt_from_labels(folder, tmp_path / "judge", labels, stirred=False, held_out_share=0.25)
    labels.unlink()
    config = rewarded(folder, judge_run.path, labels, judgements=0, refit_learning_rate=0.05, refit_passes=4)

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepFinished) and event.step == 1:
            contradict(labels, by_digest()[0], 12)

    run = run_of(tmp_path / "runs", config, emit)
    (version,) = versions_of(run)
    about = learnt_on(run)
    assert version.refused
    assert version.held_out == 12
    assert version.loss is not None
    assert version.loss_before == pytest.approx(math.log(2), abs=1e-5)
    assert about["loss_change"][0] == pytest.approx(version.loss - math.log(2), abs=1e-5)
    assert about["loss_change"][1] > 0
    assert [(edit.step, edit.path) for edit in run.edits()] == [(2, "rewards.0.refused")]
    assert section(settings_now(run)).version is None
    said = [event for event in events if isinstance(event, Notice) and "version 1" in event.text]
    assert [event.level for event in said] == ["warning"]
    assert "worse" in said[0].text
    assert f"{version.loss:.3f}" in said[0].text
    assert "0.693" in said[0].text
    assert told(run) == told(run_of(tmp_path / "runs", fields.replace(config, {"rewards.0.refit_every": None}),
                                    name="without")), "it rewarded after all"

    # a resumed run does not learn the same once more, but from as many new judgements as ever
    state, _ = checkpoint.load_newest(run)
    shutil.rmtree(run.checkpoints)
    checkpoint.save(run, replace(state, config=fields.replace(state.config, {"train.steps": 7})), keep=3)

    def more(event: Event) -> None:
        if isinstance(event, StepFinished):
            judge(labels, 100 * event.step, 2)

    Trainer.resume(run, emit=more).run()
    assert [(each.first_step, each.judgements) for each in versions_of(run)] == [(2, 48), (7, 52)]


def test_what_is_worse_is_told_by_losses_and_by_what_is_told_apart() -> None:
    """By hand, of 12 pairs: t of 11 degrees of freedom is 2.201."""
    def pairs(losses: list[float], told_apart: list[float]) -> HeldOutPairs:
        return HeldOutPairs({"eval/loss": sum(losses) / 12, "eval/accuracy": sum(told_apart) / len(told_apart)}, losses,
                            told_apart)

    right, half, same = [1.0] * 12, [1.0, 0.0] * 6, [0.5] * 12
    fewer = VersionCheck.of(pairs(same, right), pairs(same, half))
    assert fewer.accuracy_change is not None
    reach = 2.201 * math.sqrt(6 * 0.25 * 2 / 11 / 12)
    assert fewer.accuracy_change.low == pytest.approx(-0.5 - reach, abs=1e-4)
    assert fewer.accuracy_change.high == pytest.approx(-0.5 + reach, abs=1e-4)
    assert fewer.worse
    assert not VersionCheck.of(pairs(same, half), pairs(same, right)).worse
    assert VersionCheck.of(pairs(same, right), pairs([0.6, 0.7] * 6, right)).worse
    assert not VersionCheck.of(pairs(same, right), pairs([0.3, 0.8] * 6, right)).worse, "it may be chance"
    assert not VersionCheck.of(pairs(same[:9], right[:9]), pairs([0.6] * 9, half[:9])).worse, "too few"


def test_what_is_held_out_too_little_to_tell_is_told(model_folders: dict[str, Path], tmp_path: Path) -> None:
    """And pairs that the model had learnt from before are none that are held out."""
    folder, labels = model_folders["gpt_neo"], tmp_path / "labels.jsonl"
    first, second, *_ = by_digest()
    for kept, expected in [((), "no pairs are held out"), ((first, second), "too few")]:
        labels.unlink(missing_ok=True)
        with LabelFile.open(labels, rater="ann") as file:  # the smallest digest alone is held out of these
            for at, prompt in enumerate([first, second]):
                pair = Pair(prompt, Answer(f" fox {at}", True, ORIGIN), Answer(f" man {at}", True, ORIGIN))
                file.add(Judgement(pair, "ann", "first", swapped=False, seconds=1.0, time="2026-01-01T00:00:00+00:00"))
        judge_run = learnt_from_labels(folder, tmp_path / expected, labels, held_out_share=0.5 if kept else 0.0)
        judge(labels, 0, 8)
        made = PreferenceReward(section(rewarded(folder, judge_run.path, labels, judgements=2)))
        learnt = made.learn_on(tmp_path / expected / "versions", 1, lambda fraction: None)
        assert learnt is not None
        assert learnt.settings.keys() >= {"version"}
        assert expected in learnt.text
        about = json.loads((tmp_path / expected / "versions" / "version-001" / "reward_model.json").read_text())
        assert about["learnt_on"]["held_out"] == (3 if kept else 0), "two held-out prompts, one of them learnt before"
        assert about["learnt_on"]["loss_change"] is None


def test_pairs_are_new_that_the_model_in_use_has_not_learnt_from(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    """Whenever its run began, and also where it has learnt on in the policy's."""
    folder, labels, runs = model_folders["gpt_neo"], tmp_path / "labels.jsonl", tmp_path / "runs"
    judge(labels, 0, 5)
    judge_run = learnt_from_labels(folder, runs, labels)
    judge(labels, 5, 3)

    def newer() -> int:
        reward = LoopReader(runs).read(Loop(labels)).reward
        assert reward is not None
        return reward.newer

    assert newer() == 3
    run_of(runs, rewarded(folder, judge_run.path, labels, judgements=5, steps=2), judging_at(1, labels, 8, 4))
    assert newer() == 0
    judge(labels, 12, 2)
    assert newer() == 2
