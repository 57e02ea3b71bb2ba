"""What is told of a response token by token is what the update used, and what the formulas say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import _byte_tokenizer, make_ppo, stir, tiny_config

from rlhf_engine.algorithms.experience import Experience
from rlhf_engine.algorithms.ppo import PPO
from rlhf_engine.algorithms.trace import token_texts
from rlhf_engine.algorithms.update import AdapterUpdate
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.events import Sample, StepFinished, TokenTrace
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.runs.run_dir import SAMPLES, RunDir
from rlhf_engine.runs.run_lines import sample, sample_row, to_line
from rlhf_engine.training.trainer import Trainer

TOKENIZER = _byte_tokenizer(own_padding=True)
TOLERANCE = {"abs": 2e-4, "rel": 1e-4}


def decode(ids: list[int]) -> str:
    return str(TOKENIZER.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class Watching:
    """An update that lets see what it learns from."""

    def __init__(self, own: AdapterUpdate, seen: list[Experience]) -> None:
        self.own, self.seen = own, seen

    def step(self, rows: torch.Tensor, lesson: Experience, *rest: Any) -> dict[str, float]:
        self.seen.append(lesson)
        return self.own.step(rows, lesson, *rest)


def stepped(folder: Path, **sections: object) -> tuple[PPO, Experience, tuple[Sample, ...], Policy]:
    """One step of a policy with random adapters; what its update was given, its samples, and the policy before it."""
    config = tiny_config(folder, **{"sampling": {"temperature": 3.0, "max_new_tokens": 8}, **sections})
    before, ppo = (make_ppo(config) for _ in range(2))
    stir(before.policy)
    stir(ppo.policy)
    seen: list[Experience] = []
    own = ppo.actor
    ppo.actor = Watching(own, seen)  # type: ignore[assignment]
    result = ppo.step(1, PromptBatch(config.data.prompts * 2))
    return ppo, seen[0], result.samples, before.policy


@torch.no_grad()
def by_hand(policy: Policy, role: str, prompt: list[int], response: list[int], temperature: float) -> list[float]:
    """log p of each response token from the model's own logits."""
    ids = torch.tensor([prompt + response])
    with policy.as_role(role):
        hidden = policy.base.base_model(input_ids=ids).last_hidden_state[0]
    logits = policy.base.get_output_embeddings()(hidden).float() / temperature
    if policy.banned is not None:
        logits[:, policy.banned] = -math.inf
    table = logits.log_softmax(-1)
    return [table[len(prompt) - 1 + at, token].item() for at, token in enumerate(response)]


@torch.no_grad()
def values_by_hand(policy: Policy, prompt: list[int], response: list[int]) -> list[float]:
    """The critic's value of the state before each token, and after the last one."""
    with policy.as_role("critic"):
        hidden = policy.base.base_model(input_ids=torch.tensor([prompt + response])).last_hidden_state[0]
    return policy.heads["value"](hidden.float()).squeeze(-1)[len(prompt) - 1:].tolist()


def gae_by_hand(rewards: list[float], values: list[float], discount: float, decay: float) -> list[float]:
    advantages, following = [0.0] * len(rewards), 0.0
    for t in reversed(range(len(rewards))):
        after = values[t + 1] if t + 1 < len(rewards) else 0.0
        following = rewards[t] + discount * after - values[t] + discount * decay * following
        advantages[t] = following
    return advantages


def rows(experience: Experience) -> list[tuple[list[int], list[int]]]:
    """Prompt ids and response ids of each response."""
    rollout = experience.rollout
    return [(rollout.prompt_ids[i][rollout.prompt_mask[i]].tolist(),
             rollout.response_ids[i][rollout.response_mask[i]].tolist()) for i in range(len(rollout))]


def test_a_trace_holds_the_very_numbers_of_the_update(model_folders: dict[str, Path]) -> None:
    for level in ("token", "sequence"):
        _, experience, samples, _ = stepped(model_folders["gpt_neo"], algorithm={"level": level})
        assert len(samples) == 8
        for row, told in enumerate(samples):
            trace, length = told.trace, told.tokens
            assert trace is not None
            assert trace.sequence_level == (level == "sequence")
            per_token = (trace.log_probs, trace.reference_log_probs, trace.kl)
            tensors = (experience.log_probs, experience.reference_log_probs, experience.token_kl)
            assert [list(found) for found in per_token] == [tensor[row, :length].tolist() for tensor in tensors]
            per_action = (trace.rewards, trace.values, trace.returns, trace.raw_advantages, trace.advantages)
            tensors = (experience.rewards, experience.old_values, experience.returns, experience.raw_advantages,
                       experience.advantages)
            used = [[tensor[row].item()] if level == "sequence" else tensor[row, :length].tolist()
                    for tensor in tensors]
            assert [list(found) for found in per_action] == used
            assert "".join(trace.texts) == told.response


