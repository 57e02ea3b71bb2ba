"""Chunked log-probs against plain log_softmax and autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlhf_engine.models.compiled import Compiled
from rlhf_engine.models.token_log_probs import HeadTransform, TokenLogProbs, chosen_log_probs, logit_statistics

ROWS, HIDDEN, VOCABULARY = 11, 6, 17
# what is compiled on a GPU, as Python runs it: test_compiled compiles it
STATISTICS = Compiled("log-probs", logit_statistics, rows=(0, 1), compiler=lambda function: function)
both_ways = pytest.mark.parametrize("statistics", [None, STATISTICS], ids=["passes", "statistics"])


@pytest.fixture
def head() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden (with gradient), weight, bias, token_ids."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, HIDDEN, generator=generator).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator)
    bias = torch.randn(VOCABULARY, generator=generator)
    return hidden, weight, bias, torch.randint(0, VOCABULARY, (ROWS,), generator=generator)


def plain(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    token_ids: Tensor,
    *,
    temperature: float = 1.0,
    banned: Tensor | None = None,
    transform: HeadTransform | None = None,
) -> TokenLogProbs:
    """The textbook way: all logits at once, gradient by autograd."""
    logits = torch.nn.functional.linear(hidden, weight, bias).float()
    if transform is not None:
        logits = logits * transform.scale
        if transform.softcap is not None:
            logits = transform.softcap * torch.tanh(logits / transform.softcap)
    logits = logits / temperature
    if banned is not None:
        logits = logits.masked_fill(banned, -torch.inf)
    distribution = torch.distributions.Categorical(logits=logits)
    best = distribution.logits.detach().max(dim=-1).values
    return TokenLogProbs(distribution.log_prob(token_ids), distribution.entropy().detach(), best)


def gradient_of(result: Tensor, hidden: Tensor) -> Tensor:
    """Of a weighted sum, so that rows must not be mixed up."""
    weights = torch.linspace(-1.0, 2.0, result.numel()).reshape(result.shape)
    (gradient,) = torch.autograd.grad((result * weights).sum(), hidden)
    return gradient


BANNED = torch.zeros(VOCABULARY, dtype=torch.bool)
BANNED[[2, 5, 16]] = True


@both_ways
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7},
        {"transform": HeadTransform(scale=0.25)},
        {"transform": HeadTransform(softcap=1.5)},
        {"temperature": 1.3, "transform": HeadTransform(scale=2.0, softcap=3.0), "banned": BANNED},
    ],
)
def test_equals_log_softmax_gradients_included(
    head: tuple[Tensor, ...], options: dict[str, Any], with_bias: bool, statistics: Compiled | None
) -> None:
    hidden, weight, bias, token_ids = head
    token_ids = torch.where(BANNED[token_ids], 0, token_ids)
    args = (hidden, weight, bias if with_bias else None, token_ids)
    ours, expected = chosen_log_probs(*args, **options, statistics=statistics), plain(*args, **options)
    assert torch.allclose(ours.best, expected.best, atol=1e-5)
    assert not ours.best.requires_grad
    assert torch.allclose(ours.log_probs, expected.log_probs, atol=1e-5)
    if "banned" not in options:  # Categorical's entropy is NaN for a probability of zero
        assert torch.allclose(ours.entropy, expected.entropy, atol=1e-5)
    ours_gradient, expected_gradient = gradient_of(ours.log_probs, hidden), gradient_of(expected.log_probs, hidden)
    assert expected_gradient.abs().max() > 0.1
    assert torch.allclose(ours_gradient, expected_gradient, atol=1e-5)


@pytest.mark.parametrize("count", [1, 6, 7, 150])  # of 200: few are left out column by column
def test_banned_ids_that_are_known_change_no_number(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    hidden = torch.randn(9, HIDDEN, generator=generator, requires_grad=True)
    weight, banned_ids = torch.randn(200, HIDDEN, generator=generator), torch.randperm(200, generator=generator)[:count]
    banned = torch.zeros(200, dtype=torch.bool).index_fill_(0, banned_ids, True)
    chosen = torch.randint(200, (9,), generator=generator)
    found = [chosen_log_probs(hidden, weight, None, chosen, banned=banned, banned_ids=known)
             for known in (banned_ids, None)]
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    assert torch.equal(*(torch.autograd.grad(each.log_probs[~banned[chosen]].sum(), hidden)[0] for each in found))


@both_ways
def test_without_gradient_the_numbers_are_the_same(head: tuple[Tensor, ...], statistics: Compiled | None) -> None:
    with_gradient = chosen_log_probs(*head, statistics=statistics)
    with torch.no_grad():
        without = chosen_log_probs(*head, statistics=statistics)
    assert not without.log_probs.requires_grad
    assert torch.equal(with_gradient.log_probs, without.log_probs)
    assert torch.equal(with_gradient.entropy, without.entropy)


@both_ways
def test_entropy_is_detached_and_that_of_a_uniform_distribution(statistics: Compiled | None) -> None:
    hidden = torch.zeros(2, HIDDEN, requires_grad=True)
    banned = torch.zeros(VOCABULARY, dtype=torch.bool)
    banned[:5] = True
    result = chosen_log_probs(hidden, torch.ones(VOCABULARY, HIDDEN), None, torch.tensor([6, 7]), banned=banned,
                              statistics=statistics)
    expected = torch.tensor(VOCABULARY - 5.0).log()
    assert not result.entropy.requires_grad
    assert torch.allclose(result.entropy, expected)
    assert torch.allclose(result.log_probs, -expected)


@both_ways
def test_allowed_tokens_share_all_the_probability(head: tuple[Tensor, ...], statistics: Compiled | None) -> None:
    hidden, weight, bias, _ = head
    rows = hidden[:1].expand(VOCABULARY, HIDDEN)
    every = torch.arange(VOCABULARY)
    log_probs = chosen_log_probs(rows, weight, bias, every, banned=BANNED, statistics=statistics).log_probs
    assert log_probs.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(log_probs == -torch.inf, BANNED)


@both_ways
def test_a_banned_choice_sends_back_a_gradient_of_zero(head: tuple[Tensor, ...], statistics: Compiled | None) -> None:
    hidden, weight, bias, _ = head
    token_ids = torch.zeros(ROWS, dtype=torch.int64)
    token_ids[3] = 2
    log_probs = chosen_log_probs(hidden, weight, bias, token_ids, banned=BANNED, statistics=statistics).log_probs
    assert log_probs[3] == -torch.inf
    gradient = gradient_of(log_probs, hidden)
    assert not gradient[3].any()
    assert gradient[[0, 1, 2, 4]].any(dim=1).all()


@both_ways
@pytest.mark.parametrize("chunk_size", [1, 3, ROWS, 1000])
def test_chunks_change_nothing(head: tuple[Tensor, ...], chunk_size: int, statistics: Compiled | None) -> None:
    whole = chosen_log_probs(*head, statistics=statistics)
    cut = chosen_log_probs(*head, chunk_size=chunk_size, statistics=statistics)
    assert torch.allclose(whole.log_probs, cut.log_probs, atol=1e-6)
    assert torch.allclose(whole.entropy, cut.entropy, atol=1e-6)
    assert torch.allclose(gradient_of(whole.log_probs, head[0]), gradient_of(cut.log_probs, head[0]), atol=1e-6)


def test_shape_follows_the_token_ids(head: tuple[Tensor, ...]) -> None:
    hidden, weight, bias, token_ids = head
    flat = chosen_log_probs(hidden[:10], weight, bias, token_ids[:10])
    boxed = chosen_log_probs(hidden[:10].reshape(2, 5, HIDDEN), weight, bias, token_ids[:10].reshape(2, 5))
    assert boxed.log_probs.shape == boxed.entropy.shape == (2, 5)
    assert torch.equal(boxed.log_probs.flatten(), flat.log_probs)
    gradient = gradient_of(boxed.log_probs, hidden)
    assert torch.allclose(gradient[:10], gradient_of(flat.log_probs, hidden)[:10])
    assert not gradient[10:].any()


@pytest.mark.parametrize("requires_grad", [True, False])
def test_no_rows_are_no_problem(requires_grad: bool) -> None:
    hidden = torch.zeros(0, HIDDEN, requires_grad=requires_grad)
    result = chosen_log_probs(hidden, torch.ones(VOCABULARY, HIDDEN), None, torch.zeros(0, dtype=torch.int64))
    assert result.log_probs.shape == result.entropy.shape == (0,)
    assert result.log_probs.requires_grad == requires_grad


def test_bfloat16_stays_within_its_rounding() -> None:
    """Logits rounded to 8 bits of mantissa: with |logit| < 4 an error below 2^-7 each, below 0.04 for log p."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(64, 32, generator=generator, dtype=torch.float64)
    weight = torch.randn(200, 32, generator=generator, dtype=torch.float64) / 8
    token_ids = torch.randint(0, 200, (64,), generator=generator)
    half_hidden, half_weight = hidden.bfloat16().requires_grad_(), weight.bfloat16()
    exact_hidden = half_hidden.detach().double().requires_grad_()
    ours = chosen_log_probs(half_hidden, half_weight, None, token_ids)
    exact = torch.log_softmax(exact_hidden @ half_weight.double().T, dim=1)[torch.arange(64), token_ids]
    assert ours.log_probs.dtype == torch.float32
    assert (ours.log_probs != ours.log_probs.bfloat16()).sum() > 50  # the log-softmax itself was not rounded
    assert (ours.log_probs - exact).abs().max() < 0.04
    gradient = gradient_of(ours.log_probs, half_hidden)
    assert gradient.dtype == torch.bfloat16
    assert (gradient - gradient_of(exact, exact_hidden)).abs().max() < 0.04


