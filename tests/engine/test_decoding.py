"""Prepared decoding answers as transformers does, token after token, and makes way where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import look_at_all_positions, stir, tiny_config
from torch import Tensor
from transformers import DynamicCache

from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.models.choice import GUMBEL, INVERSE_CDF, Draw
from rlhf_engine.models.decoding import captures
from rlhf_engine.models.decoding.plain import Decoder, PlainDecoder
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.language_head import LanguageHead
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout, sample
from rlhf_engine.models.token_log_probs import HeadTransform

PROMPTS = ["Once upon", "There was a", "x", "yz"]
STEPS = 12
HOT = SamplingConfig(max_new_tokens=20, temperature=6.0)
HALF = ("bfloat16", "float16")


@pytest.fixture(params=["gpt_neo", "llama", "gpt2"])
def policy(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> Policy:
    policy = Policy.from_config(tiny_config(model_folders[request.param]))
    if request.param == "gpt_neo":
        look_at_all_positions(policy)  # its window of 8 has a test of its own
    stir(policy)
    return policy


class TransformersDecoder(PlainDecoder):
    """With transformers' own cache, which grows."""

    def start(self, ids: Tensor, mask: Tensor, new_tokens: int, choice: object = None) -> Tensor:
        self.cache, self._columns = DynamicCache(config=self._model.base.config), ids.shape[1]
        self._mask = torch.cat([mask, mask.new_ones(len(ids), new_tokens)], dim=1)
        return self._model.forward(ids, mask, self.cache)[:, -1]


def hidden_states(decoder: Decoder, policy: Policy, prompts: list[str] = PROMPTS) -> Tensor:
    """[steps, batch, hidden] after the prompts and after each of some fixed tokens."""
    ids, mask = policy.encode(prompts)
    tokens = torch.randint(0, 200, (STEPS, len(prompts)), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = decoder.start(ids, mask, STEPS)
        return torch.stack([first, *(decoder.step(chosen) for chosen in tokens)])


def assert_same(policy: Policy, decoder: PreparedDecoder, prompts: list[str] = PROMPTS) -> None:
    ours, theirs = hidden_states(decoder, policy, prompts), hidden_states(TransformersDecoder(policy), policy, prompts)
    assert decoder.why_plain == ""
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-5)


def roll(policy: Policy, decoder: Decoder | None = None, prompts: list[str] = PROMPTS, *, seed: int = 3,
         draw: Draw = INVERSE_CDF, sampling: SamplingConfig = HOT) -> Rollout:
    return sample(policy, prompts, sampling, torch.Generator().manual_seed(seed), decoder=decoder, draw=draw)


# --- prepared weights, roomy cache ---


def test_prepared_decoding_equals_a_forward_pass(policy: Policy) -> None:
    decoder = PreparedDecoder(policy)
    for prompts in (PROMPTS, ["a", "Quite another prompt", "b", "c"], ["only", "two"], PROMPTS):
        assert_same(policy, decoder, prompts)


def test_prompts_that_come_several_times_are_read_once(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    forward = policy.forward

    def note(ids: Tensor, *rest: object, **options: object) -> Tensor:
        read.append(len(ids))
        return forward(ids, *rest, **options)

    monkeypatch.setattr(policy, "forward", note)
    group = ["b", "a", "b", "There was a", "a", "b"]
    ours = hidden_states(PlainDecoder(policy), policy, group)
    assert read == [3] + [6] * STEPS
    theirs = hidden_states(TransformersDecoder(policy), policy, group)
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-5)


def test_every_rollout_decodes_with_the_adapters_as_they_are_by_then(policy: Policy) -> None:
    decoder = PreparedDecoder(policy)
    before = hidden_states(decoder, policy)
    for seed in range(1, 6):
        with policy.as_role("reference"):
            assert_same(policy, decoder)
        stir(policy, seed)
        assert_same(policy, decoder)
    assert not torch.allclose(before, hidden_states(decoder, policy))


def test_decoding_leaves_the_policy_exactly_as_it_was(policy: Policy) -> None:
    ids, mask = policy.encode(PROMPTS)
    roles = ("actor", "reference")
    with torch.no_grad():
        before = [policy.log_probs(role, ids, mask, 2, 1.0).log_probs for role in roles]
        hidden_states(PreparedDecoder(policy), policy)
        after = [policy.log_probs(role, ids, mask, 2, 1.0).log_probs for role in roles]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)


def test_a_prepared_rollout_samples_the_same_tokens(policy: Policy) -> None:
    decoder = PreparedDecoder(policy)
    assert torch.equal(roll(policy, decoder).response_ids, roll(policy).response_ids)