def test_at_token_level_the_numbers_are_those_of_the_formulas(model_folders: dict[str, Path]) -> None:
    _, experience, samples, policy = stepped(model_folders["gpt_neo"], kl={"coef": 0.3}, algorithm={"discount": 0.9})
    raw: list[list[float]] = []
    for (prompt, response), told in zip(rows(experience), samples, strict=True):
        actor, reference = (by_hand(policy, role, prompt, response, 3.0) for role in ("actor", "reference"))
        values = values_by_hand(policy, prompt, response)[:-1]
        kl = [a - b for a, b in zip(actor, reference, strict=True)]
        rewards = [-0.3 * nats for nats in kl]
        rewards[-1] += told.score
        raw.append(gae_by_hand(rewards, values, 0.9, 0.95))
        assert told.trace is not None
        returns = [a + b for a, b in zip(raw[-1], values, strict=True)]
        for found, expected in ((told.trace.log_probs, actor), (told.trace.reference_log_probs, reference),
                                (told.trace.kl, kl), (told.trace.rewards, rewards), (told.trace.values, values),
                                (told.trace.returns, returns), (told.trace.raw_advantages, raw[-1])):
            assert found == pytest.approx(expected, **TOLERANCE)
        assert told.trace.kl_coef == 0.3
        assert told.trace.whitened
    flat = [value for row in raw for value in row]
    mean = sum(flat) / len(flat)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in flat) / len(flat))
    for row, told in zip(raw, samples, strict=True):
        assert told.trace is not None
        assert told.trace.advantages == pytest.approx([(value - mean) / deviation for value in row], **TOLERANCE)


def test_at_sequence_level_a_response_has_one_reward_value_and_advantage(model_folders: dict[str, Path]) -> None:
    ppo = {"level": "sequence", "whiten_advantages": False, "sequence_baseline": "response"}
    _, experience, samples, policy = stepped(model_folders["gpt_neo"], kl={"coef": 0.3}, algorithm=ppo)
    for (prompt, response), told in zip(rows(experience), samples, strict=True):
        actor, reference = (sum(by_hand(policy, role, prompt, response, 3.0)) for role in ("actor", "reference"))
        reward, value = told.score - 0.3 * (actor - reference), values_by_hand(policy, prompt, response)[-1]
        assert told.trace is not None
        assert told.trace.rewards == told.trace.returns == pytest.approx((reward,), **TOLERANCE)
        assert told.trace.values == pytest.approx((value,), **TOLERANCE)
        assert told.trace.advantages == pytest.approx((reward - value,), **TOLERANCE)
        assert not told.trace.whitened


def test_an_adaptive_coefficient_is_told_as_it_was_used(model_folders: dict[str, Path]) -> None:
    kl = {"controller": "adaptive", "target": 0.01, "horizon": 20, "coef": 0.2}
    ppo, _, samples, _ = stepped(model_folders["gpt_neo"], kl=kl)
    assert ppo.kl_coef != 0.2
    assert {told.trace.kl_coef for told in samples if told.trace} == {0.2}


# --- texts ---


@given(st.lists(st.integers(0, 256), max_size=30))
@settings(max_examples=200)
def test_the_texts_of_any_bytes_join_to_the_response(ids: list[int]) -> None:
    texts = token_texts(ids, decode(ids), decode)
    assert len(texts) == len(ids)
    assert "".join(texts) == decode(ids)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
