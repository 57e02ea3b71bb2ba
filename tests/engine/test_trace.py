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
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.events import Sample, StepFinished
from rlhf_engine.learning.update import AdapterUpdate
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.token_texts import token_texts
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import SAMPLES
from rlhf_engine.runs.run_lines import sample, sample_row, to_line
from rlhf_engine.token_trace import TokenTrace
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
            tokens = {"log_probs": experience.log_probs, "reference_log_probs": experience.reference_log_probs,
                      "kl": experience.token_kl}
            actions = {"rewards": experience.rewards, "values": experience.old_values, "returns": experience.returns,
                       "raw_advantages": experience.raw_advantages, "advantages": experience.advantages}
            facts = {"kl_coef": 0.1, "whitened": 1.0}
            if level == "sequence":
                assert trace.whole == {name: tensor[row].item() for name, tensor in actions.items()} | facts
            else:
                tokens |= actions
                assert trace.whole == facts
            assert trace.series == {name: tuple(tensor[row, :length].tolist()) for name, tensor in tokens.items()}
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
        by_formula = {"log_probs": actor, "reference_log_probs": reference, "kl": kl, "rewards": rewards,
                      "values": values, "returns": returns, "raw_advantages": raw[-1]}
        for name, expected in by_formula.items():
            assert told.trace.series[name] == pytest.approx(expected, **TOLERANCE)
        assert told.trace.whole == {"kl_coef": 0.3, "whitened": 1.0}
    flat = [value for row in raw for value in row]
    mean = sum(flat) / len(flat)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in flat) / len(flat))
    for row, told in zip(raw, samples, strict=True):
        assert told.trace is not None
        whitened = [(value - mean) / deviation for value in row]
        assert told.trace.series["advantages"] == pytest.approx(whitened, **TOLERANCE)


def test_at_sequence_level_a_response_has_one_reward_value_and_advantage(model_folders: dict[str, Path]) -> None:
    ppo = {"level": "sequence", "whiten_advantages": False, "sequence_baseline": "response"}
    _, experience, samples, policy = stepped(model_folders["gpt_neo"], kl={"coef": 0.3}, algorithm=ppo)
    for (prompt, response), told in zip(rows(experience), samples, strict=True):
        actor, reference = (sum(by_hand(policy, role, prompt, response, 3.0)) for role in ("actor", "reference"))
        reward, value = told.score - 0.3 * (actor - reference), values_by_hand(policy, prompt, response)[-1]
        assert told.trace is not None
        whole = told.trace.whole
        assert whole["rewards"] == whole["returns"] == pytest.approx(reward, **TOLERANCE)
        assert whole["values"] == pytest.approx(value, **TOLERANCE)
        assert whole["advantages"] == pytest.approx(reward - value, **TOLERANCE)
        assert not whole["whitened"]


def test_an_adaptive_coefficient_is_told_as_it_was_used(model_folders: dict[str, Path]) -> None:
    kl = {"controller": "adaptive", "target": 0.01, "horizon": 20, "coef": 0.2}
    ppo, _, samples, _ = stepped(model_folders["gpt_neo"], kl=kl)
    assert ppo.kl_coef != 0.2
    assert {told.trace.whole["kl_coef"] for told in samples if told.trace} == {0.2}


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


numbers = st.dictionaries(st.text(max_size=9), finite, max_size=3)


@given(st.data())
def test_a_trace_comes_back_from_its_line_to_four_digits(data: st.DataObject) -> None:
    texts = tuple(data.draw(st.lists(st.text(max_size=3), max_size=5)))
    row = st.lists(finite, min_size=len(texts), max_size=len(texts)).map(tuple)
    trace = TokenTrace(texts, data.draw(st.dictionaries(st.text(max_size=9), row, max_size=3)), data.draw(numbers))
    told = Sample(1, "p", "".join(texts), 1.0, {}, 0.5, len(texts), True, trace=trace)
    back = sample(json.loads(to_line(sample_row(told, traced=True)))).trace
    assert back is not None
    assert back.series.keys() == trace.series.keys()
    for name, values in trace.series.items():
        assert back.series[name] == pytest.approx(values, rel=5e-4, abs=1e-300)
    assert (back.texts, back.whole) == (texts, trace.whole)
    assert sample(json.loads(to_line(sample_row(told, traced=False)))).trace is None