def test_float32_hidden_states_meet_a_bfloat16_head(head: tuple[Tensor, ...]) -> None:
    hidden, weight, bias, token_ids = head
    ours = chosen_log_probs(hidden, weight.bfloat16(), bias.bfloat16(), token_ids)
    assert torch.allclose(ours.log_probs, plain(*head).log_probs, atol=0.2)
    assert gradient_of(ours.log_probs, hidden).dtype == torch.float32


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_ever_holds_the_vocabulary_for_all_rows() -> None:
    hidden, weight = torch.randn(400, 4, requires_grad=True), torch.randn(1000, 4)
    token_ids = torch.arange(400)
    with LargestTensor() as watch:
        chosen_log_probs(hidden, weight, None, token_ids, chunk_size=10).log_probs.sum().backward()
    assert 0 < watch.elements <= 10 * 1000
    with LargestTensor() as control:
        plain(hidden, weight, None, token_ids)
    assert control.elements == 400 * 1000


def test_chunks_hold_at_most_64_megabytes_of_logits() -> None:
    vocabulary = 1024 * 1024  # 4 MiB of logits a row: chunks of 16
    with LargestTensor() as watch:
        chosen_log_probs(torch.ones(20, 1), torch.ones(vocabulary, 1), None, torch.arange(20))
    assert watch.elements == 16 * vocabulary


@pytest.mark.parametrize("which", [1, 2])
def test_a_head_that_wants_a_gradient_is_refused(head: tuple[Tensor, ...], which: int) -> None:
    args = list(head)
    args[which] = args[which].clone().requires_grad_()
    with pytest.raises(ValueError, match="must be frozen"):
        chosen_log_probs(*args)
    with torch.no_grad():  # nothing is recorded, so nothing can get lost
        chosen_log_probs(*args)


def test_misfits_are_refused(head: tuple[Tensor, ...]) -> None:
    hidden, weight, bias, token_ids = head
    with pytest.raises(ValueError, match="do not fit"):
        chosen_log_probs(hidden, weight, bias, token_ids[:-1])
    with pytest.raises(ValueError, match="do not fit"):
        chosen_log_probs(hidden[:, :-1], weight, bias, token_ids)
    with pytest.raises(ValueError, match=r"must be \[vocabulary\] = \[17\]"):
        chosen_log_probs(hidden, weight, bias, token_ids, banned=BANNED[:-1])
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature is"):
            chosen_log_probs(hidden, weight, bias, token_ids, temperature=temperature)
