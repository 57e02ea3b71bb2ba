"""Compiled functions answer as the plain ones do, and where they cannot, the plain ones compute."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_architectures import save_architecture
from tiny_models import stir, tiny_config
from torch import Tensor

from rlhf_engine.models.compiled import Compiled, why_plain
from rlhf_engine.models.loading import wants_compiled
from rlhf_engine.models.policy import Policy

needs_a_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")


def square(x: Tensor) -> Tensor:
    return x.square()


def compiled(compiler: Callable[[Any], Any], function: Callable[..., Any] = square) -> Compiled:
    return Compiled("square", function, rows=(0,), learns=(0,), compiler=compiler)


def test_what_is_compiled_computes() -> None:
    calls = []

    def counted(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x.square()

    function = compiled(lambda plain: counted)
    assert torch.equal(function(torch.ones(3)), torch.ones(3))
    before = len(calls)
    assert torch.equal(function(torch.full((2,), 3.0)), torch.full((2,), 9.0))
    assert len(calls) == before + 1
    assert function.why_not == ""


def refuses(function: Any) -> Any:
    def call(*args: Any) -> Any:
        raise RuntimeError("no compiler here")

    return call


def of_other_gradient(function: Any) -> Any:
    return lambda x: x.square() + (x - x.detach())


WRONG = {"cannot": refuses, "another answer": lambda function: torch.exp, "another gradient": of_other_gradient}


@pytest.mark.parametrize("compiler", WRONG.values(), ids=WRONG)
def test_what_cannot_be_compiled_is_computed_plainly_and_told(compiler: Callable[[Any], Any]) -> None:
    function = compiled(compiler)
    x = torch.tensor([1.0, 3.0], requires_grad=True)
    found = function(x)
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 6.0]
    assert found.tolist() == [1.0, 9.0]
    assert function.why_not
    (sentence,) = why_plain([function, function])
    assert sentence.count("square") == 1


def test_a_shape_that_cannot_be_compiled_later_is_computed_plainly() -> None:
    def few(x: Tensor) -> Tensor:
        if len(x) > 2:
            raise RuntimeError("not that many")
        return x.square()

    function = compiled(lambda plain: few)
    assert function(torch.ones(2)).tolist() == [1.0, 1.0]
    assert not function.why_not
    assert function(torch.full((3,), 2.0)).tolist() == [4.0, 4.0, 4.0]
    assert function.why_not


def test_memory_that_runs_out_is_for_others_to_handle() -> None:
    full = []

    def sometimes(x: Tensor) -> Tensor:
        if full:
            raise torch.OutOfMemoryError("out of memory")
        return x.square()

    function = compiled(lambda plain: sometimes)
    function(torch.ones(2))
    full.append(True)
    with pytest.raises(torch.OutOfMemoryError):
        function(torch.ones(2))
    full.clear()
    function(torch.ones(2))
    assert not function.why_not


def test_nothing_is_judged_by_numbers_that_are_not_finite() -> None:
    function = compiled(lambda plain: torch.square)
    assert function(torch.tensor([float("nan")])).isnan().all()
    assert function(torch.ones(2)).tolist() == [1.0, 1.0]
    assert not function.why_not


def test_who_compiles() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [wants_compiled(wanted, cpu) for wanted in ("auto", "on", "off")] == [False, True, False]
    assert [wants_compiled(wanted, cuda) for wanted in ("auto", "on", "off")] == [True, True, False]


def numbers_of(policy: Policy) -> list[Tensor]:
    """Log-probs, entropy and all gradients of a padded batch, and probabilities of the next tokens."""
    stir(policy)
    ids = torch.randint(3, 200, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, :5] = False
    told = policy.log_probs("actor", ids, mask, 6, 0.7, with_entropy=True)
    told.log_probs.square().sum().backward()
    gradients = [p.grad for p in policy.adapters["actor"].values() if p.grad is not None]
    with torch.no_grad():
        following = policy.next_probabilities(policy.forward(ids, mask)[:, -1], 0.7)
    assert not following[:, policy.banned].any()
    return [told.log_probs.detach(), told.entropy, following, *gradients]


@pytest.fixture
def as_python_runs_it(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is given to torch.compile, which gives it back as it is."""
    given: list[str] = []

    def keep(function: Any) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            given.append(function.__qualname__)
            return function(*args, **options)

        return run

    monkeypatch.setattr(torch, "compile", keep)
    return given


# name, and what of it is to be compiled: how often in a forward pass
ARCHITECTURES = {
    "mistral": {"MistralRMSNorm.forward": 5, "apply_rotary_pos_emb": 2, "_activate_and_multiply": 2},
    "gemma2": {"Gemma2RMSNorm.forward": 9, "apply_rotary_pos_emb": 2, "_activate_and_multiply": 2},
    "cohere": {"CohereLayerNorm.forward": 3, "apply_rotary_pos_emb": 2, "_activate_and_multiply": 2},
    "phi3": {"Phi3RMSNorm.forward": 5, "apply_rotary_pos_emb": 2},
    "gpt_neox": {"apply_rotary_pos_emb": 2},
    "opt": {},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_with_compiled_functions_answers_as_it_did(
    tmp_path: Path, name: str, as_python_runs_it: list[str]
) -> None:
    config = tiny_config(save_architecture(tmp_path, name))
    plain = Policy.from_config(config)
    expected = numbers_of(plain)
    assert as_python_runs_it == []
    policy = Policy.from_config(tiny_config(tmp_path, model={"compile": "on"}))
    assert policy.notices == plain.notices
    as_python_runs_it.clear()
    found = numbers_of(policy)
    called = {function: as_python_runs_it.count(function) for function in set(as_python_runs_it)}
    twice = {function: 2 * count for function, count in ARCHITECTURES[name].items()}
    assert called == twice | {"logit_statistics": 1, "token_probabilities": 1}
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-4)
    as_python_runs_it.clear()
    numbers_of(plain)  # of the same classes
    assert as_python_runs_it == []


@needs_a_compiler
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_compiles_them(model_folders: dict[str, Path], dtype: str) -> None:
    off, on, exact = (Policy.from_config(tiny_config(model_folders["llama"], model={"dtype": kind, "compile": wanted}))
                      for kind, wanted in ((dtype, "off"), (dtype, "on"), ("float32", "off")))
    assert on.notices == off.notices
    assert on.compile_seconds > 0
    expected = numbers_of(exact)
    rounding, error = (sum(float((ours - theirs).norm() / theirs.norm())
                           for ours, theirs in zip(numbers_of(policy), expected, strict=True)) for policy in (off, on))
    assert error <= 2 * rounding + 1e-4  # a single draw of either; there is no rounding in float32