@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_keeps_adapters_apart_and_answers_the_same_up_to_rounding(
    model_folders: dict[str, Path], architecture: str, dtype: str
) -> None:
    policy = Policy.from_config(tiny_config(model_folders[architecture], model={"dtype": dtype}))
    exact = Policy.from_config(tiny_config(model_folders[architecture]))
    decoder = PreparedDecoder(policy)
    for seed in range(5):  # beyond the rollouts in which it is checked
        stir(policy, seed)
        stir(exact, seed)
        for role in ("actor", "reference"):
            with policy.as_role(role), exact.as_role(role):
                truth = hidden_states(PlainDecoder(exact), exact)
                ours, plain = (hidden_states(one, policy).float() for one in (decoder, PlainDecoder(policy)))
                # about as far from exact numbers as a plain pass in half precision is, which adds in float32 what
                # these adapters make, as large as what the base makes
                assert (ours - truth).abs().mean() <= 1.6 * (plain - truth).abs().mean()
    assert decoder.why_plain == ""


def test_small_changes_of_an_adapter_are_not_rounded_away_in_half_precision(model_folders: dict[str, Path]) -> None:
    """Merged into a weight of bfloat16 they would be."""
    policy = Policy.from_config(tiny_config(model_folders["llama"], model={"dtype": "bfloat16"}))
    decoder, x = PreparedDecoder(policy), torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    stir(policy)
    parameters = policy.adapters["actor"].values()
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(0.02)
        hidden_states(decoder, policy)
        linear = policy.adapted[0]
        a, b, scale = linear.low_rank() or pytest.fail("no adapter")
        wanted = (x.float() @ a.float().t() @ b.float().t() * scale).abs().mean()
        with decoder._weights.in_use():
            tuned = linear(x).float()
        with policy.as_role("reference"):
            hidden_states(decoder, policy)
            with decoder._weights.in_use():
                base = linear(x).float()
    assert (tuned - base).abs().mean() > 0.3 * wanted


def test_a_window_shorter_than_the_response_is_decoded_as_the_model_does(model_folders: dict[str, Path]) -> None:
    policy = Policy.from_config(tiny_config(model_folders["gpt_neo"]))  # local attention over 8 positions
    stir(policy)
    assert_same(policy, PreparedDecoder(policy))


