"""Forks to another method or preset: the actor is taken over as it is, and all else begins anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import tiny_config

from rlhf_engine.config import fields, presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import BaseChangedError, ConfigError
from rlhf_engine.events import Event, RunState, StepFinished
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.fork import fork
from rlhf_engine.training.trainer import Trainer

TEXTS = ["A fox ran home.", "There was an owl", "x", "Long ago there were two bears"]


def config_of(folder: Path, kind: str) -> RunConfig:
    """Of either method, with what the others learn from, too."""
    data = tiny_config(folder, train={"steps": 2}, kl={"coef": 0.3}).model_dump()
    data["data"]["texts"] = TEXTS
    sizes = {"texts_per_step": 4, "minibatch_size": 2} if kind == "sft" else {"responses_per_step": 8,
                                                                              "minibatch_size": 4}
    return RunConfig.model_validate({**data, "algorithm": {"kind": kind, **sizes}})


def trained(config: RunConfig, root: Path, name: str) -> RunDir:
    run_dir = RunDir.create(root, config, name=name)
    Trainer(config, run_dir=run_dir, emit=lambda event: None).run()
    return run_dir


def finish(run_dir: RunDir) -> list[StepFinished]:
    events: list[Event] = []
    assert Trainer.resume(run_dir, emit=events.append).run() is RunState.FINISHED
    return [event for event in events if isinstance(event, StepFinished)]


def newest(run_dir: RunDir) -> TrainingState:
    return checkpoint.load_newest(run_dir)[0]


def actor(state: TrainingState) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.tensors.items() if name.startswith("actor/")}


def assert_taken_over(parent: RunDir, child: RunDir) -> None:
    before, after = newest(parent), newest(child)
    ours, theirs = actor(after), actor(before)
    assert ours.keys() == theirs.keys() != set()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(tensor.any() for name, tensor in ours.items() if "lora_B" in name), "it had learnt something"
    assert after.step == 0
    assert not any(name.startswith("optimizer/") for name in after.tensors)
    assert after.numbers["token_count"] == 0
    assert list(child.each_step()) == []


@pytest.mark.parametrize(("first", "second"), [("sft", "grpo"), ("grpo", "sft"), ("sft", "ppo"), ("rloo", "reinforce")])
def test_another_method_goes_on_with_the_actor(
    model_folders: dict[str, Path], tmp_path: Path, first: str, second: str
) -> None:
    parent = trained(config_of(model_folders["gpt_neo"], first), tmp_path, "parent")
    told: list[str] = []
    child = fork(parent, changes={"algorithm.kind": second, "train.steps": 1}, root=tmp_path, name="child",
                 tell=told.append)
    assert_taken_over(parent, child)
    assert len(told) == 1
    assert "parent@2" in told[0]
    assert child.config().algorithm.kind == second
    assert child.parent is not None
    assert child.parent.anew
    assert ("algorithm.kind", first, second) in child.parent.changes
    (only,) = finish(child)
    assert only.step == 1
    described = {metric.name for metric in child.config().algorithm.metrics}
    assert {name for name in only.metrics if not name.startswith("rewards/")} <= described
    assert any(not torch.equal(tensor, actor(newest(parent))[name]) for name, tensor in actor(newest(child)).items())


def test_there_and_back_again_the_critic_begins_anew(model_folders: dict[str, Path], tmp_path: Path) -> None:
    ppo = trained(config_of(model_folders["gpt_neo"], "ppo"), tmp_path, "ppo")
    grpo = fork(ppo, changes={"algorithm.kind": "grpo"}, root=tmp_path, name="grpo")
    assert_taken_over(ppo, grpo)
    assert grpo.config().algorithm.learned_per_step == 8, "settings that both have are kept"
    finish(grpo)
    back = fork(grpo, changes={"algorithm.kind": "ppo", "train.seed": 5}, root=tmp_path, name="back")
    assert_taken_over(grpo, back)
    critic = {name: tensor for name, tensor in newest(back).tensors.items() if name.startswith("critic/")}
    assert critic
    assert not any(tensor.any() for name, tensor in critic.items() if "lora_B" in name)
    assert len(finish(back)) == 2


def preset_of(folder: Path, config: RunConfig) -> Path:
    from rlhf_engine.config.preset_writer import to_toml

    path = folder / "other.toml"
    path.write_text(to_toml(config))
    return path


def test_another_preset_gives_all_settings_but_the_scale_of_the_adapters(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    parent = trained(config_of(model_folders["llama"], "sft"), tmp_path, "parent")
    other = fields.replace(config_of(model_folders["llama"], "ppo"), {"kl.coef": 0.7, "lora.alpha": 3.0})
    under = presets.load(str(preset_of(tmp_path, other)))
    child = fork(parent, changes={"train.steps": 1}, root=tmp_path, preset=("other", under), name="child")
    assert_taken_over(parent, child)
    assert (child.config().kl.coef, child.config().lora.alpha, child.preset) == (0.7, 8.0, "other")
    assert [step.metrics["kl_coef"] for step in finish(child)] == [0.7]


@pytest.mark.parametrize(("changes", "said"), [
    ({"lora.rank": 8}, r"lora\.rank: .*4.*8"), ({"lora.target_modules": ["all-linear"]}, r"lora\.target_modules: "),
])
def test_an_actor_of_another_shape_is_refused_before_anything_is_made(
    model_folders: dict[str, Path], tmp_path: Path, changes: dict, said: str
) -> None:
    parent = trained(config_of(model_folders["gpt_neo"], "sft"), tmp_path, "parent")
    under = fields.replace(config_of(model_folders["gpt_neo"], "ppo"), changes)
    with pytest.raises(ConfigError, match=said) as refused:
        fork(parent, changes={}, preset=("other", under), root=tmp_path / "runs")
    assert len(refused.value.problems) == 1
    assert not (tmp_path / "runs").exists()


def test_another_base_model_or_what_a_method_lacks_is_refused(model_folders: dict[str, Path], tmp_path: Path) -> None:
    parent = trained(config_of(model_folders["gpt_neo"], "sft"), tmp_path, "parent")
    with pytest.raises(BaseChangedError, match="parent"):
        fork(parent, changes={}, preset=("other", config_of(model_folders["llama"], "ppo")), root=tmp_path / "runs")
    with pytest.raises(ConfigError, match="nosuch"):
        fork(parent, changes={"algorithm.kind": "nosuch"}, root=tmp_path / "runs")
    bare = RunConfig.model_validate(config_of(model_folders["gpt_neo"], "sft").model_dump() | {"rewards": []})
    with pytest.raises(ConfigError, match="rewards"):
        fork(trained(bare, tmp_path, "bare"), changes={"algorithm.kind": "ppo"}, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_method_that_is_set_brings_its_own_settings_and_keeps_those_it_shares(
    model_folders: dict[str, Path]
) -> None:
    config = config_of(model_folders["gpt_neo"], "ppo")
    changes = presets.parse_overrides(config, ["algorithm.group_size=4", "algorithm.kind=grpo"])
    changed = fields.replace(config, changes)
    assert changed.algorithm.model_dump().items() >= {
        "kind": "grpo", "group_size": 4, "responses_per_step": 8, "minibatch_size": 4}.items()
    for wrong in (["algorithm.kind=nosuch"], ["algorithm.kind=grpo", "algorithm.level=token"]):
        with pytest.raises(ConfigError, match="algorithm"):
            presets.parse_overrides(config, wrong)
