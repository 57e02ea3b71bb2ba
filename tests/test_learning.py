"""The whole thing once, for real: preset animals on the storyteller must learn, as the README promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_engine.config import presets
from rlhf_engine.evaluation.compare import compare
from rlhf_engine.events import StepFinished
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer
from storyteller_maker.seen import load, unseen_bigrams

SMALL_LLAMA = Path(__file__).parent / "data" / "small_llama"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_animals_preset_learns_to_tell_of_animals(tmp_path: Path) -> None:
    config = presets.load_with_overrides("animals", ["train.threads=1"])  # other tests need the other cores
    steps: list[StepFinished] = []

    def keep(event: object) -> None:
        if isinstance(event, StepFinished):
            steps.append(event)

    run_dir = RunDir.create(tmp_path, config)
    trainer = Trainer(config, run_dir=run_dir, emit=keep)
    trainer.run()
    assert run_dir.alarms() == []
    assert trainer.policy is not None
    result = compare(trainer.policy, config, responses=100, seed=900_001)
    assert result is not None
    rows = {row.key: row for row in result.rows}
    liked = rows["liked_share"]
    assert liked.tuned.value >= 0.08
    assert liked.tuned.value >= 6 * liked.reference.value
    assert liked.difference.low > 0.05
    assert rows["disliked_share"].difference.high < 0
    assert rows["kl_nats_per_response"].tuned.value <= 8
    assert max(step.metrics["objective/kl"] for step in steps) <= 12
    seen = load()
    clean = [not unseen_bigrams(pair.tuned.response, seen) for pair in result.pairs]
    assert sum(clean) / len(clean) >= 0.55
    rewards = [step.metrics["objective/scores"] for step in steps]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 3


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", ["grpo", "rloo", "reinforce", "dpo", "online-dpo", "sft"])
def test_the_preset_of_every_method_learns_to_tell_of_animals(method: str, tmp_path: Path) -> None:
    config = presets.load_with_overrides(f"{method}-animals", ["train.threads=1"])
    trainer = Trainer(config, run_dir=RunDir.create(tmp_path, config), emit=lambda event: None)
    trainer.run()
    assert trainer.policy is not None
    result = compare(trainer.policy, config, responses=100, seed=900_001)
    assert result is not None
    rows = {row.key: row for row in result.rows}
    assert rows["mean_score"].difference.low > 2
    assert rows["liked_share"].difference.low > 0.02
    assert rows["disliked_share"].difference.high < 0
    assert rows["kl_nats_per_response"].tuned.value <= 15


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_preset_of_a_reward_model_tells_stories_apart_that_it_never_saw(seed: int, tmp_path: Path) -> None:
    config = presets.load_with_overrides("reward-model", ["train.threads=1", f"train.seed={seed}"])
    run_dir = RunDir.create(tmp_path, config)
    Trainer(config, run_dir=run_dir, emit=lambda event: None).run()
    # of so few held-out pairs the loss may rise for a moment, which an alarm says
    assert "pairs-undecided" not in {alarm.kind for alarm in run_dir.alarms()}
    last = [line.metrics for line in run_dir.each_step()][-1]
    assert last["eval/accuracy"] >= 0.85
    assert last["eval/loss"] < 0.5
    assert last["eval/calibration_error"] < 0.2


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_animals_preset_learns_on_another_model_with_nothing_else_changed(tmp_path: Path) -> None:
    config = presets.load_with_overrides("animals", [f"model.name={SMALL_LLAMA}", "train.threads=1"])
    kl: list[float] = []

    def keep(event: object) -> None:
        if isinstance(event, StepFinished):
            kl.append(event.metrics["objective/kl"])

    trainer = Trainer(config, run_dir=RunDir.create(tmp_path, config), emit=keep)
    trainer.run()
    assert trainer.policy is not None
    result = compare(trainer.policy, config, responses=100, seed=900_001)
    assert result is not None
    rows = {row.key: row for row in result.rows}
    assert rows["mean_score"].difference.low > 1  # 2.1 ± 0.4: fewer words fit into its 54 tokens
    assert rows["liked_share"].difference.low > 0.02
    assert rows["disliked_share"].difference.high < 0
    assert config.kl.target is not None
    assert sum(kl[-6:]) / 6 == pytest.approx(config.kl.target, rel=0.25)  # the budget holds here as on the storyteller