@pytest.mark.parametrize("has", [{}, {"score": 1.5}, {"kl": 0.25}, {"score": math.nan, "kl": 0.0}])
def test_what_a_response_has_not_is_still_not_there_when_it_is_read(has: dict[str, float]) -> None:
    told = Sample(1, "p", "ab", has.get("score"), {}, has.get("kl"), 2, True)
    back = sample(json.loads(to_line(sample_row(told, traced=True))))
    for name in ("score", "kl"):
        found = getattr(back, name)
        assert found == pytest.approx(has[name], nan_ok=True) if name in has else found is None


def earlier(**changes: object) -> dict[str, Any]:
    """A row of samples.jsonl as it was while there was one method."""
    row = {
        "texts": ["a", "b"], "log_probs": [-1.0, -2.0], "reference_log_probs": [-3.0, -2.0], "kl": [2.0, 0.0],
        "rewards": [-0.2, 1.0], "values": [1.0, 2.0], "returns": [5.0, 7.0], "raw_advantages": [4.0, 5.5],
        "advantages": [0.1, 0.2], "kl_coef": 0.1, "whitened": True, "sequence_level": False,
    } | changes
    return sample_row(Sample(1, "p", "ab", 1.0, {}, 0.5, 2, True), traced=True) | {"trace": row}


ONE_ACTION = {"rewards": [1.0], "values": [2.0], "returns": [3.0], "raw_advantages": [1.5], "advantages": [0.5],
              "sequence_level": True}


def test_the_traces_of_earlier_runs_are_read_by_token_and_by_response() -> None:
    trace = sample(earlier()).trace
    assert trace is not None
    assert trace.texts == ("a", "b")
    assert trace.series["raw_advantages"] == (4.0, 5.5)
    assert trace.series["kl"] == (2.0, 0.0)
    assert trace.whole == {"kl_coef": 0.1, "whitened": 1.0}
    trace = sample(earlier(**ONE_ACTION, whitened=False)).trace
    assert trace is not None
    assert trace.series.keys() == {"log_probs", "reference_log_probs", "kl"}
    assert trace.whole == {"rewards": 1.0, "values": 2.0, "returns": 3.0, "raw_advantages": 1.5, "advantages": 0.5,
                           "kl_coef": 0.1, "whitened": 0.0}


def test_a_trace_of_before_advantages_were_written_raw_has_them_as_they_then_were() -> None:
    row = earlier()
    del row["trace"]["raw_advantages"]
    trace = sample(row).trace
    assert trace is not None
    assert trace.series["raw_advantages"] == (4.0, 5.0)


@pytest.mark.parametrize("damage", [
    {"kl": [0.1]}, {"advantages": None}, {"texts": 3}, {"values": ["x", "y"]}, {"kl_coef": None}, {"returns": [1.0]},
    {"sequence_level": True},
])
def test_a_damaged_trace_of_an_earlier_run_costs_only_itself(damage: dict[str, object]) -> None:
    found = sample(earlier(**damage))
    assert found.trace is None
    assert found.response == "ab"


@pytest.mark.parametrize("damage", [
    {"series": {"kl": [0.1]}}, {"series": {"kl": None}}, {"series": 3}, {"texts": 3}, {"series": {"kl": ["x", "y"]}},
    {"whole": None}, {"whole": {"kl_coef": "x"}}, {"series": {str(at): [1.0, 2.0] for at in range(1001)}},
])
def test_a_damaged_trace_costs_only_itself(damage: dict[str, object]) -> None:
    trace = TokenTrace(("a", "b"), {"kl": (1.0, 2.0)}, {"kl_coef": 0.1})
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
    assert back.series["advantages"] == tuple(float(f"{value:.4g}") for value in first.series["advantages"])
    assert (run.path / SAMPLES).stat().st_size < 30_000
