"""Runs that are scored by what can be checked: the right answers of their rows, and a pattern."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.pinning import pinned_data
from rlhf_engine.errors import ConfigError, RewardError
from rlhf_engine.evaluation.compare import compare_run
from rlhf_engine.evaluation.generate import generate_texts
from rlhf_engine.events import EditApplied, EditRefused, Event, Probed, RunState, StepFinished
from rlhf_engine.metrics import describe
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

LAST = {"kind": "answer", "extract": "pattern", "pattern": r"(\w)\W*$", "compare": "text"}
"""The answer is the last letter or digit: a random model says some."""


def with_rewards(config: RunConfig, *rewards: dict[str, Any], **changes: object) -> RunConfig:
    data = config.model_dump() | {"rewards": list(rewards)}
    return fields.replace(fields.validate(data), changes)


@pytest.fixture
def config(neo_config: RunConfig, tmp_path: Path) -> RunConfig:
    source = tmp_path / "rows.jsonl"
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    source.write_text("\n".join(json.dumps({"prompt": f"Row {place}", "answer": list(letters[place % 2::2])})
                                for place in range(12)))
    plain = fields.replace(neo_config, {"data.prompts": [], "data.source": str(source), "data.held_out_share": 0.25,
                                        "data.evaluate_every": 2, "train.steps": 4, "probe.every": 4})
    return with_rewards(plain, LAST)


def trained(config: RunConfig, run_dir: RunDir | None = None, edits: tuple[Edit, ...] = ()) -> list[Event]:
    events: list[Event] = []
    requests = RequestQueue()
    for edit in edits:
        requests.ask(edit)
    Trainer(config, run_dir=run_dir, emit=events.append, requests=requests).run()
    return events


def steps_of(events: list[Event]) -> list[StepFinished]:
    return [event for event in events if isinstance(event, StepFinished)]


def test_shares_of_right_answers_and_of_none_are_metrics(config: RunConfig, tmp_path: Path) -> None:
    pattern = {"kind": "regex", "pattern": r"\d", "weight": 0.0}
    run_dir = RunDir.create(tmp_path, with_rewards(config, LAST, pattern, **{"train.samples_per_step": 8}), name="run")
    events = trained(run_dir.config(), run_dir)
    for step in steps_of(events):
        found = step.metrics
        assert found["rewards/answer/accuracy"] == found["rewards/answer/mean"] == found["objective/scores"]
        assert 0 <= found["rewards/answer/accuracy"] + found["rewards/answer/no_answer"] <= 1
        assert found["rewards/regex/match_rate"] == found["rewards/regex/mean"]
        for name in ("rewards/answer/accuracy", "rewards/answer/no_answer", "rewards/regex/match_rate"):
            assert describe(name).help
    samples = run_dir.samples()
    told = {span.kind for sample in samples for span in sample.spans}
    assert {"right", "wrong"} <= told
    for sample in samples:
        right = [span for span in sample.spans if span.kind == "right"]
        assert sample.score == float(bool(right))
    assert any("eval/scores" in step.metrics for step in steps_of(events))
    # a prompt that is answered by itself finds its row: probes, comparisons and generations are scored, too
    probes = [event.sample for event in events if isinstance(event, Probed)]
    assert len(probes) == 2
    assert all(any(name.startswith("answer/") for name in probe.parts) for probe in probes)
    result = compare_run(run_dir, responses=4, seed=0)
    assert result is not None
    assert any(row.key == "score/answer/right" for row in result.rows)
    rows, no_scores = generate_texts(run_dir, prompts=["Row 3", "typed"], tuned=True, seed=0)
    assert not no_scores
    assert [any(name.startswith("answer/") for name in sample.parts) for sample in rows] == [True, False]


@pytest.mark.parametrize(("changes", "says"), [
    ({"rewards.0.column": "solution"}, "'solution'.*no such column, but answer"),
    ({"rewards.0.compare": "number"}, "'Row .*no number"),
    ({"data.source": None, "data.prompts": [f"Line {place}" for place in range(12)]}, "'answer'.*list"),
    ({"data.held_out": ["typed"]}, "'typed'.*nothing"),
])
def test_what_rows_lack_is_said_before_a_run_begins(
    config: RunConfig, changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    events: list[Event] = []
    run_dir = RunDir.create(tmp_path, fields.replace(config, changes), name="run")
    with pytest.raises(ConfigError, match=says):
        Trainer(run_dir.config(), run_dir=run_dir, emit=events.append).run()
    assert not steps_of(events)
    assert not run_dir.path.exists()


def test_texts_that_are_learned_need_no_right_answers(config: RunConfig, tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text('{"prompt": "Once", "response": " upon"}\n' * 4)
    data = config.model_dump() | {"algorithm": {"kind": "sft", "texts_per_step": 4, "minibatch_size": 4}}
    sft = fields.replace(fields.validate(data), {"data.source": str(source), "data.held_out_share": 0.0,
                                                 "train.steps": 1, "train.keep_best": None})
    assert len(steps_of(trained(sft))) == 1


def test_live_edits_hold_from_the_next_step_and_bad_ones_change_nothing(config: RunConfig) -> None:
    plain = steps_of(trained(config))
    events = trained(config, edits=(
        Edit("rewards.0.right_score", 3.0), Edit("rewards.0.compare", "number"), Edit("rewards.0.pattern", "(a"),
        Edit("rewards.0.column", "other")))
    assert [event.path for event in events if isinstance(event, EditApplied)] == ["rewards.0.right_score"]
    assert [event.path for event in events if isinstance(event, EditRefused)] == [
        "rewards.0.compare", "rewards.0.pattern", "rewards.0.column"]
    first, before = steps_of(events)[0].metrics, plain[0].metrics
    assert first["rewards/answer/accuracy"] == before["rewards/answer/accuracy"]
    assert first["objective/scores"] == 3 * before["objective/scores"]


def test_a_pattern_that_takes_for_ever_ends_the_run_with_a_sentence_and_another_goes_on(
    config: RunConfig, tmp_path: Path
) -> None:
    slow = {"kind": "regex", "pattern": r"(.|..)+$(?<=\x00\x01)", "dotall": True}
    run_config = pinned_data(with_rewards(config, slow, **{"sampling.max_new_tokens": 50}))
    run_dir = RunDir.create(tmp_path, run_config, name="run")
    with pytest.raises(RewardError, match="longer than"):
        trained(run_dir.config(), run_dir)
    requests = RequestQueue()
    requests.ask(Edit("rewards.0.pattern", r"\d"))
    trainer = Trainer.resume(run_dir, emit=lambda event: None, requests=requests)
    assert trainer.run() is RunState.FINISHED
    assert [(edit.path, edit.new) for edit in run_dir.edits()] == [("rewards.0.pattern", r"\d")]
