"""A reward model: its step against the formula over plain passes, what it recovers, and what it tells."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_models import stir, tiny_config
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from rlhf_engine.algorithms.base import Resources, StepResult, make_algorithm
from rlhf_engine.algorithms.reward_model import RewardModel
from rlhf_engine.config import fields
from rlhf_engine.config.classifier import ClassifierRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PairBatch
from rlhf_engine.data.rows import Rows, load_data
from rlhf_engine.data.source import BatchSource, check_data
from rlhf_engine.errors import CheckpointError, ConfigError, RlhfError
from rlhf_engine.events import RunState, StateChanged
from rlhf_engine.exporting.export import export
from rlhf_engine.learning.bradley_terry import member_batch
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.response_scores import score_responses
from rlhf_engine.models.written import written
from rlhf_engine.rewards.classifier import ClassifierReward
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

PROMPTS = ["Once", "There was a", "x", "Long ago"]
CHOSEN = [" a fox ran", " cat", " and on", " b"]
REJECTED = [" man", " woman slept all day", "y", " no"]
PAIRS = {"prompts": PROMPTS, "chosen": CHOSEN, "rejected": REJECTED, "shuffle": False}


def config_of(folder: Path, data: dict[str, object] | None = None, **algorithm: object) -> RunConfig:
    sections = tiny_config(folder, optimizer={"max_grad_norm": 1e9}).model_dump()
    sections["algorithm"] = {"kind": "reward_model", "pairs_per_step": 4, "reference_samples": 6, **algorithm}
    sections["data"] = data or PAIRS
    sections["rewards"] = []
    return RunConfig.model_validate(sections)


def learner_of(config: RunConfig, *, stirred: bool = True) -> RewardModel:
    policy = Policy.from_config(config)
    if stirred:
        stir(policy)
    made = make_algorithm(config, Resources.of(policy, config))
    assert isinstance(made, RewardModel)
    return made


def batch_of(config: RunConfig) -> PairBatch:
    batch = load_data(config).train.batch(range(4))
    assert isinstance(batch, PairBatch)
    return batch


def step(learner: RewardModel, batch: PairBatch | None = None) -> tuple[list[Tensor], StepResult]:
    result = learner.step(1, batch or batch_of(learner.config))
    return [p.grad.clone() for p in learner.policy.parameters.values() if p.grad is not None], result


def plain_score(
    policy: Policy, prompt: str, response: str, adapter: str = "reward", head: str = "score", *, mean: bool = False
) -> Tensor:
    """Of one response alone in its batch: no padding, no end token, the last token's hidden state, or the mean over
    those of the response."""
    own = policy.tokenizer(response)["input_ids"]
    ids = torch.tensor([[*policy.texts.encode([prompt])[0], *own]])
    with policy.as_role(adapter):
        hidden = policy.forward(ids, torch.ones_like(ids, dtype=torch.bool))[0, -len(own) if mean else -1:]
    return policy.heads[head](hidden.float()).mean()


@pytest.mark.parametrize("architecture", ["gpt_neo", "llama"])
@pytest.mark.parametrize("own", [{}, {"label_smoothing": 0.2, "margin": 0.5}, {"center_coefficient": 0.1},
                                 {"reads": "mean"}], ids=str)
def test_a_step_follows_the_formula(model_folders: dict[str, Path], architecture: str, own: dict[str, Any]) -> None:
    config = config_of(model_folders[architecture], **own)
    plain, total = learner_of(config), torch.zeros(())
    wrong, margin = own.get("label_smoothing", 0.0), own.get("margin", 0.0)
    for prompt, better, worse in zip(PROMPTS, CHOSEN, REJECTED, strict=True):
        one, other = (plain_score(plain.policy, prompt, response, mean=own.get("reads") == "mean")
                      for response in (better, worse))
        losses = (1 - wrong) * -torch.log(torch.sigmoid(one - other - margin)) + wrong * -torch.log(
            torch.sigmoid(other - one - margin))
        total = total + (losses + own.get("center_coefficient", 0.0) * (one + other) ** 2) / 4
    expected = torch.autograd.grad(total, list(plain.policy.parameters.values()))
    found, result = step(learner_of(config))
    largest = max(float(each.abs().max()) for each in expected)
    assert largest > 1e-4, "nothing would be compared"
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4 * largest, rtol=1e-3)
    assert result.metrics["loss"] == pytest.approx(total.item(), rel=1e-4)


def test_it_begins_at_log_2_and_tells_what_it_says_it_measures(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"])
    _, result = step(learner_of(config, stirred=False))
    assert result.metrics["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert result.metrics["accuracy"] == 0.5
    described = {metric.name for metric in config.algorithm.metrics} - {"throughput/matmul_share"}  # the trainer's
    assert result.metrics.keys() == described
    assert result.operations > 0


def test_a_score_is_that_of_its_own_text_whatever_stands_beside_it(model_folders: dict[str, Path]) -> None:
    learner = learner_of(config_of(model_folders["llama"]))
    prompts, responses = PROMPTS * 2, CHOSEN + REJECTED
    rollout = written(learner.policy, prompts, responses, [False] * 8)
    for size in (8, 3, 1):
        learner.limit.size = size
        found = score_responses(learner.policy, learner.readers, rollout, learner.limit)[0].tolist()
        for score, prompt, response in zip(found, prompts, responses, strict=True):
            with torch.no_grad():
                assert score == pytest.approx(float(plain_score(learner.policy, prompt, response)), abs=1e-5)


def test_micro_batches_change_nothing(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"])
    whole, told = step(learner_of(config))
    split, same = step(learner_of(fields.replace(config, {"train.micro_batch_size": 3})))
    for a, b in zip(split, whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)
    assert same.metrics["loss"] == pytest.approx(told.metrics["loss"], rel=1e-4)


@pytest.mark.parametrize("reads", ["last", "mean"])
def test_see_why_adds_up_to_the_score(model_folders: dict[str, Path], reads: str) -> None:
    config = config_of(model_folders["gpt_neo"], reads=reads)
    learner = learner_of(config)
    with torch.no_grad():
        wanted = [float(plain_score(learner.policy, prompt, response, mean=reads == "mean"))
                  for prompt, pair in zip(PROMPTS, zip(CHOSEN, REJECTED, strict=True), strict=True)
                  for response in pair]
        before = [float(plain_score(learner.policy, prompt, "")) if reads == "last" else 0.0
                  for prompt in PROMPTS for _ in range(2)]
    _, result = step(learner)
    assert [sample.score for sample in result.samples] == pytest.approx(wanted, abs=1e-4)
    assert all(sample.finished for sample in result.samples)
    for at, sample in enumerate(result.samples):
        assert sample.trace is not None
        assert set(sample.trace.series) == {series.name for series in config.algorithm.token_series}
        assert sample.trace.series["score"][-1] == pytest.approx(wanted[at], abs=1e-4)
        assert before[at] + sum(sample.trace.series["added"]) == pytest.approx(wanted[at], abs=1e-4)
        said = config.algorithm.about_token(sample.trace, 0, "fox")
        assert "fox" in said
        assert ("rejected" if at % 2 else "chosen") in said


# --- ties and margins ---


def test_ties_pull_scores_together_and_margins_come_from_their_column(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], margin_column="by", margin=0.25)
    learner = learner_of(config_of(model_folders["gpt_neo"]))
    learner.config = config
    batch = PairBatch(PROMPTS, CHOSEN, REJECTED, {"tie": [True, False, None, 0], "by": [3.0, 1.5, None, 0]})
    with torch.no_grad():
        gaps = [float(plain_score(learner.policy, prompt, better) - plain_score(learner.policy, prompt, worse))
                for prompt, better, worse in zip(PROMPTS, CHOSEN, REJECTED, strict=True)]
    _, result = step(learner, batch)
    losses = [0.5 * (math.log1p(math.exp(-gaps[0])) + math.log1p(math.exp(gaps[0])))]
    losses += [math.log1p(math.exp(by - gap)) for gap, by in zip(gaps[1:], (1.5, 0.25, 0.0), strict=True)]
    assert result.metrics["loss"] == pytest.approx(sum(losses) / 4, rel=1e-4)
    assert result.metrics["margin"] == pytest.approx(sum(gaps[1:]) / 3, rel=1e-3)
    _, ties = step(learner, PairBatch(PROMPTS, CHOSEN, REJECTED, {"tie": [True] * 4, "by": [None] * 4}))
    assert "accuracy" not in ties.metrics
    assert math.isfinite(ties.metrics["loss"])


@pytest.mark.parametrize(("column", "values", "word"), [
    ("tie", [True, False, "both", None], "row 3"), ("by", [1.0, None, "a lot", 2.0], "row 3"),
    ("by", [1.0, -2.0, 1.0, 1.0], "row 2"), ("other", [1.0] * 4, "by")])
def test_columns_that_say_nothing_get_a_sentence(
    model_folders: dict[str, Path], tmp_path: Path, column: str, values: list[object], word: str
) -> None:
    rows = [{"prompt": prompt, "chosen": better, "rejected": worse, column: value}
            for prompt, better, worse, value in zip(PROMPTS, CHOSEN, REJECTED, values, strict=True)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ConfigError, match=word):
        learner_of(config_of(model_folders["gpt_neo"], {"source": str(tmp_path / "pairs.jsonl")},
                             margin_column=None if column == "tie" else "by"))


# --- what it learns ---


def planted(count: int, noise: float, seed: int) -> Rows:
    """Pairs whose better response has more f and fewer z, of which a share is the wrong way round."""
    draw = random.Random(seed)
    texts: dict[str, list[str]] = {"prompts": [], "chosen": [], "rejected": []}
    for _ in range(count):
        better, worse = ("".join(draw.sample("fffff" + "zaaa" if good else "zzzzz" + "faaa", 9)) for good in (1, 0))
        if draw.random() < noise:
            better, worse = worse, better
        for name, text in zip(texts, (draw.choice(PROMPTS), better, worse), strict=True):
            texts[name].append(text)
    return Rows("pairs", texts)


def learnt(folder: Path, noise: float, **algorithm: Any) -> dict[str, float]:
    """Held-out metrics on error-free pairs after learning from some with errors."""
    rows = planted(320, noise, 1)
    config = config_of(folder, {**rows.texts}, pairs_per_step=32, **algorithm)
    config = fields.replace(config, {"optimizer.learning_rate": 1e-2, "train.steps": 20, "optimizer.max_grad_norm": 1.0,
                                     "lora.rank": 8})
    learner = learner_of(config, stirred=False)
    source = BatchSource(rows, config)
    for number in range(config.train.steps):
        learner.step(number + 1, source.batch(number))
    found = learner.measure_held_out(planted(200, 0.0, 2))
    assert set(found) <= {metric.name for metric in config.algorithm.held_out_metrics}
    return found


def test_a_planted_preference_is_recovered_on_held_out_pairs(model_folders: dict[str, Path]) -> None:
    found = learnt(model_folders["llama"], 0.0)
    assert found["eval/accuracy"] >= 0.9
    assert found["eval/accuracy_low"] > 0.85
    assert found["eval/loss"] < 0.35


def test_a_quarter_of_wrong_labels_leaves_the_order(model_folders: dict[str, Path]) -> None:
    found = learnt(model_folders["llama"], 0.25)
    assert found["eval/accuracy"] >= 0.85


# --- centre, scale, ensembles ---


def test_scores_are_centred_and_scaled_on_the_reference(model_folders: dict[str, Path]) -> None:
    learner = learner_of(config_of(model_folders["gpt_neo"]))
    generators = {name: tensor.clone() for name, tensor in learner.learners.state().tensors.items()
                  if name.startswith("generator/")}
    state = learner.state()
    (center,), (scale,) = state.numbers["center"], state.numbers["scale"]
    assert scale > 0
    assert center != 0
    for name, tensor in generators.items():
        assert torch.equal(state.tensors[name], tensor), "the run's random numbers are its own"
    again = learner_of(config_of(model_folders["gpt_neo"])).state()
    assert again.numbers["center"] == [center]
    step(learner)
    assert learner.state().numbers["center"] != [center], "they are those of the weights of the moment"


def test_pairs_without_prompts_are_scaled_on_their_own_responses(model_folders: dict[str, Path]) -> None:
    learner = learner_of(config_of(model_folders["gpt_neo"], {**PAIRS, "prompts": [""] * 4}, reference_samples=8))
    with torch.no_grad():
        scores = torch.stack([plain_score(learner.policy, "", text) for text in CHOSEN + REJECTED])
    assert learner.state().numbers["center"] == pytest.approx([scores.mean().item()], abs=1e-5)
    assert learner.state().numbers["scale"] == pytest.approx([scores.std(correction=0).item()], abs=1e-5)


def test_members_are_models_of_their_own(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], members=3)
    learner = learner_of(config, stirred=False)
    assert list(learner.policy.adapters) == ["reward_1", "reward_2", "reward_3"]
    for number in range(3):
        learner.step(number + 1, batch_of(config))
    heads = [learner.policy.heads[f"score_{member}"].weight for member in (1, 2, 3)]
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[1], heads[2])
    found = learner.measure_held_out(load_data(config).train)
    assert found["ensemble/deviation"] > 0
    assert len(learner.state().numbers["center"]) == len(learner.state().numbers["scale"]) == 3


def test_a_checkpoint_of_another_shape_is_refused(model_folders: dict[str, Path]) -> None:
    state = learner_of(config_of(model_folders["gpt_neo"])).state()
    with pytest.raises(CheckpointError):
        learner_of(config_of(model_folders["gpt_neo"], members=2)).require_fit(state)
    with pytest.raises(ValueError, match="scale"):
        config_of(model_folders["gpt_neo"]).algorithm.require_sound_numbers({"scale": [0.0], "center": [0.0]})


# --- the run ---


def run_config(folder: Path, steps: int, **algorithm: object) -> RunConfig:
    config = config_of(folder, {**PAIRS, "prompts": PROMPTS, "shuffle": True, "held_out_share": 0.25,
                                "evaluate_every": 1}, pairs_per_step=2, **algorithm)
    return fields.replace(config, {"train.steps": steps, "train.checkpoint_every": 2, "optimizer.learning_rate": 0.02,
                                   "lora.dropout": 0.1})


def told(run: RunDir) -> list[dict[str, float]]:
    return [{name: value for name, value in line.metrics.items() if not name.startswith(("time/", "throughput/"))}
            for line in run.each_step()]


@pytest.mark.parametrize("members", [1, 2])
def test_a_resumed_run_is_the_run_bit_for_bit(model_folders: dict[str, Path], tmp_path: Path, members: int) -> None:
    whole = RunDir.create(tmp_path, run_config(model_folders["gpt_neo"], 6, members=members), name="whole")
    Trainer(whole.config(), run_dir=whole, emit=lambda event: None).run()
    half = RunDir.create(tmp_path, run_config(model_folders["gpt_neo"], 3, members=members), name="half")
    Trainer(half.config(), run_dir=half, emit=lambda event: None).run()
    state, _ = checkpoint.load_newest(half)
    config = fields.replace(state.config, {"train.steps": 6})
    again = RunDir.create(tmp_path, config, name="again")
    checkpoint.save(again, checkpoint.TrainingState(3, state.tensors, state.numbers, config, base=state.base), keep=3)
    Trainer.resume(again, emit=lambda event: None).run()
    assert told(again)[-3:] == told(whole)[-3:]
    ends = [checkpoint.load_newest(run)[0] for run in (whole, again)]
    assert ends[0].tensors.keys() == ends[1].tensors.keys()
    for name, tensor in ends[0].tensors.items():
        assert torch.equal(tensor, ends[1].tensors[name]), name
    for name in ("center", "scale", "token_count", "best_held_out_loss", "evaluations_without_gain"):
        assert ends[0].numbers[name] == ends[1].numbers[name]


def test_patience_ends_a_run_and_stays_at_its_end(model_folders: dict[str, Path], tmp_path: Path) -> None:
    config = fields.replace(run_config(model_folders["gpt_neo"], 60, patience=3), {"optimizer.learning_rate": 0.2})
    run, ends = RunDir.create(tmp_path, config), list[StateChanged]()

    def keep(event: object) -> None:
        if isinstance(event, StateChanged) and event.state.ended:
            ends.append(event)

    assert Trainer(config, run_dir=run, emit=keep).run() is RunState.FINISHED
    steps = len(told(run))
    assert steps < 60
    losses = [line["eval/loss"] for line in told(run)]
    assert min(losses) == losses[-4], "three evaluations after the lowest"
    assert "3 evaluations" in ends[-1].message
    assert Trainer.resume(run, emit=keep).run() is RunState.FINISHED
    assert len(told(run)) == steps


def test_pairs_that_are_too_long_go_whole(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], max_length=12)
    policy = Policy.from_config(config)
    checked = check_data(policy, load_data(config), config)
    assert [len(rows) for rows in (checked.source.rows,)] == [2]  # "There was a" and " a fox ran" do not fit
    assert "2 of 4" in checked.notices[0]


# --- export ---


@pytest.mark.parametrize(("architecture", "members"), [("gpt_neo", 1), ("llama", 2)])
def test_plain_transformers_give_the_same_scores(
    model_folders: dict[str, Path], tmp_path: Path, architecture: str, members: int
) -> None:
    config = config_of(model_folders[architecture], members=members)
    learner = learner_of(config)
    run = RunDir.create(tmp_path / "runs", config, name="judge")
    checkpoint.save(run, checkpoint.TrainingState(2, *learner.state(), config), keep=3)
    done = export(run, tmp_path / "out")
    merged = export(run, tmp_path / "merged", merged=True)
    about = json.loads((done.path / "reward_model.json").read_text())
    assert about["center"] == learner.state().numbers["center"]
    assert about["scale"] == learner.state().numbers["scale"]
    assert len(about["members"]) == members
    assert "reward model" in (done.path / "README.md").read_text()
    for at, (head, adapter) in enumerate(learner.config.algorithm.needs.heads):
        own = done.path / about["members"][at]
        told = json.loads((own / "adapter_config.json").read_text())
        assert told["task_type"] == "SEQ_CLS"
        assert told["modules_to_save"][0] == "score"
        base = AutoModelForSequenceClassification.from_pretrained(
            told["base_model_name_or_path"], num_labels=1, dtype=torch.float32)
        for model in (PeftModel.from_pretrained(base, own),
                      AutoModelForSequenceClassification.from_pretrained(merged.path / about["members"][at])):
            for prompt, response in zip(PROMPTS, CHOSEN, strict=True):
                ids = [*learner.policy.texts.encode([prompt])[0], *learner.policy.tokenizer(response)["input_ids"]]
                with torch.no_grad():
                    raw = float(model.eval()(input_ids=torch.tensor([ids])).logits[0, 0])
                    wanted = float(plain_score(learner.policy, prompt, response, adapter, head))
                assert raw == pytest.approx(wanted, abs=2e-5)
        (score,) = ClassifierReward(ClassifierRewardConfig(model=str(own))).score([prompt], [response])
        assert score is not None
        assert score.total == pytest.approx(raw, abs=2e-5)  # unmerged, as a reward


def test_a_mean_is_no_classifier(model_folders: dict[str, Path], tmp_path: Path) -> None:
    config = config_of(model_folders["gpt_neo"], reads="mean")
    run = RunDir.create(tmp_path / "runs", config, name="judge")
    checkpoint.save(run, checkpoint.TrainingState(2, *learner_of(config).state(), config), keep=3)
    with pytest.raises(RlhfError, match="mean"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_members_learn_from_all_pairs_unless_they_are_resampled(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], members=3, resample=False, pairs_per_step=4)
    rows = load_data(config).train
    told = [member_batch(rows, config, at, 1, 0).chosen for at in range(3)]
    assert all(sorted(each) == sorted(CHOSEN) for each in told)
    drawn = fields.replace(config, {"algorithm.resample": True})
    assert any(sorted(member_batch(rows, drawn, at, 1, 0).chosen) != sorted(CHOSEN) for at in range(3))
