"""A reward model as the reward of another run: scored on the same base, the same whatever stands beside it."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine.test_base_model import stir_weights
from engine.test_reward_model import CHOSEN, PROMPTS, REJECTED, config_of, learner_of, plain_score
from tiny_models import make_ppo, tiny_config

from rlhf_engine.algorithms.base import Resources
from rlhf_engine.algorithms.reward_model import RewardModel
from rlhf_engine.config import fields
from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError, RewardError
from rlhf_engine.exporting.export import export
from rlhf_engine.labels.guess import guess_of
from rlhf_engine.labels.pair import Answer, Origin
from rlhf_engine.models.policy import Policy
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.function import pinned
from rlhf_engine.rewards.preference import PreferenceReward
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.checkpoint import Quality, TrainingState
from rlhf_engine.runs.reward_scale import recorded_log_odds
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

TEXTS = CHOSEN + REJECTED


def trained(folder: Path, root: Path, *, members: int = 1, reads: str = "last") -> tuple[RunDir, RewardModel]:
    """A run with a reward model far from zero at step 2, and the model as it then was."""
    config = config_of(folder, members=members, reads=reads)
    learner = learner_of(config)
    run = RunDir.create(root, config, name="judge")
    state = TrainingState(2, *learner.state(), config, Quality("accuracy", 0.9, True), learner.policy.fingerprint)
    checkpoint.save(run, state, keep=3)
    return run, learner


def wanted(learner: RewardModel) -> torch.Tensor:
    """Scores [members, texts], centred and scaled, from plain passes over one text each."""
    numbers, mean = learner.state().numbers, learner.settings.reads == "mean"
    with torch.no_grad():
        raw = torch.tensor([[float(plain_score(learner.policy, prompt, text, adapter, head, mean=mean))
                             for prompt, text in zip(PROMPTS * 2, TEXTS, strict=True)]
                            for head, adapter in learner.config.algorithm.needs.heads])
    return (raw - torch.tensor(numbers["center"])[:, None]) / torch.tensor(numbers["scale"])[:, None]


def reward(model: Path, **settings: Any) -> PreferenceReward:
    return PreferenceReward(PreferenceRewardConfig(model=str(model), **settings))


def totals(made: PreferenceReward) -> list[float]:
    return [score.total for score in made.score(PROMPTS * 2, TEXTS) if score is not None]


@pytest.mark.parametrize("architecture", ["gpt_neo", "llama"])
def test_a_run_and_its_export_score_alike_with_a_policy_and_without(
    model_folders: dict[str, Path], tmp_path: Path, architecture: str
) -> None:
    run, learner = trained(model_folders[architecture], tmp_path / "runs")
    expected = wanted(learner)[0].tolist()
    made = reward(run.path)
    policy = Policy.from_config(fields.replace(tiny_config(model_folders[architecture]), {"lora.rank": 2}))
    before = {name: weight.detach().clone() for name, weight in policy.parameters.items()}
    made.use_policy(policy)
    assert totals(made) == pytest.approx(expected, abs=1e-4)
    assert all(torch.equal(weight, before[name]) for name, weight in policy.parameters.items())
    assert totals(reward(export(run, tmp_path / "out").path)) == pytest.approx(expected, abs=1e-4)


def test_a_mean_over_the_tokens_is_read_as_it_was_learnt(model_folders: dict[str, Path], tmp_path: Path) -> None:
    run, learner = trained(model_folders["gpt_neo"], tmp_path / "runs", reads="mean")
    assert totals(reward(run.path)) == pytest.approx(wanted(learner)[0].tolist(), abs=1e-4)


def test_a_score_does_not_depend_on_its_batch(model_folders: dict[str, Path], tmp_path: Path) -> None:
    run, _ = trained(model_folders["gpt_neo"], tmp_path)
    made = reward(run.path)
    together = made.score(PROMPTS * 2, TEXTS)
    for prompt, text, score in zip(PROMPTS * 2, TEXTS, together, strict=True):
        (alone,) = made.score([prompt], [text])
        assert alone is not None
        assert score is not None
        assert alone.total == pytest.approx(score.total, abs=1e-5)
    assert made.score([], []) == []
    (empty,) = made.score(["Once"], [""])
    assert empty is not None


@pytest.mark.parametrize("aggregate", ["mean", "min", "mean_minus_deviation"])
def test_members_are_made_one_number_of(model_folders: dict[str, Path], tmp_path: Path, aggregate: str) -> None:
    run, learner = trained(model_folders["gpt_neo"], tmp_path, members=3)
    each = wanted(learner)
    deviation = each.std(dim=0, correction=0)
    expected = {"mean": each.mean(dim=0), "min": each.min(dim=0).values,
                "mean_minus_deviation": each.mean(dim=0) - 0.5 * deviation}[aggregate]
    made = reward(run.path, aggregate=aggregate, deviation_factor=0.5)
    assert totals(made) == pytest.approx(expected.tolist(), abs=1e-4)
    for at, score in enumerate(made.score(PROMPTS * 2, TEXTS)):
        assert score is not None
        assert score.facts["deviation"] == pytest.approx(float(deviation[at]), abs=1e-4)
        assert sum(score.parts.values()) == pytest.approx(score.total, abs=1e-6)


def test_words_that_moved_the_score_light_up(model_folders: dict[str, Path], tmp_path: Path) -> None:
    run, _ = trained(model_folders["gpt_neo"], tmp_path)
    text = " a fox ran home, and a man sat"
    (score,) = reward(run.path).score(["Once"], [text])
    assert score is not None
    assert score.spans
    words = text.replace(",", "").split()
    for span in score.spans:
        assert text[span.start:span.end] in words
        assert span.kind in ("rewarded", "penalized")
    assert len(score.spans) <= 6


# --- in a run ---


def ppo_config(folder: Path, model: Path, steps: int) -> RunConfig:
    config = tiny_config(folder, train={"steps": steps, "checkpoint_every": 2})
    return RunConfig.model_validate(
        config.model_dump() | {"rewards": [{"kind": "preference", "name": "liked", "model": str(model)}]})


def told(run: RunDir) -> list[dict[str, float]]:
    return [{name: value for name, value in line.metrics.items() if not name.startswith(("time/", "throughput/"))}
            for line in run.each_step()]


def test_a_run_on_it_is_recorded_and_resumed_bit_for_bit(model_folders: dict[str, Path], tmp_path: Path) -> None:
    judge, _ = trained(model_folders["gpt_neo"], tmp_path, members=2)
    config = pinned(ppo_config(model_folders["gpt_neo"], judge.path, 4))
    section = config.rewards[0]
    assert isinstance(section, PreferenceRewardConfig)
    assert section.step == 2
    assert section.sha256 is not None
    assert Path(section.model).is_absolute()
    whole = RunDir.create(tmp_path, config, name="whole")
    Trainer(config, run_dir=whole, emit=lambda event: None).run()
    lines = told(whole)
    assert "rewards/liked/deviation" in lines[0]
    half = RunDir.create(tmp_path, fields.replace(config, {"train.steps": 2}), name="half")
    Trainer(half.config(), run_dir=half, emit=lambda event: None).run()
    state, _ = checkpoint.load_newest(half)
    again = RunDir.create(tmp_path, config, name="again")
    checkpoint.save(again, replace(state, config=config), keep=3)
    Trainer.resume(again, emit=lambda event: None).run()
    assert told(again) == lines[2:]
    ends = [checkpoint.load_newest(run)[0].tensors for run in (whole, again)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_there_is_one_base_in_memory(model_folders: dict[str, Path], tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    judge, _ = trained(model_folders["gpt_neo"], tmp_path)
    config = ppo_config(model_folders["gpt_neo"], judge.path, 1)
    policy = Policy.from_config(config)
    monkeypatch.setattr(Policy, "load", lambda *args, **options: pytest.fail("another base is loaded"))
    resources = Resources.of(policy, config)
    assert resources.rewards is not None
    assert resources.rewards.score(["Once"], [" a fox"]).scores


def test_on_another_base_of_the_same_shapes_it_scores_with_its_own(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    run, _ = trained(model_folders["gpt_neo"], tmp_path)
    other = shutil.copytree(model_folders["gpt_neo"], tmp_path / "other")
    stir_weights(other)
    alone, beside = reward(run.path), reward(run.path)
    beside.use_policy(Policy.from_config(tiny_config(other)))
    assert totals(beside) == totals(alone)


# --- what is wrong with it ---


@pytest.mark.parametrize(("model", "word"), [("nowhere", "nowhere"), (".", "neither"), ("a\0b", "no run")])
def test_what_is_no_reward_model_gets_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str,
                                                 word: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=word):
        build_rewards([PreferenceRewardConfig(model=model)])


def test_runs_of_other_methods_and_other_models_get_a_sentence(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny_config(model_folders["gpt_neo"])
    actor = RunDir.create(tmp_path, config, name="actor")
    checkpoint.save(actor, TrainingState(1, *make_ppo(config).state(), config), keep=3)
    with pytest.raises(ConfigError, match="PPO"):
        reward(actor.path)
    run, learner = trained(model_folders["gpt_neo"], tmp_path)
    with pytest.raises(ConfigError, match="step 9"):
        reward(run.path, step=9)
    out = export(run, tmp_path / "merged", merged=True).path
    with pytest.raises(ConfigError, match="classifier"):
        reward(out)
    made = pinned(ppo_config(model_folders["gpt_neo"], run.path, 1)).rewards
    state = TrainingState(2, *learner.state(), learner.config, Quality("accuracy", 0.5, True))
    shutil.rmtree(run.checkpoints)
    checkpoint.save(run, state, keep=3)
    with pytest.raises(ConfigError, match="no longer"):
        build_rewards(made)
    with pytest.raises(RewardError, match="context"):
        reward(run.path).score(["Once"], [" a fox" * 40])


# --- what its scores mean ---


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_a_guess_is_the_probability_that_the_model_gives(
    model_folders: dict[str, Path], tmp_path: Path, weight: float
) -> None:
    """σ of the raw gap, whatever center, scale and weight are."""
    run, learner = trained(model_folders["gpt_neo"], tmp_path)
    rewards = build_rewards([PreferenceRewardConfig(model=str(run.path), weight=weight)])
    scores = [score.total for score in rewards.score(PROMPTS * 2, TEXTS).scores]
    first, second = (Answer(text, True, Origin("reference"), scores[at]) for at, text in ((0, TEXTS[0]), (4, TEXTS[4])))
    with torch.no_grad():
        raw = [float(plain_score(learner.policy, PROMPTS[0], answer.text)) for answer in (first, second)]
    found = guess_of(first, second, rewards.log_odds_per_unit)
    assert found == pytest.approx(1 / (1 + math.exp(raw[1] - raw[0])), abs=1e-4)
    assert learner.state().numbers["scale"] != [1.0], "a unit would be a nat anyway"

    scored = RunDir.create(tmp_path, pinned(RunConfig.model_validate(
        tiny_config(model_folders["gpt_neo"]).model_dump()
        | {"rewards": [{"kind": "preference", "name": "liked", "model": str(run.path), "weight": weight}]})),
        name="scored")
    assert recorded_log_odds(scored) == pytest.approx(rewards.log_odds_per_unit)


def test_sums_of_several_rewards_are_no_log_odds(model_folders: dict[str, Path], tmp_path: Path) -> None:
    run, _ = trained(model_folders["gpt_neo"], tmp_path)
    liked = PreferenceRewardConfig(model=str(run.path))
    assert build_rewards([liked, LengthRewardConfig()]).log_odds_per_unit == 1.0
    alone = build_rewards([liked]).log_odds_per_unit
    assert build_rewards([liked, LengthRewardConfig(weight=0.0)]).log_odds_per_unit == alone != 1.0
