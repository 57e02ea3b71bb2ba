"""DPO and online DPO: a step's gradient against the paper's formula over plain log-probs, and what is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import stir, tiny_config
from tokenizers_of_kinds import byte_level, metaspace
from torch import Tensor

from rlhf_engine.algorithms.base import MeasuresHeldOut, Resources, StepResult, make_algorithm
from rlhf_engine.algorithms.dpo import DPO
from rlhf_engine.algorithms.online_dpo import OnlineDPO
from rlhf_engine.config import fields
from rlhf_engine.config.methods.dpo import DPOConfig
from rlhf_engine.config.methods.preferences import PAIR_METRICS
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PairBatch, PromptBatch
from rlhf_engine.data.rows import load_data
from rlhf_engine.data.source import check_data
from rlhf_engine.errors import ConfigError
from rlhf_engine.events import Alarm
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.text_codec import TextCodec
from rlhf_engine.models.written import written, written_ids
from rlhf_engine.token_trace import TokenTrace
from rlhf_engine.training.sentinel import Sentinel

PROMPTS = ["Once", "There was a", "x", "Long ago"]
CHOSEN = [" a fox ran", " cat", " and on", ""]
REJECTED = [" man", " woman slept all day", "y", " no"]
BETA = 0.3


def config_of(folder: Path, **algorithm: object) -> RunConfig:
    """All pairs in one step, so that the gradient it leaves is the whole step's, unclipped."""
    sections = tiny_config(folder, optimizer={"max_grad_norm": 1e9}).model_dump()
    sections["algorithm"] = {"kind": "dpo", "pairs_per_step": 4, "beta": BETA, **algorithm}
    sections["data"] = {"prompts": PROMPTS, "chosen": CHOSEN, "rejected": REJECTED, "shuffle": False}
    sections["rewards"] = []
    return RunConfig.model_validate(sections)


def learner_of(config: RunConfig, *, stirred: bool = True) -> DPO:
    policy = Policy.from_config(config)
    if stirred:
        stir(policy)
    made = make_algorithm(config, Resources.of(policy, config))
    assert isinstance(made, DPO)
    return made


def batch_of(config: RunConfig) -> PairBatch:
    batch = load_data(config).train.batch(range(4))
    assert isinstance(batch, PairBatch)
    return batch


def step(learner: DPO, batch: PairBatch | None = None) -> tuple[list[Tensor], StepResult]:
    """The gradient that a step leaves behind, and what it tells."""
    result = learner.step(1, batch or batch_of(learner.config), lambda phase, fraction: None)
    found = [p.grad.clone() for p in learner.policy.adapters["actor"].values() if p.grad is not None]
    return found, result


def plain_log_prob(policy: Policy, role: str, prompt: str, response: str) -> Tensor:
    """log π of one response, token by token [time], alone in its batch: no padding, and the end token behind it."""
    ids = torch.tensor([[*policy.texts.encode([prompt])[0], *policy.tokenizer(response)["input_ids"], 256]])
    width = ids.shape[1] - len(policy.texts.encode([prompt])[0])
    return policy.log_probs(role, ids, torch.ones_like(ids, dtype=torch.bool), width, 1.0).log_probs[0]


def naive_loss(policy: Policy, config: RunConfig) -> Tensor:
    settings: Any = config.algorithm
    total = torch.zeros(())
    for prompt, better, worse in zip(PROMPTS, CHOSEN, REJECTED, strict=True):
        gap: Tensor = torch.zeros(())
        for sign, response in ((1, better), (-1, worse)):
            actor = plain_log_prob(policy, "actor", prompt, response)
            with torch.no_grad():
                reference = plain_log_prob(policy, "reference", prompt, response)
            moved = (actor - reference).sum()
            gap = gap + sign * (moved / len(actor) if settings.average_log_probs else moved)
        total = total + paper_loss(gap, settings) / 4
    return total


def paper_loss(gap: Tensor, settings: Any) -> Tensor:
    beta, wrong = settings.beta, settings.label_smoothing
    if settings.loss == "sigmoid":
        return -(1 - wrong) * torch.log(torch.sigmoid(beta * gap)) - wrong * torch.log(torch.sigmoid(-beta * gap))
    return (gap - 1 / (2 * beta)) ** 2 if settings.loss == "ipo" else torch.relu(1 - beta * gap)


