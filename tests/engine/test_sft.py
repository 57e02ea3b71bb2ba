"""SFT: its loss against plain cross-entropy, which tokens are learned, packing, long texts, held-out rows, restarts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_models import stir, tiny_config
from tokenizers_of_kinds import metaspace
from torch import Tensor
from torch.nn import functional

from rlhf_engine.algorithms.base import Resources, make_algorithm
from rlhf_engine.algorithms.sft import SFT
from rlhf_engine.config import fields
from rlhf_engine.config.methods.sft import SFTConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import TextBatch
from rlhf_engine.data.pinning import pinned_data
from rlhf_engine.errors import ConfigError
from rlhf_engine.events import CheckpointSaved, Event, Notice, StepFinished
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.text_codec import TextCodec
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.sentinel import conditions
from rlhf_engine.training.trainer import Trainer

TEXTS = ["A fox ran home.", "There was an owl", "x", "Long ago there were two bears"]
ANSWERED = TextBatch(["Q: ", "", "Once upon", "Say it: "], ["yes", "An owl.", " a time", "a much longer answer"])
WALL = ("time/", "throughput/")


def config_of(folder: Path, **algorithm: object) -> RunConfig:
    base = tiny_config(folder, optimizer={"max_grad_norm": 1e9}).model_dump()
    size = {"texts_per_step": 4, "minibatch_size": 4}
    return RunConfig.model_validate({**base, "data": {"texts": TEXTS}, "rewards": [],
                                     "algorithm": {"kind": "sft", **size, **algorithm}})


def make(config: RunConfig, told: list[str] | None = None) -> SFT:
    policy = Policy.from_config(config)
    stir(policy)
    made = make_algorithm(config, Resources.of(policy, config, (told if told is not None else []).append))
    assert isinstance(made, SFT)
    return made


def step_of(config: RunConfig, batch: TextBatch = ANSWERED) -> tuple[list[Tensor], dict[str, float]]:
    """The gradient that a step leaves, and its metrics."""
    learner = make(config)
    result = learner.step(1, batch)
    return [p.grad.clone() for p in learner.policy.adapters["actor"].values() if p.grad is not None], result.metrics


def by_transformers(config: RunConfig, batch: TextBatch, from_prompt: bool) -> tuple[Tensor, list[Tensor]]:
    """The mean cross-entropy over the tokens of all rows, each read alone by transformers; and its gradient."""
    learner = make(config)
    policy, total, count = learner.policy, torch.zeros(()), 0
    for prompt, response in zip(batch.prompts, batch.responses, strict=True):
        before = [256, *prompt.encode()] if not prompt else list(policy.texts.encode([prompt])[0])
        after = [*policy.texts.encode([response])[0], 256] if response else [256]
        if not prompt:
            before = [256]
        labels = torch.tensor([*([-100] * len(before) if not from_prompt else [-100, *before[1:]]), *after])
        with policy.as_role("actor"):
            logits = policy.base(input_ids=torch.tensor([[*before, *after]])).logits[0, :-1].float()
        logits = logits.masked_fill(policy.banned, -1e30)
        total = total + functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum")
        count += int((labels[1:] != -100).sum())
    loss = total / count
    return loss, list(torch.autograd.grad(loss, list(policy.adapters["actor"].values())))


def assert_alike(found: list[Tensor], expected: list[Tensor]) -> None:
    largest = max(float(each.abs().max()) for each in expected)
    assert largest > 1e-4, "nothing would be compared"
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4 * largest, rtol=1e-3)


@pytest.mark.parametrize("loss_on", ["response", "all"])
@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
def test_loss_and_gradient_are_those_of_cross_entropy(
    model_folders: dict[str, Path], architecture: str, loss_on: str
) -> None:
    config = config_of(model_folders[architecture], loss_on=loss_on)
    gradient, metrics = step_of(config)
    loss, expected = by_transformers(config, ANSWERED, loss_on == "all")
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(math.exp(loss.item()), rel=1e-4)
    assert_alike(gradient, expected)


def test_the_models_own_loss_is_the_same_where_no_token_is_banned(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt2"])
    learner = make(config)
    ids = torch.tensor([[256, *b"A fox", 256]])
    ids[ids < 256] = torch.tensor(learner.policy.texts.encode(["A fox"])[0])
    own = learner.policy.base(input_ids=ids, labels=ids).loss.item()
    assert learner.step(1, TextBatch([""], ["A fox"])).metrics["loss"] == pytest.approx(own, rel=1e-5)


@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
def test_packing_changes_no_loss_and_no_gradient(model_folders: dict[str, Path], architecture: str) -> None:
    batch = TextBatch([*ANSWERED.prompts, "", "", "So "], [*ANSWERED.responses, *TEXTS[:2], "it was"])
    sizes = {"texts_per_step": 7, "minibatch_size": 7}
    told: list[str] = []
    packed = config_of(model_folders[architecture], packing=True, **sizes)
    learner = make(packed, told)
    assert told == []
    assert 7 > len({id(places) for places in _sequences(learner, batch)}) >= 2, "several rows share a sequence"
    gradient, metrics = step_of(packed, batch)
    plain, unpacked = step_of(config_of(model_folders[architecture], **sizes), batch)
    for name in ("loss", "entropy", "mean_token_accuracy"):
        assert metrics[name] == pytest.approx(unpacked[name], abs=1e-5, rel=1e-6), name
    assert_alike(gradient, plain)


def _sequences(learner: SFT, batch: TextBatch) -> list[list[int]]:
    from rlhf_engine.algorithms.text_lesson import TextLesson

    return TextLesson(learner.reader.rows(batch), learner.policy, learner.room).sequences


def test_a_model_that_cannot_be_packed_for_learns_one_text_a_row_and_says_so(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mixed(self: Policy, ids: Tensor, positions: Tensor) -> Tensor:  # as one that knows no borders would read
        return self.forward(ids, torch.ones_like(ids, dtype=torch.bool))

    monkeypatch.setattr(Policy, "forward_packed", mixed)
    told: list[str] = []
    learner = make(config_of(model_folders["llama"], packing=True), told)
    assert [text for text in told if "packing" in text] == told != []
    found = learner.step(1, ANSWERED).metrics["loss"]
    assert found == pytest.approx(step_of(config_of(model_folders["llama"]))[1]["loss"], rel=1e-6)


@pytest.mark.parametrize("packing", [False, True])
def test_micro_batches_change_nothing(model_folders: dict[str, Path], packing: bool) -> None:
    config = config_of(model_folders["gpt_neo"], packing=packing)
    whole, metrics = step_of(config)
    split, same = step_of(fields.replace(config, {"train.micro_batch_size": 1}))
    assert_alike(split, whole)
    assert same["loss"] == pytest.approx(metrics["loss"], rel=1e-6)


def test_a_step_tells_what_the_method_says_it_measures(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"])
    _, metrics = step_of(config)
    described = {metric.name for metric in config.algorithm.metrics} - {"throughput/matmul_share"}  # the trainer's
    assert metrics.keys() == described
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())
    assert 0 <= metrics["mean_token_accuracy"] <= 1
    assert metrics["num_tokens"] == 4 + 8 + 8 + 21


def test_samples_are_the_rows_with_each_tokens_log_prob(model_folders: dict[str, Path]) -> None:
    learner = make(config_of(model_folders["llama"]))
    result = learner.step(1, ANSWERED)
    assert [(s.prompt, s.response) for s in result.samples] == list(zip(ANSWERED.prompts, ANSWERED.responses,
                                                                        strict=True))
    traces = [sample.trace for sample in result.samples]
    assert all(trace is not None and "".join(trace.texts) == s.response
               for trace, s in zip(traces, result.samples, strict=True))
    log_probs = [value for trace in traces if trace for value in trace.series["log_probs"]]
    assert -sum(log_probs) / len(log_probs) == pytest.approx(result.metrics["loss"], rel=1e-5)


@pytest.mark.parametrize(("rule", "learned", "counted"), [("cut", 8 + 2, ("1 cut", "1 left out")),
                                                          ("skip", 8, ("2 left out",))])
def test_long_texts_are_cut_or_left_out_and_counted(
    model_folders: dict[str, Path], rule: str, learned: int, counted: tuple[str, ...]
) -> None:
    rows = TextBatch(["", "Question", "A prompt of many words"], ["An owl.", "an answer", "x"])
    told: list[str] = []
    config = config_of(model_folders["gpt_neo"], max_length=10, long_texts=rule)
    source = model_folders["gpt_neo"].parent / f"{rule}.jsonl"
    source.write_text("\n".join(json.dumps({"prompt": p, "response": r})
                                for p, r in zip(rows.prompts, rows.responses, strict=True)))
    config = fields.replace(config, {"data.source": str(source), "data.texts": []})
    learner = make(config, told)
    assert len(told) == 1
    assert all(part in told[0] for part in counted), told
    assert learner.step(1, rows).metrics["num_tokens"] == learned
    assert learner.step(2, TextBatch(rows.prompts[2:], rows.responses[2:])).metrics["policy/updates"] == 0.0
    with pytest.raises(ConfigError, match="max_length"):
        make(config_of(model_folders["gpt_neo"], max_length=2, long_texts="skip"))


def test_no_end_is_learned_behind_a_response_that_was_cut_off(model_folders: dict[str, Path]) -> None:
    learner = make(config_of(model_folders["llama"]))
    batch = TextBatch(["Q: "] * 3, ["yes"] * 3, {"finished": [True, False, None]})
    result = learner.step(1, batch)
    assert [sample.tokens for sample in result.samples] == [4, 3, 4]
    assert [sample.finished for sample in result.samples] == [True, False, True]


@pytest.mark.parametrize(("prompt", "response"), [
    ("Once", " upon a time"), ("Once ", "upon"), ("Once upon", "a cat"), ("Onc", "e"), ("", "Once upon"), ("cat", ""),
])
def test_a_prompts_tokens_are_those_that_sampling_sees_and_the_response_reads_as_itself(
    prompt: str, response: str
) -> None:
    codec = TextCodec(metaspace(), rows=400, end_ids=(2,))
    ((before, after),) = codec.encode_answered([prompt], [response])
    assert before == codec.encode([prompt])[0]
    assert codec.decode([after], [before]) == [response]


def trained(config: RunConfig, run_dir: RunDir | None = None) -> tuple[list[dict[str, float]], list[Event]]:
    events: list[Event] = []
    Trainer(config, run_dir=run_dir, emit=events.append).run()
    return [dict(event.metrics) for event in events if isinstance(event, StepFinished)], events


def clockless(steps: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in step.items() if not name.startswith(WALL)} for step in steps]


def test_it_learns_a_text_by_heart(model_folders: dict[str, Path]) -> None:
    config = fields.replace(config_of(model_folders["llama"], texts_per_step=1, minibatch_size=1), {
        "data.texts": ["A fox ran home."], "optimizer.learning_rate": 0.03, "train.steps": 60, "lora.rank": 8,
        "lora.target_modules": ["all-linear"], "optimizer.max_grad_norm": 1.0, "optimizer.decay": "linear"})
    steps, _ = trained(config)
    assert steps[0]["loss"] > 3
    assert steps[-1]["loss"] < 0.2  # frozen, the head of a model this small leaves no more certainty
    assert steps[-1]["mean_token_accuracy"] == 1.0
    assert steps[-1]["perplexity"] < 1.25


@pytest.fixture
def answered(model_folders: dict[str, Path], tmp_path: Path) -> RunConfig:
    """Rows of prompts with responses in a file, a quarter of them held out."""
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(json.dumps({"prompt": f"Row {at}: ", "response": f"a fox{at}", "score": at})
                                for at in range(12)))
    return pinned_data(fields.replace(config_of(model_folders["gpt_neo"], minibatch_size=2), {
        "data.source": str(source), "data.texts": [], "data.held_out_share": 0.25, "data.evaluate_every": 2,
        "train.steps": 6, "optimizer.learning_rate": 0.02, "lora.dropout": 0.1}))


def test_a_resumed_run_repeats_itself_bit_for_bit(answered: RunConfig, tmp_path: Path) -> None:
    whole_dir = RunDir.create(tmp_path, answered, name="whole")
    whole, _ = trained(answered, whole_dir)
    half_dir = RunDir.create(tmp_path, fields.replace(answered, {"train.steps": 3}), name="half")
    first, _ = trained(half_dir.config(), half_dir)
    rest: list[dict[str, float]] = []
    requests = RequestQueue()
    requests.ask(Edit("train.steps", 6))
    Trainer.resume(half_dir, requests=requests, emit=lambda event: rest.append(dict(event.metrics))
                   if isinstance(event, StepFinished) else None).run()
    assert clockless(first + rest) == clockless(whole)
    ours, theirs = checkpoint.load_newest(half_dir)[0], checkpoint.load_newest(whole_dir)[0]
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in theirs.tensors)
    assert ours.numbers["best_held_out_loss"] == theirs.numbers["best_held_out_loss"]


def test_held_out_rows_are_measured_and_decide_which_checkpoint_is_the_best(
    answered: RunConfig, tmp_path: Path
) -> None:
    run_dir = RunDir.create(tmp_path, answered, name="run")
    steps, events = trained(answered, run_dir)
    looked = [step for step, found in enumerate(steps, 1) if "eval/loss" in found]
    assert looked == [2, 4, 6]
    assert not any("eval/scores" in found for found in steps), "there are no rewards"
    last = steps[-1]
    assert last["eval/perplexity"] == pytest.approx(math.exp(last["eval/loss"]))
    assert last["eval/best_loss"] == min(steps[at - 1]["eval/loss"] for at in looked)
    assert any(isinstance(event, CheckpointSaved) for event in events)
    quality = checkpoint.load_newest(run_dir)[0].quality
    assert quality is not None
    assert (quality.metric, quality.more_is_better) == ("eval/loss", False)
    without, _ = trained(fields.replace(answered, {"data.evaluate_every": 0}))
    assert clockless(without) == clockless([{name: value for name, value in found.items()
                                             if not name.startswith("eval/")} for found in steps])
    assert SFTConfig().best_metric_of(fields.replace(answered, {"data.held_out_share": 0.0})) == "loss"


def test_the_held_out_loss_is_one_mean_over_all_tokens(answered: RunConfig) -> None:
    learner = make(fields.replace(answered, {"train.micro_batch_size": 2}))
    policy = Policy.from_config(answered)
    stir(policy)
    rows = Resources.of(policy, answered).held_out
    found = learner.measure_held_out(rows)["eval/loss"]
    batch = TextBatch(rows.prompts, rows.texts["responses"])
    assert found == pytest.approx(by_transformers(answered, batch, False)[0].item(), rel=1e-5)


def test_with_rewards_answers_to_held_out_prompts_are_scored_too(answered: RunConfig) -> None:
    data = answered.model_dump() | {"rewards": [{"kind": "length", "name": "length", "min_words": 3}]}
    steps, _ = trained(fields.validate(data))
    assert {"eval/scores", "eval/loss"} <= steps[1].keys()


def test_alarms_tell_of_texts_learnt_by_heart_and_of_nothing_learnt(answered: RunConfig) -> None:
    config = fields.replace(answered, {"sentinel.window": 2})
    falling = [{"loss": 3.0}, {"loss": 2.9}], [{"loss": 1.0}, {"loss": 0.9, "eval/loss": 2.5, "eval/best_loss": 2.2}]
    assert conditions(*falling, 10, config).keys() == {"overfit"}
    assert not conditions(*falling, 10, fields.replace(config, {"sentinel.held_out_rise": None}))
    fine = [{"loss": 1.0}, {"loss": 0.9, "eval/loss": 2.2, "eval/best_loss": 2.2}]
    assert not conditions(falling[0], fine, 10, config)
    assert conditions(falling[0], [{"loss": 3.1}, {"loss": 3.0}], 10, config).keys() == {"stuck"}


def test_what_the_tokenizer_reads_to_nothing_learnable_is_no_row(model_folders: dict[str, Path]) -> None:
    events: list[Event] = []
    config = fields.replace(config_of(model_folders["gpt_neo"], max_length=3, long_texts="skip"),
                            {"data.texts": ["x", "much too long"], "train.steps": 1})
    Trainer(config, run_dir=None, emit=events.append).run()
    assert any(isinstance(event, Notice) and "1 left out" in event.text for event in events)