@settings(max_examples=100)
def test_a_character_stands_with_the_last_of_its_bytes(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"] + [256]
    expected = [piece for letter in text for piece in [""] * (len(letter.encode()) - 1) + [letter]]
    assert token_texts(ids, text, decode) == (*expected, "")


def test_a_tokenizer_that_drops_the_first_space_keeps_those_between_words() -> None:
    words = {1: "▁Once", 2: "▁upon", 3: "▁a", 4: "fox"}

    def metaspace(ids: list[int]) -> str:
        return "".join(words[token] for token in ids).replace("▁", " ").removeprefix(" ")

    assert token_texts([1, 2, 4, 3], "Once uponfox a", metaspace) == ("Once", " upon", "fox", " a")


def test_long_garbage_is_decoded_in_short_pieces() -> None:
    longest = 0

    def measured(ids: list[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return decode(ids)

    ids = TOKENIZER("é" * 3)["input_ids"][:1] * 500  # the first half of a character, again and again
    assert "".join(token_texts(ids, decode(ids), measured)) == decode(ids)
    assert longest <= 8


# --- on disk ---

finite = st.floats(-1e6, 1e6)


@given(st.data())
def test_a_trace_comes_back_from_its_line_to_four_digits(data: st.DataObject) -> None:
    count, sequence_level = data.draw(st.integers(0, 5)), data.draw(st.booleans())

    def numbers(size: int) -> tuple[float, ...]:
        return tuple(data.draw(st.lists(finite, min_size=size, max_size=size)))

    tokens, actions = count, 1 if sequence_level else count
    texts = tuple(data.draw(st.lists(st.text(max_size=3), min_size=count, max_size=count)))
    trace = TokenTrace(texts, *(numbers(tokens) for _ in range(3)), *(numbers(actions) for _ in range(5)), 0.1, True,
                       sequence_level)
    told = Sample(1, "p", "".join(texts), 1.0, {}, 0.5, count, True, trace=trace)
    back = sample(json.loads(to_line(sample_row(told, traced=True)))).trace
    assert back is not None
    for name in ("log_probs", "reference_log_probs", "kl", "rewards", "values", "returns", "advantages"):
        assert getattr(back, name) == pytest.approx(getattr(trace, name), rel=5e-4, abs=1e-300)
    assert (back.texts, back.kl_coef, back.whitened, back.sequence_level) == (texts, 0.1, True, sequence_level)
    assert sample(json.loads(to_line(sample_row(told, traced=False)))).trace is None


def test_a_trace_of_before_advantages_were_written_raw_has_them_as_they_then_were() -> None:
    trace = TokenTrace(("a", "b"), *((1.0, 2.0),) * 5, (5.0, 7.0), (4.0, 5.0), (0.1, 0.2), 0.1, True, False)
    row = sample_row(Sample(1, "p", "ab", 1.0, {}, 0.5, 2, True, trace=trace), traced=True)
    assert sample(row).trace == trace
    del row["trace"]["raw_advantages"]
    assert sample(row).trace.raw_advantages == (4.0, 5.0)


@pytest.mark.parametrize("damage", [
    {"kl": [0.1]}, {"advantages": None}, {"texts": 3}, {"values": ["x", "y"]}, {"kl_coef": None}, {"returns": [1.0]},
])
def test_a_damaged_trace_costs_only_itself(damage: dict[str, object]) -> None:
    trace = TokenTrace(("a", "b"), *((1.0, 2.0),) * 8, 0.1, True, False)
    row = sample_row(Sample(1, "p", "ab", 1.0, {}, 0.5, 2, True, trace=trace), traced=True)
    assert sample(row).trace == trace
    row["trace"] |= damage
    assert sample(row).trace is None
    assert sample(row).response == "ab"


def test_the_run_keeps_traces_of_the_first_responses_of_each_step(neo_config: RunConfig, tmp_path: Path) -> None:
    requests, told = RequestQueue(), list[StepFinished]()

    def emit(event: object) -> None:
        if isinstance(event, StepFinished):
            told.append(event)
            requests.ask(Edit("train.traced_samples", 1))

    run = RunDir.create(tmp_path, neo_config)
    Trainer(neo_config, run_dir=run, requests=requests, emit=emit).run()
    kept = [[found.trace is not None for found in run.samples() if found.step == step] for step in (1, 2, 3)]
    assert kept == [[True] * 2 + [False] * 6, [True] + [False] * 7, [True] + [False] * 7]
    assert all(found.trace for event in told for found in event.samples)
    first = told[0].samples[0].trace
    back = run.samples()[0].trace
    assert first is not None
    assert back is not None
    assert back.advantages == tuple(float(f"{value:.4g}") for value in first.advantages)
    assert (run.path / SAMPLES).stat().st_size < 30_000