def assert_alike(found: list[Tensor], expected: list[Tensor]) -> None:
    largest = max(float(each.abs().max()) for each in expected)
    assert largest > 1e-4, "nothing would be compared"
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4 * largest, rtol=1e-3)


@pytest.mark.parametrize("architecture", ["gpt_neo", "llama"])
@pytest.mark.parametrize("own", [{}, {"label_smoothing": 0.2}, {"loss": "ipo"}, {"loss": "hinge"},
                                 {"average_log_probs": True}], ids=str)
def test_a_step_follows_the_paper(model_folders: dict[str, Path], architecture: str, own: dict[str, object]) -> None:
    config = config_of(model_folders[architecture], **own)
    plain = learner_of(config)
    loss = naive_loss(plain.policy, config)
    expected = list(torch.autograd.grad(loss, list(plain.policy.adapters["actor"].values())))
    found, result = step(learner_of(config))
    assert_alike(found, expected)
    assert result.metrics["loss/policy_avg"] == pytest.approx(loss.item(), rel=1e-4)


def test_at_initialisation_the_loss_is_log_2(model_folders: dict[str, Path]) -> None:
    _, result = step(learner_of(config_of(model_folders["gpt_neo"]), stirred=False))
    assert result.metrics["loss/policy_avg"] == pytest.approx(math.log(2), abs=1e-6)
    assert result.metrics["rewards/margins"] == pytest.approx(0.0, abs=1e-4)


def test_a_pair_of_equal_answers_moves_nothing(model_folders: dict[str, Path]) -> None:
    learner = learner_of(config_of(model_folders["gpt_neo"]))
    before = {name: parameter.detach().clone() for name, parameter in learner.policy.parameters.items()}
    found, _ = step(learner, PairBatch(PROMPTS, CHOSEN, CHOSEN))
    assert all((each == 0).all() for each in found)
    for name, parameter in learner.policy.parameters.items():
        assert torch.equal(parameter, before[name])


