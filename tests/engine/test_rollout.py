"""Sampling: what ends a response, what padding is, and that equal seeds give equal draws."""

from __future__ import annotations

import pytest
import torch

from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.models import rollout as rollout_module
from rlhf_engine.models.choice import GUMBEL, INVERSE_CDF, Draw, truncate
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import sample

PROMPTS = ["Once", "There was a", "x", "yz"]


def roll(policy: Policy, tokens: int = 30, seed: int = 0, **options: float):
    return sample(
        policy, PROMPTS, SamplingConfig(max_new_tokens=tokens, **options), torch.Generator().manual_seed(seed)
    )


def test_a_response_ends_with_its_end_token_which_counts(shared_policy: Policy) -> None:
    ended = 0
    for seed in range(12):
        rollout = roll(shared_policy, seed=seed, temperature=8.0)  # hot: ends are common
        for row in range(len(PROMPTS)):
            length = int(rollout.response_mask[row].sum())
            assert rollout.response_mask[row, :length].all()
            real = rollout.response_ids[row, :length].tolist()
            assert 256 not in real[:-1]
            assert bool(rollout.finished[row]) == (real[-1] == 256)
            assert (rollout.response_ids[row, length:] == shared_policy.pad_id).all()
            ended += bool(rollout.finished[row])
    assert ended > 0


def test_padding_of_its_own_is_never_sampled(shared_policy: Policy) -> None:
    if shared_policy.pad_id in shared_policy.end_ids:
        pytest.skip("this model pads with its end token")
    for seed in range(10):
        rollout = roll(shared_policy, seed=seed)
        assert not (rollout.response_ids[rollout.response_mask] == shared_policy.pad_id).any()


def test_equal_seeds_draw_alike_and_other_seeds_do_not(shared_policy: Policy) -> None:
    assert roll(shared_policy, seed=5).responses == roll(shared_policy, seed=5).responses
    assert roll(shared_policy, seed=5).responses != roll(shared_policy, seed=6).responses


def test_the_cache_changes_nothing(shared_policy: Policy) -> None:
    """Greedy decoding step by step without a cache finds the same tokens."""
    rollout = roll(shared_policy, tokens=8, top_k=1, allow_truncation=True)
    with torch.no_grad():
        for row in range(len(PROMPTS)):
            ids = rollout.prompt_ids[row][rollout.prompt_mask[row]]
            for token in rollout.response_ids[row][rollout.response_mask[row]]:
                logits = shared_policy.base(input_ids=ids[None]).logits[0, -1]
                logits[shared_policy.banned] = float("-inf")
                assert int(logits.argmax()) == int(token)
                ids = torch.cat([ids, token[None]])


def test_minibatches_lose_only_padding(shared_policy: Policy) -> None:
    rollout = roll(shared_policy)
    rows = torch.tensor([2, 0])
    ids, mask, response_mask = rollout.batch(rows)
    for place, row in enumerate(rows):
        whole = torch.cat(
            [rollout.prompt_ids[row][rollout.prompt_mask[row]], rollout.response_ids[row][rollout.response_mask[row]]]
        )
        assert torch.equal(ids[place][mask[place]], whole)
        assert int(response_mask[place].sum()) == int(rollout.response_mask[row].sum())
    assert mask[:, 0].any()
    assert response_mask[:, -1].any()


def test_an_empty_prompt_starts_from_the_start_token(shared_policy: Policy) -> None:
    rollout = sample(shared_policy, ["", "abc"], SamplingConfig(max_new_tokens=4), torch.Generator().manual_seed(0))
    assert rollout.prompt_ids[0][rollout.prompt_mask[0]].tolist() == [256]


def test_a_prompt_that_does_not_fit_says_how_much_does(shared_policy: Policy) -> None:
    with pytest.raises(
        ModelError, match=r"'a+.* has 60 tokens.* 5 .*max_new_tokens.* context of 64.* at most 4 "
    ):
        sample(shared_policy, ["a" * 60], SamplingConfig(max_new_tokens=5), torch.Generator())


def test_sampling_can_be_ended_from_outside(shared_policy: Policy) -> None:
    seen: list[int] = []

    def enough(tokens: list[torch.Tensor]) -> bool:
        seen.append(len(tokens))
        return len(tokens) == 3

    rollout = sample(
        shared_policy, ["a"], SamplingConfig(max_new_tokens=20), torch.Generator().manual_seed(1), on_token=enough
    )
    assert seen[:3] == list(range(1, len(seen) + 1))
    assert rollout.response_ids.shape[1] <= 3


def test_frequencies_follow_the_softmax(shared_policy: Policy) -> None:
    """2,000 first tokens after one prompt, against the model's own distribution."""
    count = 2000
    rollout = sample(
        shared_policy,
        ["q"] * count,
        SamplingConfig(max_new_tokens=1, temperature=0.5),
        torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        logits = shared_policy.base(input_ids=rollout.prompt_ids[:1]).logits[0, -1] / 0.5
    logits[shared_policy.banned] = float("-inf")
    expected = logits.softmax(-1)
    found = torch.bincount(rollout.response_ids[:, 0], minlength=len(expected)) / count
    spread = (expected * (1 - expected) / count).sqrt()
    assert ((found - expected).abs() <= 5 * spread + 2e-3).all()


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    kept = truncate(logits, SamplingConfig(top_k=2, allow_truncation=True)).isfinite()
    assert kept.tolist() == [[False, True, False, True]]
    kept = truncate(logits, SamplingConfig(top_p=0.7, allow_truncation=True)).isfinite()
    assert kept.tolist() == [[False, True, False, True]]
    kept = truncate(logits, SamplingConfig(top_p=0.1, allow_truncation=True)).isfinite()
    assert kept.tolist() == [[False, True, False, False]]


@pytest.mark.parametrize("draw", [INVERSE_CDF, GUMBEL])
def test_rows_that_have_ended_are_left_out_and_nothing_else_changes(
    shared_policy: Policy, monkeypatch: pytest.MonkeyPatch, draw: Draw
) -> None:
    sampling, decoded = SamplingConfig(max_new_tokens=30, temperature=8.0), []
    forward = shared_policy.forward

    def note(ids: torch.Tensor, *rest: object, **options: object) -> torch.Tensor:
        decoded.append(len(ids))
        return forward(ids, *rest, **options)

    monkeypatch.setattr(shared_policy, "forward", note)
    found = []
    for few in (0.0, 0.75):
        monkeypatch.setattr(rollout_module, "_FEW", few)
        decoded.clear()
        found.append(sample(shared_policy, PROMPTS * 10, sampling, torch.Generator().manual_seed(1), draw=draw))
        alive = found[-1].response_mask.sum(dim=0)
        assert decoded[1:] == [40] * len(decoded[1:]) if few == 0 else decoded[-1] <= alive[-1] / 0.75 + 1
    whole, fewer = found
    assert 0 < int(whole.finished.sum()) < 40
    for name in ("response_ids", "response_mask", "finished"):
        assert torch.equal(getattr(whole, name), getattr(fewer, name))
    assert whole.responses == fewer.responses
    torch.testing.assert_close(whole.log_probs, fewer.log_probs, atol=1e-4, rtol=1e-4)
