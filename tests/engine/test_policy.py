"""One base plays three roles, and what is scored is what was sampled from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import HFValidationError
from tiny_models import stir, tiny_config

from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.models.loading import load_model
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout, sample

PROMPTS = ["Once", "There was a", "x"]


@pytest.fixture
def stirred(shared_policy: Policy):
    """The shared policy with random adapters, put back afterwards."""
    parameters = shared_policy.parameters
    before = {name: p.detach().clone() for name, p in parameters.items()}
    stir(shared_policy)
    yield shared_policy
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(before[name])


def roll(policy: Policy, temperature: float = 1.0) -> Rollout:
    generator = torch.Generator().manual_seed(3)
    return sample(policy, PROMPTS, SamplingConfig(max_new_tokens=10, temperature=temperature), generator)


def plain_log_probs(policy: Policy, rollout: Rollout, row: int, temperature: float) -> torch.Tensor:
    """log_softmax(logits / T) of the sampled tokens of one row, by the whole model, unpadded."""
    ids = torch.cat(
        [rollout.prompt_ids[row][rollout.prompt_mask[row]], rollout.response_ids[row][rollout.response_mask[row]]]
    )
    width = int(rollout.response_mask[row].sum())
    logits = policy.base(input_ids=ids[None]).logits[0, -width - 1 : -1] / temperature
    logits[:, policy.banned] = float("-inf")
    return logits.log_softmax(-1).gather(-1, ids[-width:, None])[:, 0]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@torch.no_grad()
def test_scores_the_distribution_it_samples_from_whatever_the_padding(stirred: Policy, temperature: float) -> None:
    rollout = roll(stirred, temperature)
    ids, mask, response_mask = rollout.batch(torch.arange(len(PROMPTS)))
    for role in ("actor", "reference"):
        found = stirred.log_probs(role, ids, mask, response_mask.shape[1], temperature).log_probs
        for row in range(len(PROMPTS)):
            with stirred.as_role(role):
                plain = plain_log_probs(stirred, rollout, row, temperature)
            torch.testing.assert_close(found[row, : len(plain)], plain, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_actor_equals_reference_and_values_are_zero_before_any_update(shared_policy: Policy) -> None:
    ids, mask, response_mask = roll(shared_policy).batch(torch.arange(len(PROMPTS)))
    width = response_mask.shape[1]
    actor = shared_policy.log_probs("actor", ids, mask, width, 1.0).log_probs
    reference = shared_policy.log_probs("reference", ids, mask, width, 1.0).log_probs
    assert torch.equal(actor, reference)
    assert torch.count_nonzero(shared_policy.head_values("value", ids, mask, width)) == 0


@torch.no_grad()
def test_forward_passes_repeat_themselves_while_updating(stirred: Policy) -> None:
    ids, mask, response_mask = roll(stirred).batch(torch.arange(len(PROMPTS)))
    with stirred.updating():
        first = stirred.log_probs("actor", ids, mask, response_mask.shape[1], 1.0).log_probs
        second = stirred.log_probs("actor", ids, mask, response_mask.shape[1], 1.0).log_probs
    assert torch.equal(first, second)


@torch.no_grad()
def test_adapter_dropout_acts_in_updates_only(model_folders: dict[str, Path]) -> None:
    policy = Policy.from_config(tiny_config(model_folders["gpt_neo"], lora={"dropout": 0.5}))
    stir(policy)
    ids, mask, _ = roll(policy).batch(torch.arange(len(PROMPTS)))
    outside = [policy.log_probs("actor", ids, mask, 4, 1.0).log_probs for _ in range(2)]
    with policy.updating():
        inside = [policy.log_probs("actor", ids, mask, 4, 1.0).log_probs for _ in range(2)]
    assert torch.equal(*outside)
    assert not torch.equal(*inside)


@torch.no_grad()
def test_a_value_does_not_see_the_token_it_precedes(stirred: Policy) -> None:
    ids, mask, response_mask = roll(stirred).batch(torch.arange(len(PROMPTS)))
    width = response_mask.shape[1]
    edited = ids.clone()
    edited[:, -width + 5] = (edited[:, -width + 5] + 1) % 256
    before, after = stirred.head_values("value", ids, mask, width), stirred.head_values("value", edited, mask, width)
    assert torch.equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] != after[:, 6:]).any()
    before, after = (stirred.head_values("value", these, mask, width, after=True) for these in (ids, edited))
    seen = before != after
    assert seen[:, 5].any()
    assert not seen[:, :5].any()


@torch.no_grad()
def test_adapters_are_back_after_an_exception_in_the_reference(stirred: Policy) -> None:
    ids, mask, _ = roll(stirred).batch(torch.arange(len(PROMPTS)))
    before = stirred.log_probs("actor", ids, mask, 4, 1.0).log_probs
    with pytest.raises(ZeroDivisionError), stirred.as_role("reference"):
        _ = 1 / 0
    assert torch.equal(stirred.forward(ids, mask)[:, -5:-1], _actor_hidden(stirred, ids, mask))
    assert torch.equal(before, stirred.log_probs("actor", ids, mask, 4, 1.0).log_probs)


def _actor_hidden(policy: Policy, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with policy.as_role("actor"):
        return policy.forward(ids, mask)[:, -5:-1]


def test_gradients_of_actor_and_critic_stay_apart(stirred: Policy) -> None:
    ids, mask, _ = roll(stirred).batch(torch.arange(len(PROMPTS)))
    stirred.log_probs("actor", ids, mask, 4, 1.0).log_probs.sum().backward()
    assert all(p.grad is not None for p in stirred.adapters["actor"].values())
    assert all(p.grad is None for p in stirred.adapters["critic"].values())
    for parameter in stirred.adapters["actor"].values():
        parameter.grad = None
    stirred.head_values("value", ids, mask, 4).sum().backward()
    assert all(p.grad is not None for p in stirred.adapters["critic"].values())
    assert all(p.grad is None for p in stirred.adapters["actor"].values())
    assert all(p.grad is None for p in stirred.base.get_output_embeddings().parameters())
    for parameter in stirred.adapters["critic"].values():
        parameter.grad = None


def test_named_target_modules_are_taken(model_folders: dict[str, Path]) -> None:
    policy = Policy.from_config(tiny_config(model_folders["llama"], lora={"target_modules": ["q_proj"]}))
    assert len(policy.adapters["actor"]) == 2 * 2
    assert all("q_proj" in name for name in policy.adapters["actor"])


@pytest.mark.parametrize(("architecture", "modules"), [("gpt_neo", 8), ("llama", 8), ("gpt2", 4)])
def test_attention_projections_are_found_by_themselves(
    model_folders: dict[str, Path], architecture: str, modules: int
) -> None:
    policy = Policy.from_config(tiny_config(model_folders[architecture]))
    assert len(policy.adapters["actor"]) == 2 * modules


def test_target_modules_that_do_not_exist_are_named_with_those_that_do(model_folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"lora\.target_modules: nonsense does not fit .* q_proj"):
        Policy.from_config(tiny_config(model_folders["gpt_neo"], lora={"target_modules": ["nonsense"]}))


def refuse(error: Exception):
    """A hub that answers every question with this error."""

    def ask(*_: object, **__: object) -> None:
        raise error

    return ask


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("/no/such/folder", OSError("never asked"), "there is no folder"),
        (
            "no-such/model",
            ConnectionError("no route"),
            r"no folder in .*, and the hub cannot be reached \(ConnectionError\)",
        ),
        ("no-such/model", HFValidationError("bad name"), "the hub knows no model 'no-such/model'"),
    ],
)
def test_a_model_that_is_not_there_is_one_sentence(
    name: str, answer: Exception, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.model_info", refuse(answer))
    with pytest.raises(ModelError, match=says) as caught:
        Policy.from_config(tiny_config(Path(name)))
    assert "\n" not in str(caught.value)


def test_the_output_head_cannot_be_adapted(model_folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="the output head cannot be adapted"):
        Policy.from_config(tiny_config(model_folders["llama"], lora={"target_modules": ["q_proj", "lm_head"]}))


def test_a_model_s_own_code_is_neither_run_nor_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mystery", "auto_map": {"AutoConfig": "c.C"}}')
    (tmp_path / "c.py").write_text("raise SystemExit('the code was run')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    with pytest.raises(ModelError):
        Policy.from_config(tiny_config(tmp_path))


def test_a_model_too_large_for_its_device_is_one_sentence(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(ModelError, match="in float32 does not fit into the memory of cpu: take a smaller model"):
        load_model(tiny_config(model_folders["llama"]).model)


def test_damaged_weights_are_one_sentence(model_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(model_folders["llama"], tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cut off") as caught:
        Policy.from_config(tiny_config(tmp_path / "cut"))
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_no_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not hold a causal language model: it has no config") as caught:
        Policy.from_config(tiny_config(tmp_path))
    assert "\n" not in str(caught.value)


@torch.no_grad()
def test_fused_activations_give_the_model_s_own_logits(model_folders: dict[str, Path]) -> None:
    from transformers import AutoModelForCausalLM

    policy = Policy.from_config(tiny_config(model_folders["gpt_neo"]))
    plain = AutoModelForCausalLM.from_pretrained(model_folders["gpt_neo"], dtype=torch.float32)
    assert not any(type(module).__name__ == "NewGELUActivation" for module in policy.base.modules())
    ids = torch.tensor([[79, 110, 99, 101, 33, 44]])
    torch.testing.assert_close(policy.base(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-5, rtol=1e-5)
