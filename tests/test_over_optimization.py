"""Where a run went too far, told from its files; rewards of weight 0; best-of-n by a proxy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from configs import SMALL
from judged_runs import ALPHA, BETA, PEAK, judged_metrics, judged_run, with_gold
from loop_runs import judgement, reward_model_config, write_labels, write_run
from tiny_models import save_tiny_model, tiny_config
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.over_optimization import OverOptimization, of_run, of_steps
from rlhf_engine.evaluation.proxy_pool import chosen_by_proxy
from rlhf_engine.events import Alarm, Event, StepFinished
from rlhf_engine.maths.best_of_n import best_of_n_kl
from rlhf_engine.training.trainer import Trainer

GOLD = with_gold(SMALL)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), list(arguments))


def test_a_run_is_told_its_fit_and_the_step_to_go_back_to(tmp_path: Path) -> None:
    found = of_run(judged_run(tmp_path, GOLD, "run"))
    assert found.judge.name == "gold"
    assert found.judge_fit is not None
    fit = found.judge_fit
    assert (fit.start, fit.alpha, fit.beta) == pytest.approx((0, ALPHA, BETA), abs=1e-9)
    assert found.proxy_fit is not None
    assert found.proxy_fit.peak is None  # it rises without end
    assert found.stop is not None
    assert found.stop.kl == pytest.approx(PEAK**2)
    assert found.stop.step == 15  # √KL is 1.4 there: the first that reaches 1.3956
    assert found.stop.checkpoint == 10  # of equally near ones the earlier
    last = math.sqrt(fmean(judged_metrics(step, 31)["objective/kl"] for step in (29, 30, 31)))
    assert found.stop.lost == pytest.approx(PEAK * BETA - last * (ALPHA - BETA * math.log(last)))  # R(d*) = beta d*
    assert found.length_corr == pytest.approx(0.5)
    assert "step 15" in found.sentences()[0]


def test_what_the_sentinel_saw_is_told_beside_a_fit_that_still_rises(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", GOLD, "risen", [judged_metrics(step, 31) for step in range(1, 13)])
    assert len(of_run(run).sentences()) == 2
    for step in (9, 11):
        run.append_alarm(Alarm(step, "over-optimization", f"gold fell by {step}"))
    run.append_alarm(Alarm(12, "kl", "KL is far off"))
    found = of_run(run)
    assert "still rises" in found.why
    assert found.sentences()[:2] == [found.why, "alarm at step 11: gold fell by 11"]
    assert not any("KL is far off" in line for line in found.sentences())


def test_a_run_of_a_reward_model_has_no_score_to_over_optimize(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.jsonl", [judgement(place) for place in range(30)])
    write_run(tmp_path / "runs", reward_model_config(labels), "liked", [{"loss": 0.7}])
    result = invoke("overoptimization", "liked", "--runs-dir", str(tmp_path / "runs"))
    assert result.exit_code == 2
    for word in ("liked", "reward model", "rewarded by it"):
        assert word in result.stderr


def of(steps: int, config: RunConfig = GOLD, **changes: Any) -> OverOptimization:
    return of_steps(((step, judged_metrics(step, 31) | changes) for step in range(1, steps + 1)), config)


def test_while_gold_still_rises_there_is_nothing_to_go_back_from() -> None:
    found = of(12)  # √KL 1.1
    assert found.stop is None
    assert found.judge_fit is not None
    assert "still rises" in found.why


@pytest.mark.parametrize(("steps", "config", "changes", "word"), [
    (0, GOLD, {}, "no step"),
    (5, GOLD, {}, "too few"),
    (20, GOLD, {"rewards/gold/mean": math.nan}, "gold"),
    (20, with_gold(SMALL, gold=False), {}, "weight = 0"),
    (20, fields.replace(GOLD, {"kl.coef": 0.0}), {"objective/kl": math.nan}, "kl.coef"),
    (20, GOLD, {"objective/kl": 1.0}, "too few"),
])
def test_why_there_is_no_fit_is_a_sentence(steps: int, config: RunConfig, changes: dict[str, float], word: str) -> None:
    found = of(steps, config, **changes)
    assert found.stop is found.judge_fit is None
    assert word in found.why
    assert found.sentences()[0] == found.why


def test_without_gold_the_doubt_of_an_ensemble_stands_in() -> None:
    config = with_gold(SMALL, gold=False)
    rows = []
    for step in range(1, 32):
        metrics = judged_metrics(step, 31)
        # the lower bound goes as gold would
        metrics["rewards/proxy/deviation"] = metrics["objective/scores"] - metrics.pop("rewards/gold/mean")
        rows.append((step, metrics))
    found = of_steps(rows, config)
    assert found.judge.name == ""
    assert found.stop is not None
    assert found.stop.kl == pytest.approx(PEAK**2)


def test_the_points_of_a_long_run_are_means_of_neighbours() -> None:
    found = of_steps(((step, judged_metrics(step, 5000)) for step in range(1, 5001)), GOLD)
    assert 1000 <= len(found.points) <= 2000
    assert found.stop is not None
    assert found.stop.kl == pytest.approx(PEAK**2, rel=1e-2)


# --- best-of-n ---


def test_best_of_n_by_a_proxy_is_judged_by_gold() -> None:
    config = with_gold(SMALL)
    # the proxy ranks; gold is worst where it is highest
    proxy = [[float(place) for place in range(32)] for _ in range(3)]
    gold = [[10 * scale * math.sin(place / 12) for place in range(32)] for scale in (0.9, 1.0, 1.1)]
    found = chosen_by_proxy(proxy, gold, config)
    assert found.form == "best_of_n"
    assert found.points[0].judge == pytest.approx(fmean(fmean(row) for row in gold))  # best of one
    assert found.points[-1].judge == pytest.approx(fmean(row[-1] for row in gold))  # best of all
    assert [point.kl for point in found.points] == pytest.approx([best_of_n_kl(point.step) for point in found.points])
    assert found.judge_fit is not None
    assert found.judge_fit.peak is not None
    assert found.stop is not None
    assert found.stop.distance.low <= found.stop.distance.value <= found.stop.distance.high


# --- a reward of weight 0 ---


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), "gpt_neo")


@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_a_reward_of_weight_0_is_scored_and_changes_nothing(model: Path, kind: str) -> None:
    plain = tiny_config(model, algorithm={"kind": kind, "responses_per_step": 8, "minibatch_size": 4} | (
        {"group_size": 4} if kind == "grpo" else {}))

    def steps(config: RunConfig) -> list[dict[str, float]]:
        events: list[Event] = []
        Trainer(config, run_dir=None, emit=events.append).run()
        return [event.metrics for event in events if isinstance(event, StepFinished)]

    gold = {"kind": "word_list", "name": "gold", "weight": 0.0, "liked": ["e", "fox"]}
    without = steps(plain)
    told = steps(fields.validate(plain.model_dump() | {"rewards": [*plain.model_dump()["rewards"], gold]}))
    timed = ("time/", "throughput/", "rewards/gold/")
    for bare, judged in zip(without, told, strict=True):
        assert {"rewards/gold/mean", "rewards/gold/std"} <= judged.keys()
        assert {name: value for name, value in judged.items() if not name.startswith(timed)} == {
            name: value for name, value in bare.items() if not name.startswith(timed)}


# --- the command ---


def test_the_command_prints_table_fits_and_step(tmp_path: Path) -> None:
    judged_run(tmp_path, GOLD, "run")
    result = invoke("overoptimization", "run", "--runs-dir", str(tmp_path))
    assert result.exit_code == 0, result.output
    for part in ("√KL", "gold, fitted", "2 − 1.5 ln d", "go back to step 15 (checkpoint 10"):
        assert part in result.output, part

    told = json.loads(invoke("overoptimization", "run", "--runs-dir", str(tmp_path), "--json").output)
    assert told["source"] == "run"
    assert told["gold"] == "gold"
    assert len(told["points"]) == 31
    assert told["points"][0] == {"step": 1, "kl": 0.0, "score": 1.0, "gold": 0.0}
    assert told["stop"]["step"] == 15
    assert told["stop"]["checkpoint"] == 10
    assert told["gold_fit"]["peak"]["value"] == pytest.approx(PEAK)
    assert told["score_fit"]["peak"] is None


def test_the_command_draws_best_of_n_from_a_preset(model: Path, tmp_path: Path) -> None:
    preset = tmp_path / "p.toml"
    preset.write_text(f"""