def test_micro_batches_change_nothing(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"])
    whole, told = step(learner_of(config))
    for size in (1, 3, 6):
        split, same = step(learner_of(fields.replace(config, {"train.micro_batch_size": size})))
        assert_alike(split, whole)
        for name, value in told.metrics.items():
            if not name.startswith(("time/", "throughput/")):
                assert same.metrics[name] == pytest.approx(value, abs=1e-4, rel=1e-3), name


def test_a_step_tells_what_the_method_says_it_measures(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"])
    _, result = step(learner_of(config))
    described = {metric.name for metric in config.algorithm.metrics} - {"throughput/matmul_share"}  # the trainer's
    assert result.metrics.keys() == described
    assert all(type(value) is float and math.isfinite(value) for value in result.metrics.values())
    assert result.operations > 0


def test_its_samples_are_pairs_with_their_implicit_rewards(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"])
    learner = learner_of(config)
    expected = [BETA * (plain_log_prob(learner.policy, "actor", prompt, response)
                        - plain_log_prob(learner.policy, "reference", prompt, response)).sum().item()
                for prompt, pair in zip(PROMPTS, zip(CHOSEN, REJECTED, strict=True), strict=True) for response in pair]
    _, result = step(learner)
    assert [sample.response for sample in result.samples] == [
        response for pair in zip(CHOSEN, REJECTED, strict=True) for response in pair]
    assert [sample.score for sample in result.samples] == pytest.approx(expected, abs=1e-3)
    for at, sample in enumerate(result.samples):
        assert list(sample.parts) == ["rejected" if at % 2 else "chosen"]
        assert sample.trace is not None
        assert set(sample.trace.series) == {series.name for series in config.algorithm.token_series}
        said = config.algorithm.about_token(sample.trace, 0, "a")
        if CHOSEN[at // 2][:1] == REJECTED[at // 2][:1]:  # the same first byte: what pushes one way pushes back
            assert said.startswith("○")
        else:
            assert said.startswith("▼" if at % 2 else "▲")


# --- see why ---

ALIKE = PairBatch(["Once", "There was a", "x", "Long ago"], [" a fox ran", " cat", " and on", "y"],
                  [" a fox sat down", " cat", " ", "no"])


def pushes_by_autograd(policy: Policy, settings: Any) -> list[list[float]]:
    """−∂loss/∂log π of each token of both responses of each pair; a token that stands after the same text in both of
    them has one log-probability."""
    told = []
    for prompt, *pair in zip(ALIKE.prompts, ALIKE.chosen, ALIKE.rejected, strict=True):
        leaves: dict[tuple[int, ...], Tensor] = {}
        places, gap = [], torch.zeros(())
        for sign, response in zip((1, -1), pair, strict=True):
            ids = [*policy.tokenizer(response)["input_ids"], 256]
            places.append([tuple(ids[:at + 1]) for at in range(len(ids))])
            with torch.no_grad():
                actor, reference = (plain_log_prob(policy, role, prompt, response) for role in ("actor", "reference"))
            for at, place in enumerate(places[-1]):
                leaf = leaves.setdefault(place, actor[at].clone().requires_grad_())
                gap = gap + sign * (leaf - reference[at]) / (len(ids) if settings.average_log_probs else 1)
        slopes = dict(zip(leaves, torch.autograd.grad(paper_loss(gap, settings), list(leaves.values())), strict=True))
        told += [[-slopes[place].item() for place in side] for side in places]
    return told


@pytest.mark.parametrize("own", [{}, {"label_smoothing": 0.4}, {"loss": "ipo"}, {"loss": "hinge"},
                                 {"average_log_probs": True}, {"loss": "ipo", "average_log_probs": True}], ids=str)
def test_see_why_tells_the_push_that_the_loss_gives_each_token(
    model_folders: dict[str, Path], own: dict[str, object]
) -> None:
    config = config_of(model_folders["gpt_neo"], **{"beta": 5.0, **own})  # so that some pairs are beyond their goal
    learner = learner_of(config)
    expected = pushes_by_autograd(learner.policy, config.algorithm)
    _, result = step(learner, ALIKE)
    signs = set()
    for at, (sample, pushes) in enumerate(zip(result.samples, expected, strict=True)):
        assert sample.trace is not None
        largest = max(1e-3, *map(abs, pushes))
        assert [push / 100 for push in sample.trace.series["push"]] == pytest.approx(
            pushes, abs=2e-3 * largest, rel=2e-3)
        for token, push in enumerate(sample.trace.series["push"]):
            said = config.algorithm.about_token(sample.trace, token, "a")
            assert said[0] == ("▲" if push > 0 else "▼" if push < 0 else "○")
            signs.add((at % 2, said[0]))
    assert result.samples[2].trace is not None
    assert set(result.samples[2].trace.series["push"]) == {0.0}, "equal responses teach nothing"
    assert {(0, "○"), (1, "○")} < signs
    if own.get("loss") == "ipo" or "label_smoothing" in own:
        assert {(0, "▼"), (1, "▲")} & signs, "no pair was beyond its goal"


def test_a_trace_of_before_is_told_without_a_push() -> None:
    settings = DPOConfig()
    old = TokenTrace(("a",), {"kl": (0.5,)}, {"chosen": 1.0, "margins": 2.0, "pull": 0.1})
    assert "log-ratio" in settings.about_token(old, 0, "a")


# --- units ---


def test_log_probs_are_told_per_response_whatever_the_loss_goes_by(model_folders: dict[str, Path]) -> None:
    folder = model_folders["gpt_neo"]
    _, whole = step(learner_of(config_of(folder)))
    _, averaged = step(learner_of(config_of(folder, average_log_probs=True, beta=3.0)))
    names = [metric.name for metric in PAIR_METRICS if metric.unit == "nats per response"]
    assert len(names) == 3
    for name in names:
        assert averaged.metrics[name] == pytest.approx(whole.metrics[name], rel=1e-5), name
    assert averaged.metrics["rewards/margins"] != pytest.approx(whole.metrics["rewards/margins"], rel=1e-2)


def test_the_alarm_of_chosen_responses_counts_nats_per_response(model_folders: dict[str, Path]) -> None:
    """However the loss goes by them, and whatever β is by now."""
    for changes in ({}, {"average_log_probs": True}, {"beta": 90.0}):
        config = config_of(model_folders["gpt_neo"], **changes)
        sentinel = Sentinel(config.sentinel.window)
        fallen = LEARNT | {"rewards/chosen": -0.01, "logps/chosen_log_ratio": -33.0}
        (alarm,) = [alarm for at in range(1, 20) for alarm in sentinel.watch(at, fallen, config)]
        assert alarm.kind == "chosen-unlikely"
        assert "33 nats" in alarm.text


# --- the reference ---


def counted(learner: DPO) -> list[int]:
    """Rows of every pass of the reference from now on."""
    passes: list[int] = []
    real = learner.policy.log_probs

    def log_probs(role: str, ids: Tensor, *more: Any, **options: Any) -> Any:
        if role == "reference":
            passes.append(len(ids))
        return real(role, ids, *more, **options)

    learner.policy.log_probs = log_probs  # type: ignore[method-assign]
    return passes


def test_the_reference_is_asked_once_a_pair_and_remembered_bit_for_bit(model_folders: dict[str, Path]) -> None:
    config = fields.replace(config_of(model_folders["gpt_neo"], pairs_per_step=3), {"data.shuffle": True})
    rows = load_data(config).train
    steps = [[0, 1, 2], [3, 0, 1], [2, 3, 1]]  # epochs run on within a step
    learner = learner_of(config)
    passes, told = counted(learner), []
    for places in steps:
        batch = rows.batch(places)
        assert isinstance(batch, PairBatch)
        rollout = written(learner.policy, [p for p in batch.prompts for _ in range(2)],
                          [r for pair in zip(batch.chosen, batch.rejected, strict=True) for r in pair], [True] * 6)
        told.append(learner.reference.log_probs(batch, rollout))
    assert sum(passes) == 8, "two responses of each of four pairs"
    fresh = learner_of(config)  # as after a resume, which begins in the third step
    batch = rows.batch(steps[2])
    assert isinstance(batch, PairBatch)
    again = fresh.reference.log_probs(batch, rollout)
    assert torch.equal(again, told[2])
    for row, (prompt, response) in enumerate(zip(rollout.prompts, rollout.responses, strict=True)):
        plain = plain_log_prob(fresh.policy, "reference", prompt, response).detach()
        torch.testing.assert_close(again[row, :len(plain)], plain, atol=1e-4, rtol=1e-4)


# --- what is read of a pair ---


@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_a_response_is_read_as_it_stands_behind_a_prompt(make: Callable[[], Any]) -> None:
    codec = TextCodec(make(), rows=1000)
    for text in (" cat", "cat", " a cat.", "", "  t"):
        (ids,) = codec.encode_responses([text])
        assert codec.decode([ids], codec.encode(["Once"])) == [text]


def test_both_responses_stand_behind_the_same_prompt_tokens_and_end(model_folders: dict[str, Path]) -> None:
    policy = Policy.from_config(config_of(model_folders["gpt_neo"]))
    ids = written_ids(policy, ["Once", "Once", "Once"], [" a", "b", " a"], [True, True, False])
    assert ids[0][0] == ids[1][0] == ids[2][0]
    assert ids[0][1] == [*ids[2][1], 256]
    assert written(policy, ["Once"] * 3, [" a", "b", " a"], [True, True, False]).finished.tolist() == [
        True, True, False]


def test_a_response_that_was_cut_stays_open(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"])
    columns = {"chosen_finished": [False, True, None, True], "rejected_finished": [True] * 4}
    learner = learner_of(config)
    for given, open_rows in ((columns, [0]), ({}, [])):
        _, result = step(learner, PairBatch(PROMPTS, CHOSEN, REJECTED, given))
        assert [at for at, sample in enumerate(result.samples) if not sample.finished] == open_rows
    _, result = step(learner_of(config_of(model_folders["gpt_neo"], append_end=False)),
                     PairBatch(PROMPTS[:3], CHOSEN[:3], REJECTED[:3]))
    assert not any(sample.finished for sample in result.samples)


def test_pairs_that_do_not_fit_are_left_out_whole_and_counted(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], max_length=20)  # a byte is a token, and the end token is one
    policy = Policy.from_config(config)
    checked = check_data(policy, load_data(config), config)
    assert checked.source.rows.prompts == ["Once", "x", "Long ago"]  # "There was a" and " woman slept all day"
    (notice,) = checked.notices
    assert "1 of 4 pairs" in notice
    assert "20 tokens" in notice
    with pytest.raises(ConfigError, match="none is left"):
        check_data(policy, load_data(config), fields.replace(config, {"algorithm.max_length": 3}))
    without_end = fields.replace(config, {"algorithm.append_end": False, "algorithm.max_length": None})
    assert "without any token" in check_data(policy, load_data(without_end), without_end).notices[0]


@pytest.mark.parametrize("changes", [{"label_smoothing": 0.1, "loss": "ipo"}, {"beta": 0.0}, {"loss": "kto"}])
def test_settings_that_make_no_sense_are_refused(model_folders: dict[str, Path], changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        config_of(model_folders["gpt_neo"], **changes)


def test_held_out_pairs_are_measured_without_a_trace(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"])
    learner, other = learner_of(config), learner_of(config)
    assert isinstance(learner, MeasuresHeldOut)
    found = learner.measure_held_out(load_data(config).train)
    assert found.keys() == {metric.name for metric in config.algorithm.held_out_metrics}
    (gradient, told), (same, _) = step(learner), step(other)
    assert found["eval/pair_loss"] == pytest.approx(told.metrics["loss/policy_avg"], rel=1e-4)
    assert found["eval/rewards/margins"] == pytest.approx(told.metrics["rewards/margins"], rel=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(gradient, same, strict=True))


def test_a_step_that_was_skipped_adds_no_tokens(model_folders: dict[str, Path]) -> None:
    learner = learner_of(config_of(model_folders["gpt_neo"]))
    _, result = step(learner)
    known = result.metrics["num_tokens"]
    with torch.no_grad():
        next(iter(learner.policy.adapters["actor"].values())).fill_(math.inf)
    skipped = learner.step(2, batch_of(learner.config))
    assert skipped.nonfinite
    assert skipped.metrics["num_tokens"] == known


# --- what goes wrong ---

START = {"rewards/accuracies": 0.5, "rewards/margins": 0.0, "logps/chosen_log_ratio": 0.0}
LEARNT = {"rewards/accuracies": 0.9, "rewards/margins": 1.5, "logps/chosen_log_ratio": -1.0}


@pytest.mark.parametrize(("kind", "bad", "said"), [
    ("pairs-undecided", START, "raise optimizer.learning_rate"),
    ("margins", LEARNT | {"rewards/margins": 12.0}, "mean margin is"),
    ("chosen-unlikely", LEARNT | {"logps/chosen_log_ratio": -30.0}, "nats less likely"),
])
def test_what_goes_wrong_with_pairs_is_said_once(
    model_folders: dict[str, Path], kind: str, bad: dict[str, float], said: str
) -> None:
    config = config_of(model_folders["gpt_neo"])

    def alarms(end: dict[str, float], changed: RunConfig = config) -> list[Alarm]:
        sentinel = Sentinel(changed.sentinel.window)
        return [alarm for at in range(1, 81) for alarm in sentinel.watch(
            at, {name: START[name] + min(1.0, at / 30) * (end[name] - START[name]) for name in START}, changed)]

    assert alarms(LEARNT) == []
    (alarm,) = alarms(bad)
    assert alarm.kind == kind
    assert said in alarm.text
    assert "\n" not in alarm.text
    off = {path: None for condition in config.algorithm.conditions for path in condition.settings
           if path != "sentinel.pair_patience"}
    assert alarms(bad, fields.replace(config, off)) == []


def test_online_alarms_name_what_the_method_has(model_folders: dict[str, Path]) -> None:
    config = online_config(model_folders["gpt_neo"])
    far = {"objective/kl": 1000.0}
    sentinel = Sentinel(config.sentinel.window)
    (alarm,) = [alarm for at in range(1, 20) for alarm in sentinel.watch(at, far, config)]
    assert "algorithm.beta" in alarm.text
    assert "kl.coef" not in alarm.text


# --- online ---


def online_config(folder: Path, **algorithm: object) -> RunConfig:
    sections = tiny_config(folder, sampling={"temperature": 6.0, "max_new_tokens": 16},
                           optimizer={"max_grad_norm": 1e9}).model_dump()
    sections["algorithm"] = {"kind": "online_dpo", "responses_per_step": 16, "group_size": 4, "minibatch_size": 4,
                             "beta": BETA, **algorithm}
    return RunConfig.model_validate(sections)


def online_learner(config: RunConfig) -> OnlineDPO:
    policy = Policy.from_config(config)
    stir(policy)
    policy.end_ids = (256, *range(20))  # so that responses end early, and batches are ragged
    made = make_algorithm(config, Resources.of(policy, config))
    assert isinstance(made, OnlineDPO)
    return made


def online_step(config: RunConfig) -> tuple[list[Tensor], StepResult]:
    learner = online_learner(config)
    result = learner.step(1, PromptBatch(PROMPTS), lambda phase, fraction: None)
    return [p.grad.clone() for p in learner.policy.adapters["actor"].values() if p.grad is not None], result


def test_online_the_best_is_preferred_to_the_worst_of_each_group(model_folders: dict[str, Path]) -> None:
    config = online_config(model_folders["gpt_neo"])
    learner = online_learner(config)
    rollout = learner.on_policy.roll_out(PromptBatch(PROMPTS).repeated(4), lambda phase, fraction: None)
    rewards = learner.on_policy.resources.rewards
    assert rewards is not None
    scores = [score.total for score in rewards.score(rollout.prompts, rollout.responses).scores]

    def moved(row: int) -> Tensor:
        ids, mask, response = rollout.batch(torch.tensor([row]))
        actor = learner.policy.log_probs("actor", ids, mask, response.shape[1], 6.0).log_probs
        with torch.no_grad():
            reference = learner.policy.log_probs("reference", ids, mask, response.shape[1], 6.0).log_probs
        return (actor - reference).sum()

    losses = []
    for first in range(0, 16, 4):
        group = scores[first:first + 4]
        if max(group) > min(group):
            gap = moved(first + group.index(max(group))) - moved(first + group.index(min(group)))
            losses.append(-torch.log(torch.sigmoid(BETA * gap)))
    assert len(losses) > 1
    loss = torch.stack(losses).mean()
    expected = list(torch.autograd.grad(loss, list(learner.policy.adapters["actor"].values())))
    found, result = online_step(config)
    assert_alike(found, expected)
    assert result.metrics["loss/policy_avg"] == pytest.approx(loss.item(), rel=1e-4)
    assert result.metrics["frac_reward_zero_std"] == pytest.approx(1 - len(losses) / 4)
    split, _ = online_step(fields.replace(config, {"train.micro_batch_size": 3}))
    assert_alike(split, expected)


def test_online_a_step_tells_what_the_method_says_it_measures(model_folders: dict[str, Path]) -> None:
    config = online_config(model_folders["gpt_neo"])
    _, result = online_step(config)
    described = {metric.name for metric in config.algorithm.metrics} - {"throughput/matmul_share"}
    own = {name for name in result.metrics if not name.startswith("rewards/length/")}
    assert own == described
    assert all(type(value) is float and math.isfinite(value) for value in result.metrics.values())
    assert {"▲", "▼", "○"} >= {config.algorithm.about_token(sample.trace, 0, "a")[0]
                               for sample in result.samples if sample.trace}


def test_online_groups_of_equal_scores_are_counted_and_teach_nothing(model_folders: dict[str, Path]) -> None:
    everywhere = {"kind": "length", "name": "length", "min_words": 0, "max_words": 1000, "penalty_per_word": 1.0}
    config = online_config(model_folders["gpt_neo"])
    config = RunConfig.model_validate({**config.model_dump(), "rewards": [everywhere]})
    found, result = online_step(config)
    assert found == []
    assert result.metrics["frac_reward_zero_std"] == 1.0
    assert result.metrics["policy/updates"] == 0.0
    assert result.nonfinite == ""


def test_online_a_minibatch_is_of_pairs(model_folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="minibatch_size 5"):
        online_config(model_folders["gpt_neo"], minibatch_size=5)
    _, result = online_step(online_config(model_folders["gpt_neo"], minibatch_size=1, epochs=2))
    pairs = round(4 * (1 - result.metrics["frac_reward_zero_std"]))
    assert result.metrics["policy/updates"] == 2.0 * pairs
