"""Numbers that stop being numbers: left out before any weight moves, counted, and the end of the run if they stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tiny_models import make_ppo, tiny_config
from torch import Tensor

from rlhf_engine.algorithms import ppo as ppo_module
from rlhf_engine.algorithms.ppo import PPO
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.events import Alarm, EditApplied, Event, RolledBack, RunState, StepFinished
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

PROMPTS = ["Once", "There was a", "x", "Long ago"]


class Huge:
    name = "length"

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        return [Score(1e300, {}) for _ in responses]


def huge_score(ppo: PPO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finite number for Python, infinity for the float32 that training computes in."""
    monkeypatch.setattr(ppo.on_policy.resources, "rewards", RewardSum([(Huge(), 1.0)]))


def nan_loss(ppo: PPO, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(whole: Callable) -> Callable:
        return lambda *tensors, **options: (lambda found: found._replace(loss=found.loss * float("nan")))(
            whole(*tensors, **options))

    for name in ("clipped_policy_loss", "clipped_value_loss"):
        monkeypatch.setattr(ppo_module, name, broken(getattr(ppo_module, name)))


def infinite_gradient(ppo: PPO, monkeypatch: pytest.MonkeyPatch) -> None:
    for parameters in (ppo.policy.adapters["actor"], ppo.policy.adapters["critic"]):
        next(iter(parameters.values())).register_hook(lambda gradient: gradient + float("inf"))


def learnt(ppo: PPO) -> dict[str, Tensor]:
    """Weights and Adam's state, apart from what moves on by itself."""
    tensors, _ = ppo.state()
    return {name: tensor.clone() for name, tensor in tensors.items() if not name.startswith("generator/")}


@pytest.mark.parametrize("poison", [huge_score, nan_loss, infinite_gradient])
def test_a_step_that_is_not_finite_changes_no_weight_bitwise(
    neo_config: RunConfig, monkeypatch: pytest.MonkeyPatch, poison: Callable[[PPO, pytest.MonkeyPatch], None]
) -> None:
    ppo = make_ppo(neo_config)
    ppo.step(1, PromptBatch(PROMPTS))
    before, moments = learnt(ppo), ppo.normalizer.state()
    with monkeypatch.context() as patch:
        poison(ppo, patch)
        result = ppo.step(2, PromptBatch(PROMPTS))
    after = learnt(ppo)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "finite" in result.nonfinite or "too large" in result.nonfinite
    assert result.metrics["policy/updates"] == 0
    assert result.metrics["train/skipped_updates"] == 4  # two passes over one minibatch, actor and critic
    if poison is huge_score:
        assert ppo.normalizer.state() == moments


def test_other_updates_of_the_step_go_on(neo_config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    ppo = make_ppo(neo_config)
    whole, calls = ppo_module.clipped_policy_loss, []

    def second_is_broken(*tensors: Tensor, **options: float) -> object:
        found = whole(*tensors, **options)
        calls.append(1)
        return found._replace(loss=found.loss * float("nan")) if len(calls) == 2 else found

    monkeypatch.setattr(ppo_module, "clipped_policy_loss", second_is_broken)
    result = ppo.step(1, PromptBatch(PROMPTS * 2))
    assert (result.metrics["policy/updates"], result.metrics["train/skipped_updates"]) == (3, 1)
    assert result.nonfinite == "the actor's gradient is not finite"
    assert all(value == value for value in result.metrics.values())
    assert all(tensor.isfinite().all() for tensor in learnt(ppo).values())


class Poisoner:
    """Receives a trainer's events, and makes the gradients of some steps infinite."""

    def __init__(self, run_dir: RunDir, config: RunConfig, wrong: Callable[[int, Trainer], bool]) -> None:
        self.events: list[Event] = []
        self.requests = RequestQueue()
        self.run_dir = run_dir
        self.trainer = Trainer(config, run_dir=run_dir, requests=self.requests, emit=self)
        self.also: Callable[[Event], None] = lambda event: None
        self._wrong, self._hook = wrong, None

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        ppo = self.trainer.algorithm
        if ppo and self._hook is None:
            parameter = next(iter(ppo.policy.adapters["actor"].values()))
            self._hook = parameter.register_hook(
                lambda gradient: gradient * float("nan") if self._wrong(self.trainer.step + 1, self.trainer) else
                gradient)
        self.also(event)

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


def test_single_steps_are_left_out_said_and_counted_and_training_goes_on(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny_config(model_folders["gpt_neo"], train={"steps": 6, "max_nonfinite_steps": 2})
    run = Poisoner(RunDir.create(tmp_path, config), config, lambda step, _: step in (2, 4))
    assert run.trainer.run() is RunState.FINISHED
    assert [e.metrics["train/skipped_updates"] for e in run.of(StepFinished)] == [0, 4, 0, 4, 0, 0]
    alarms = run.of(Alarm)
    assert [(alarm.step, alarm.kind) for alarm in alarms] == [(2, "non-finite"), (4, "non-finite")]
    assert "4 of the step's updates were skipped because the actor's gradient is not finite" in alarms[0].text
    assert run.run_dir.alarms() == alarms


def test_too_many_in_a_row_end_the_run_at_its_last_good_checkpoint(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny_config(model_folders["gpt_neo"], train={"steps": 50, "max_nonfinite_steps": 3})
    run = Poisoner(RunDir.create(tmp_path, config), config, lambda step, _: step > 2)
    assert run.trainer.run() is RunState.DIVERGED
    status = run.run_dir.status()
    assert status is not None
    assert (status.state, status.step) == (RunState.DIVERGED, 5)
    assert "for 3 steps in a row" in status.message
    assert "back at the checkpoint of step 2" in status.message
    state, notices = checkpoint.load_newest(run.run_dir)
    assert (state.step, notices) == (2, [])
    assert all(tensor.isfinite().all() for tensor in state.tensors.values())
    # and a resume counts on from there
    again = Trainer.resume(run.run_dir, emit=lambda event: None)
    again.requests.ask(Edit("train.steps", 3))
    assert again.run() is RunState.FINISHED
    assert [line.step for line in run.run_dir.metrics()] == [1, 2, 3]
    assert run.run_dir.alarms() == []


def test_a_run_may_go_back_by_itself_with_smaller_step_sizes(model_folders: dict[str, Path], tmp_path: Path) -> None:
    train = {"steps": 8, "checkpoint_every": 2, "max_nonfinite_steps": 2, "max_rollbacks": 2, "rollback_factor": 0.25}
    config = tiny_config(model_folders["gpt_neo"], train=train)

    def too_large(step: int, trainer: Trainer) -> bool:
        return step > 3 and trainer.config.optimizer.learning_rate > 1e-4

    run = Poisoner(RunDir.create(tmp_path, config), config, too_large)

    def edit_at_step_three(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == 3 and not run.of(RolledBack):
            run.requests.ask(Edit("kl.coef", 0.7))

    run.also = edit_at_step_three
    assert run.trainer.run() is RunState.FINISHED
    assert [event.step for event in run.of(RolledBack)] == [2, 2]
    assert "roll-back 2 of 2" in run.of(RolledBack)[1].text
    assert [line.step for line in run.run_dir.metrics()] == list(range(1, 9))
    assert run.trainer.config.optimizer.learning_rate == pytest.approx(5e-4 / 16)
    # the edit came after the checkpoint that the run went back to, and still holds
    assert run.trainer.config.kl.coef == 0.7
    assert all(isinstance(edit, EditApplied) for edit in run.run_dir.edits())
    assert {edit.path for edit in run.run_dir.edits()} == {
        "kl.coef", "optimizer.learning_rate", "algorithm.critic_learning_rate"}
    assert [alarm.kind for alarm in run.run_dir.alarms()] == ["rolled-back", "rolled-back"]
    assert checkpoint.load_newest(run.run_dir)[0].numbers["rollbacks"] == 2


def test_roll_backs_come_to_an_end(model_folders: dict[str, Path], tmp_path: Path) -> None:
    config = tiny_config(model_folders["gpt_neo"], train={"steps": 9, "max_nonfinite_steps": 1, "max_rollbacks": 2})
    run = Poisoner(RunDir.create(tmp_path, config), config, lambda step, _: step > 1)
    assert run.trainer.run() is RunState.DIVERGED
    assert len(run.of(RolledBack)) == 2


def test_weights_that_broke_in_the_last_update_are_not_the_end_of_the_run(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny_config(model_folders["gpt_neo"], train={"steps": 3, "checkpoint_every": 2, "max_rollbacks": 1})
    run = Poisoner(RunDir.create(tmp_path, config), config, lambda step, _: False)

    def break_at_the_end(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == 3 and not run.of(RolledBack):
            next(iter(run.trainer.policy.adapters["actor"].values())).data.fill_(float("nan"))  # type: ignore[union-attr]

    run.also = break_at_the_end
    assert run.trainer.run() is RunState.FINISHED
    assert [event.step for event in run.of(RolledBack)] == [2]
    assert checkpoint.load_newest(run.run_dir)[0].step == 3


def test_weights_that_broke_in_a_finite_update_are_gone_back_from_as_well(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny_config(model_folders["gpt_neo"], train={"steps": 4, "max_rollbacks": 1})
    run = Poisoner(RunDir.create(tmp_path, config), config, lambda step, _: False)

    def break_once(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == 2 and not run.of(RolledBack):
            next(iter(run.trainer.policy.adapters["actor"].values())).data.fill_(float("inf"))  # type: ignore[union-attr]

    run.also = break_once
    assert run.trainer.run() is RunState.FINISHED
    assert [event.step for event in run.of(RolledBack)] == [1]