data.prompts = ["Once", "x"]
model.name = {json.dumps(str(model))}
sampling.max_new_tokens = 6
[[rewards]]
kind = "length"
name = "proxy"
min_words = 9
[[rewards]]
kind = "regex"
name = "gold"
weight = 0.0
pattern = "[aeiou]"
count = "each"
""")
    result = invoke("overoptimization", str(preset), "--best-of", "24", "--json", "--runs-dir", str(tmp_path))
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["form"] == "best_of_n"
    assert [point["n"] for point in told["points"]] == [1, 2, 3, 4, 6, 8, 12, 16, 24]
    scores = [point["score"] for point in told["points"]]
    assert scores == sorted(scores)


@pytest.mark.parametrize(("arguments", "word"), [
    (["nowhere"], "no run"),
    (["nowhere", "--set", "kl.coef=1"], "--best-of"),
    (["animals", "--best-of", "32"], "gold"),
    (["animals", "--best-of", "3", "--set", "rewards.0.weight=0"], "weight 0"),
    (["--best-of", "32"], "name it"),
])
def test_what_cannot_be_asked_is_one_sentence(arguments: list[str], word: str, tmp_path: Path) -> None:
    result = invoke("overoptimization", *arguments, "--runs-dir", str(tmp_path))
    assert result.exit_code == 2
    assert word in result.output
    assert len(result.output.strip().splitlines()) == 1