def test_a_model_that_answers_otherwise_with_joined_weights_is_decoded_plainly(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    decoder, linear = PreparedDecoder(policy, told.append), policy.adapted[0]
    monkeypatch.setattr(linear, "merge", lambda into: into.zero_())
    ours = hidden_states(decoder, policy)
    hidden_states(decoder, policy)
    assert decoder.why_plain
    (said,) = told
    assert decoder.why_plain in said
    torch.testing.assert_close(ours, hidden_states(TransformersDecoder(policy), policy), atol=1e-4, rtol=1e-4)


def test_control_flow_on_data_is_no_obstacle(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    original = policy.base.base_model.forward

    def looks_at_data(input_ids: Tensor, position_ids: Tensor, **options: object) -> object:
        if input_ids.sum() < 0:
            raise AssertionError
        return original(input_ids=input_ids, position_ids=position_ids, **options)

    monkeypatch.setattr(policy.base.base_model, "forward", looks_at_data)
    assert_same(policy, PreparedDecoder(policy))


# --- a token as a whole: on a CPU "captured" is called anew, on the tensors that a graph would read ---


def again(run: Callable[[], None], rewind: Callable[[], None]) -> Callable[[], None]:
    rewind()
    run()  # as a capture's first calls do
    return run


def captured_decoder(policy: Policy, told: list[str] | None = None) -> PreparedDecoder:
    return PreparedDecoder(policy, (told if told is not None else []).append, capture=again)


@pytest.mark.parametrize("draw", [INVERSE_CDF, GUMBEL])
def test_a_captured_token_is_what_a_plain_rollout_samples(policy: Policy, draw: Draw) -> None:
    told: list[str] = []
    decoder = captured_decoder(policy, told)
    for seed, prompts in enumerate([PROMPTS, PROMPTS[::-1], ["x", "Long ago", "x"], PROMPTS]):
        stir(policy, seed)
        ours, plain = (roll(policy, one, prompts, seed=seed, draw=draw) for one in (decoder, None))
        assert torch.equal(ours.response_ids, plain.response_ids)
        assert torch.equal(ours.response_mask, plain.response_mask)
        assert torch.equal(ours.finished, plain.finished)
        torch.testing.assert_close(ours.log_probs, plain.log_probs, atol=1e-4, rtol=1e-4)
    assert told == []
    assert [rows for rows, _ in decoder.captures.shapes] == [3, 4]


@pytest.mark.parametrize("draw", [INVERSE_CDF, GUMBEL])
def test_a_captured_rollout_uses_up_random_numbers_and_shows_its_tokens_as_a_plain_one_does(
    policy: Policy, draw: Draw
) -> None:
    decoder, seen = captured_decoder(policy), dict[str, list[list[list[int]]]]()
    states, rollouts = [], []
    for name, one in (("other", decoder), ("captured", decoder), ("plain", None)):
        generator = torch.Generator().manual_seed(9 if name == "other" else 4)
        shown = seen.setdefault(name, [])

        def show(tokens: list[Tensor], shown: list[list[list[int]]] = shown) -> bool:
            shown.append([column.tolist() for column in tokens])
            return len(tokens) == 7

        rollouts.append(sample(policy, PROMPTS, HOT, generator, decoder=one, draw=draw, on_token=show))
        states.append(generator.get_state())
    assert seen["captured"] == seen["plain"] != seen["other"]
    assert torch.equal(states[1], states[2])
    # the next rollout of a graph writes over nothing that the last one gave
    assert rollouts[0].response_ids.t().tolist() == seen["other"][-1]
    assert rollouts[1].response_ids.t().tolist() == seen["captured"][-1]


def test_other_settings_are_not_answered_by_a_token_captured_with_these(policy: Policy) -> None:
    decoder = captured_decoder(policy)
    for options in ({"temperature": 6.0}, {"temperature": 0.1}, {"top_k": 1, "allow_truncation": True}):
        sampling = SamplingConfig(max_new_tokens=10, **options)
        ours, plain = roll(policy, decoder, sampling=sampling), roll(policy, sampling=sampling)
        assert torch.equal(ours.response_ids, plain.response_ids)
    with policy.as_role("reference"):
        assert torch.equal(roll(policy, decoder).response_ids, roll(policy).response_ids)


def test_only_some_captures_are_kept_and_those_used_last(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "_MOST_KEPT", 3)
    monkeypatch.setattr(captures, "_KEPT", 2)
    decoder = captured_decoder(policy)

    def batches() -> list[int]:
        return [batch for batch, _ in decoder.captures.shapes]

    for prompts in (["a"], ["a", "b"], ["a", "b", "c"], ["d"]):
        roll(policy, decoder, prompts)
    assert batches() == [2, 3, 1]
    roll(policy, decoder, PROMPTS)
    assert batches() == [3, 1, 4]
    monkeypatch.setattr(captures, "_KEPT_BYTES", 0)  # as where a cache is large
    roll(policy, decoder, ["d", "e", "f", "g", "h"])
    assert batches() == [4, 5]


def test_a_window_shorter_than_the_cache_is_not_captured(model_folders: dict[str, Path]) -> None:
    policy, told = Policy.from_config(tiny_config(model_folders["gpt_neo"])), []
    stir(policy)
    decoder = captured_decoder(policy, told)
    for _ in range(2):
        assert torch.equal(roll(policy, decoder).response_ids, roll(policy).response_ids)
    (said,) = told
    assert decoder.captures.why_not in said
    assert decoder.captures.shapes == []


def test_what_cannot_be_captured_is_decoded_without_and_told_once(policy: Policy) -> None:
    told: list[str] = []

    def refuse(run: Callable[[], None], rewind: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    decoder = PreparedDecoder(policy, told.append, capture=refuse)
    for _ in range(3):
        assert torch.equal(roll(policy, decoder).response_ids, roll(policy).response_ids)
    (said,) = told
    assert "not permitted" in said
    assert decoder.why_plain == ""


@pytest.mark.parametrize("earlier", [1, 5])  # the first rollouts are held to the model's own answers
@pytest.mark.parametrize("draw", [INVERSE_CDF, GUMBEL])
def test_broken_weights_leave_nothing_behind_in_a_capture(policy: Policy, earlier: int, draw: Draw) -> None:
    decoder, shorter = captured_decoder(policy), ["Once", "a", "x", "yz"]
    for _ in range(earlier):
        before = [roll(policy, decoder, prompts, draw=draw).response_ids for prompts in (shorter, PROMPTS)]
    for parameter in policy.adapters["actor"].values():
        parameter.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError):
        roll(policy, decoder, draw=draw)
    stir(policy)
    after = [roll(policy, decoder, prompts, draw=draw).response_ids for prompts in (shorter, PROMPTS)]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert len(decoder.captures.shapes) == 1


def test_out_of_memory_while_capturing_is_told_and_tried_again_later(policy: Policy) -> None:
    told: list[str] = []
    full, tried = [True], []

    def capture(run: Callable[[], None], rewind: Callable[[], None]) -> Callable[[], None]:
        tried.append(run)
        if full[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return again(run, rewind)

    decoder, plain = PreparedDecoder(policy, told.append, capture=capture), roll(policy).response_ids
    for _ in range(4):
        assert torch.equal(roll(policy, decoder).response_ids, plain)
    assert len(tried) == len(told) == 1
    assert "out of memory" in told[0]
    full[0] = False
    for _ in range(2):
        assert torch.equal(roll(policy, decoder).response_ids, plain)
    assert len(tried) == 2
    assert decoder.captures.why_not == ""
    assert decoder.captures.shapes
    assert len(told) == 1


def test_memory_that_stays_full_is_not_asked_for_for_ever(policy: Policy) -> None:
    told: list[str] = []
    tried = []

    def full(run: Callable[[], None], rewind: Callable[[], None]) -> Callable[[], None]:
        tried.append(run)
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:  # as a capture that was cut short does
            raise RuntimeError("operation failed due to a previous error during capture")

    decoder = PreparedDecoder(policy, told.append, capture=full)
    for _ in range(150):
        roll(policy, decoder, ["a"], sampling=SamplingConfig(max_new_tokens=1))
    assert len(tried) == 4
    assert len(told) == 4
    assert len(set(told)) == 4
    assert "4 times" in decoder.captures.why_not


# --- drawing ---


def test_drawing_by_inverse_follows_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    p = (torch.randn(300, generator=generator) * 2).softmax(0)
    p[[0, 5, 299]] = 0
    p[64:128] = 0  # a whole block
    p /= p.sum()
    draws = 200_000
    noise = INVERSE_CDF.noise(generator, 1, draws, 300)(0)
    counts = torch.bincount(INVERSE_CDF.pick(p.expand(draws, -1), noise), minlength=300)
    assert counts[p == 0].sum() == 0
    expected = p[p > 0].double() * draws
    freedom = len(expected) - 1
    chi_squared = float(((counts[p > 0] - expected).square() / expected).sum())
    assert abs(chi_squared - freedom) < 4 * (2 * freedom) ** 0.5  # its mean and standard deviation


@pytest.mark.parametrize("certain", [0, 63, 64, 70, 129])
def test_drawing_by_inverse_never_misses_a_certain_id(certain: int) -> None:
    p = torch.zeros(1000, 130)
    p[:, certain] = 1.0
    noise = INVERSE_CDF.noise(torch.Generator().manual_seed(0), 1, 1000, 130)(0)
    assert (INVERSE_CDF.pick(p, noise) == certain).all()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130, 700])
def test_drawing_by_inverse_finds_where_the_running_sum_passes(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    p = (torch.randn(500, count, generator=generator) * 3).softmax(1)
    noise = INVERSE_CDF.noise(generator, 1, 500, count)(0)
    sums = p.double().cumsum(1)
    drawn = INVERSE_CDF.pick(p, noise).unsqueeze(1)
    wanted, slack = noise * sums[:, -1:], 1e-6  # sums inside a block are exact, those of a block are rounded to float32
    assert (sums.gather(1, drawn) >= wanted - slack).all()
    assert (sums.gather(1, drawn) - p.gather(1, drawn) <= wanted + slack).all()


@pytest.mark.parametrize("draw", [INVERSE_CDF, GUMBEL])
def test_random_numbers_are_used_up_whatever_the_model_says(policy: Policy, draw: Draw) -> None:
    generator = torch.Generator().manual_seed(0)
    states = []
    for temperature in (0.1, 6.0):
        generator.manual_seed(0)
        sample(policy, PROMPTS, SamplingConfig(max_new_tokens=3, temperature=temperature), generator, draw=draw)
        states.append(generator.get_state())
    assert torch.equal(*states)


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("copied", [True, False])
def test_logits_of_a_step_are_the_models_own_in_either_order(
    policy: Policy, rows: int, copied: bool
) -> None:
    head = LanguageHead(policy.base, policy.banned, HeadTransform(), copied_bytes=10**9 if copied else 0)
    hidden = torch.randn(rows, policy.base.config.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = (policy.base.get_output_embeddings()(hidden) / 0.7)[:, ~policy.banned]
        found = head.next_logits(hidden, 0.7)
    torch.testing.assert_close(found[:, ~policy.banned], expected, atol=1e-5, rtol=1e-5)
    assert (found[:, policy.banned] == -torch.inf).all()
