"""Which metric the best checkpoint of each method is chosen by, and what it is when rows are held out."""

from __future__ import annotations

from pathlib import Path

import pytest
from configs import SMALL
from tiny_models import tiny_config

from rlhf_engine.config import fields
from rlhf_engine.config.kinds import algorithm_kind
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import Event, StepFinished
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

PROMPTS = ["Once", "There was a", "x", "Long ago", "It", "We"]


def trained(config: RunConfig, folder: Path) -> tuple[list[dict[str, float]], checkpoint.Quality]:
    steps: list[dict[str, float]] = []

    def emit(event: Event) -> None:
        if isinstance(event, StepFinished):
            steps.append(dict(event.metrics))

    run_dir = RunDir.create(folder, config, name="run")
    Trainer(config, run_dir=run_dir, emit=emit).run()
    quality = checkpoint.load_newest(run_dir)[0].quality
    assert quality is not None
    return steps, quality


@pytest.mark.parametrize(("kind", "plain", "held_out"), [
    ("ppo", "objective/rlhf_reward", "eval/rlhf_reward"), ("rloo", "objective/rlhf_reward", "eval/rlhf_reward"),
    ("reinforce", "objective/rlhf_reward", "eval/rlhf_reward"), ("grpo", "objective/scores", "eval/scores"),
    ("online_dpo", "objective/scores", "eval/scores"), ("dpo", "rewards/accuracies", "eval/pair_loss"),
    ("sft", "loss", "eval/loss"), ("reward_model", "accuracy", "eval/loss")])
def test_each_method_names_its_own_and_one_of_held_out_rows(kind: str, plain: str, held_out: str) -> None:
    method = algorithm_kind(kind)()
    assert method.best_metric_of(SMALL) == plain
    apart = fields.replace(SMALL, {"data.held_out_share": 0.2})
    assert method.best_metric_of(apart) == held_out
    assert method.best_metric_of(fields.replace(apart, {"data.evaluate_every": 0})) == plain


def test_the_held_out_objective_is_score_less_the_price_of_the_kl(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny_config(model_folders["gpt_neo"], train={"steps": 2, "checkpoint_every": 2}, kl={"coef": 0.3})
    config = fields.replace(config, {"data.prompts": PROMPTS, "data.held_out": PROMPTS[4:], "data.evaluate_every": 2,
                                     "probe.every": 0})
    steps, quality = trained(config, tmp_path)
    last = steps[-1]
    expected = last["eval/scores"] - last["kl_coef"] * last["eval/kl"]
    assert last["eval/rlhf_reward"] == pytest.approx(expected)
    assert (quality.metric, quality.value) == ("eval/rlhf_reward", last["eval/rlhf_reward"])


@pytest.mark.parametrize(("data", "metric"), [
    ({"held_out_share": 0.4}, "eval/pair_loss"), ({"held_out": ["in no pair"]}, "rewards/accuracies")], ids=str)
def test_pairs_that_are_held_out_choose_it_where_there_are_any(
    model_folders: dict[str, Path], tmp_path: Path, data: dict[str, object], metric: str
) -> None:
    sections = tiny_config(model_folders["gpt_neo"], train={"steps": 2, "checkpoint_every": 2}).model_dump()
    sections["algorithm"] = {"kind": "dpo", "pairs_per_step": 2}
    sections["data"] = {"prompts": PROMPTS, "chosen": [" a"] * 6, "rejected": [" b"] * 6, "evaluate_every": 1, **data}
    sections["rewards"], sections["probe"] = [], {"every": 0}
    _, quality = trained(RunConfig.model_validate(sections), tmp_path)
    assert quality.metric == metric
