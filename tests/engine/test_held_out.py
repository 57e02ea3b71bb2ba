"""Runs that learn from files, and the prompts that are held out of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from moments import trusted

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.pinning import pinned_data
from rlhf_engine.errors import ConfigError, DataChangedError, RewardError
from rlhf_engine.events import Event, Notice, StepFinished
from rlhf_engine.metrics import OF_HELD_OUT
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.rewards.function import pinned
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.fork import fork
from rlhf_engine.training.trainer import Trainer

WALL = ("time/", "throughput/")
Metrics = list[dict[str, float]]


def trained(config: RunConfig, run_dir: RunDir | None = None, notices: list[str] | None = None) -> Metrics:
    found: Metrics = []

    def emit(event: Event) -> None:
        if isinstance(event, StepFinished):
            found.append(dict(event.metrics))
        if isinstance(event, Notice) and notices is not None:
            notices.append(event.text)

    Trainer(config, run_dir=run_dir, emit=emit).run()
    return found


def learnt(metrics: Metrics) -> Metrics:
    """What does not depend on the clock, nor on evaluations."""
    return [{name: value for name, value in step.items() if not name.startswith((*WALL, "eval/"))}
            for step in metrics]


@pytest.fixture
def config(neo_config: RunConfig, tmp_path: Path) -> RunConfig:
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(json.dumps({"prompt": f"Row {place}", "answer": place}) for place in range(12)))
    return pinned_data(fields.replace(neo_config, {
        "data.prompts": [], "data.source": str(source), "data.held_out_share": 0.25, "data.evaluate_every": 2,
        "train.steps": 4, "probe.every": 0}))


def test_held_out_prompts_are_evaluated_in_time_and_never_trained_on(config: RunConfig, tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path, config, name="run")
    steps = trained(config, run_dir)
    assert [step for step, found in enumerate(steps, 1) if "eval/scores" in found] == [2, 4]
    for found in (steps[1], steps[3]):
        assert all(math.isfinite(found[name]) for name in OF_HELD_OUT)
    assert steps[1]["eval/reference_scores"] == steps[3]["eval/reference_scores"]
    assert [line.metrics.get("eval/scores") for line in run_dir.each_step()] == [
        step.get("eval/scores") for step in steps]
    seen = {sample.prompt for sample in run_dir.samples()}
    assert len(seen) <= 9


def test_a_run_that_is_evaluated_is_the_run_that_is_not(config: RunConfig) -> None:
    without = fields.replace(config, {"data.evaluate_every": 0})
    assert learnt(trained(config)) == learnt(trained(without))


def test_a_resumed_run_is_evaluated_as_if_it_had_not_ended(config: RunConfig, tmp_path: Path) -> None:
    whole = trained(config)
    run_dir = RunDir.create(tmp_path, fields.replace(config, {"train.steps": 2}), name="run")
    trained(run_dir.config(), run_dir)
    rest: Metrics = []
    requests = RequestQueue()
    trainer = Trainer.resume(run_dir, requests=requests, emit=lambda event: rest.append(dict(event.metrics))
                             if isinstance(event, StepFinished) else None)
    requests.ask(Edit("train.steps", 4))
    trainer.run()

    def clockless(steps: Metrics) -> Metrics:
        return [{name: value for name, value in step.items() if not name.startswith(WALL)} for step in steps]

    assert clockless(rest) == clockless(whole[2:])


def test_a_run_does_not_go_on_with_other_data_unasked(config: RunConfig, tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path, fields.replace(config, {"train.steps": 1}), name="run")
    trained(run_dir.config(), run_dir)
    source = Path(str(config.data.source))
    source.write_text(source.read_text().replace("Row", "Line"))
    with pytest.raises(DataChangedError):
        Trainer.resume(run_dir, emit=lambda event: None)
    with pytest.raises(ConfigError, match="sha256"):
        fork(run_dir, step=1, changes={"train.steps": 3}, root=tmp_path)
    requests = RequestQueue()
    trainer = Trainer.resume(run_dir, emit=lambda event: None, requests=requests, accept_data=True)
    requests.ask(Edit("train.steps", 2))
    trainer.run()
    assert "data.sha256" in {edit.path for edit in run_dir.edits()}
    assert trainer.step == 2
    Trainer.resume(run_dir, emit=lambda event: None)  # it has been accepted
    assert fork(run_dir, step=2, changes={"train.steps": 3}, root=tmp_path).config().data.source == str(source)


def with_reward(config: RunConfig, folder: Path, code: str) -> RunConfig:
    file = folder / "own.py"
    file.write_text(code)
    trusted(file)
    data = config.model_dump() | {"rewards": [{"kind": "function", "name": "own", "function": f"{file}:score"}]}
    return pinned(fields.validate(data))


def test_rewards_see_the_rows_of_their_prompts(config: RunConfig, tmp_path: Path) -> None:
    code = ("def score(prompts, responses, answer):\n"
            "    return [float(prompt == f'Row {value}') for prompt, value in zip(prompts, answer)]\n")
    steps = trained(with_reward(config, tmp_path, code))
    assert [step["objective/scores"] for step in steps] == [1.0] * 4
    assert steps[1]["eval/scores"] == steps[1]["eval/reference_scores"] == 1.0


def test_a_reward_that_asks_for_what_is_not_there_ends_the_run(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="length"):
        trained(with_reward(config, tmp_path, "def score(prompts, responses, length):\n    return length\n"))


@pytest.mark.parametrize("choice", ["skip", "truncate_left"])
def test_long_held_out_prompts_are_treated_as_others(neo_config: RunConfig, choice: str) -> None:
    config = fields.replace(neo_config, {
        "data.held_out": ["short", "long " * 40], "data.evaluate_every": 1, "sampling.long_prompts": choice,
        "train.steps": 1})
    notices: list[str] = []
    assert "eval/scores" in trained(config, notices=notices)[0]
    assert any("held_out.1" in text for text in notices)
    with pytest.raises(ConfigError, match=r"held_out\.1"):
        trained(fields.replace(config, {"sampling.long_prompts": "refuse"}))


def test_evaluations_that_fail_cost_a_run_nothing(config: RunConfig, tmp_path: Path) -> None:
    code = ("def score(prompts, responses, answer):\n"
            "    if len(prompts) != 8:\n        raise ValueError('odd')\n    return [1.0] * 8\n")
    notices: list[str] = []
    steps = trained(with_reward(config, tmp_path, code), notices=notices)
    assert len(steps) == 4
    assert not any("eval/scores" in step for step in steps)
    assert sum("held-out" in text for text in notices) == 1


