"""A model is served as what it is, or refused in one sentence when it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_architectures import save_architecture
from tiny_models import says_what_transformers_says, stir, tiny_config
from typer.testing import CliRunner

from rlhf_engine.commands.cli import make_app
from rlhf_engine.errors import ModelError
from rlhf_engine.events import Event, Notice, RunState
from rlhf_engine.models.flops import ModelSize
from rlhf_engine.models.policy import Policy
from rlhf_engine.training.trainer import Trainer

SERVED = ["opt", "bloom", "mpt", "falcon", "gpt_neox", "gemma2", "cohere", "mistral", "mixtral", "jetmoe", "jamba"]
UNCACHED = ["mamba", "mamba2", "minimax", "openai-gpt"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    """The folder of an architecture, made when it is first asked for."""
    root, made = tmp_path_factory.mktemp("architectures"), {}

    def folder(name: str) -> Path:
        return made.get(name) or made.setdefault(name, save_architecture(root / name, name))

    return folder


def load(folder: Path, **lora: object) -> Policy:
    return Policy.from_config(tiny_config(folder, lora=lora))


@pytest.mark.parametrize("architecture", SERVED)
def test_what_is_sampled_and_scored_is_the_model_s_own(folders, architecture: str) -> None:
    policy = load(folders(architecture))
    assert policy.why_uncached == ""
    stir(policy)
    says_what_transformers_says(policy)


@pytest.mark.parametrize("architecture", UNCACHED)
def test_a_model_whose_cache_does_not_answer_as_it_does_is_decoded_without_one(folders, architecture: str) -> None:
    policy = load(folders(architecture))
    assert "without a cache" in policy.why_uncached
    assert policy.why_uncached in policy.notices
    stir(policy)
    says_what_transformers_says(policy)


@pytest.mark.parametrize(("architecture", "says"), [
    ("rwkv", "left-padded"),
    ("bart-decoder", "left-padded"),
    ("bart", "encoder-decoder"),
    ("bert", "between its hidden states and its logits"),
    ("bert-generation", "no causal language model"),
    ("xlnet", "no causal language model"),
])
def test_what_cannot_be_served_is_refused_in_one_sentence(folders, architecture: str, says: str) -> None:
    with pytest.raises(ModelError, match=f"^model.name: .*{says}") as caught:
        load(folders(architecture))
    assert "\n" not in str(caught.value)
    assert str(folders(architecture)) in str(caught.value)


def test_a_refused_model_leaves_no_run_and_no_traceback(folders, tmp_path: Path) -> None:
    arguments = ["train", "animals", "--set", f"model.name={folders('bart-decoder')}", "--runs-dir", str(tmp_path)]
    result = CliRunner().invoke(make_app(), arguments)
    assert result.exit_code != 0
    assert "left-padded" in result.output
    assert "Traceback" not in result.output
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_training_without_a_cache_says_so_once(folders) -> None:
    events: list[Event] = []
    config = tiny_config(folders("mamba"), train={"steps": 1}, sampling={"max_new_tokens": 3})
    state = Trainer(config, run_dir=None, emit=events.append).run()
    assert state == RunState.FINISHED
    told = [event.text for event in events if isinstance(event, Notice) and "cache" in event.text]
    assert len(told) == 1


def test_a_cache_that_lies_is_noticed_and_what_passed_is_not_asked_again(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Mamba's fault, played by a Llama: the cache is swallowed."""
    from transformers import LlamaModel

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    honest = LlamaModel.forward

    def swallows(self: LlamaModel, *args: object, past_key_values: object = None, **options: object) -> object:
        return honest(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(LlamaModel, "forward", swallows)
        lied = load(model_folders["llama"])
        assert "without a cache" in lied.why_uncached
        assert load(model_folders["llama"]).why_uncached == lied.why_uncached
    for path in tmp_path.rglob("checked-models.json"):
        path.write_text("{ damaged")
    assert load(model_folders["llama"]).why_uncached == ""
    with monkeypatch.context() as patch:  # known by now: another answer would only come from another check
        patch.setattr("rlhf_engine.models.model_check.check", lambda policy: pytest.fail("checked twice"))
        assert load(model_folders["llama"]).why_uncached == ""
        with pytest.raises(pytest.fail.Exception):  # other modules, another question
            load(model_folders["llama"], target_modules=["q_proj"])



def test_checking_changes_nothing(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where nothing has passed yet
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    checked = load(model_folders["llama"])
    assert torch.equal(torch.rand(1), expected)
    known = load(model_folders["llama"])
    for name, parameter in checked.adapters["actor"].items():
        assert torch.equal(parameter, known.adapters["actor"][name])
    assert all(torch.count_nonzero(p) == 0 for name, p in checked.adapters["actor"].items() if ".lora_B." in name)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_checked_within_its_own_bound(folders, dtype: str) -> None:
    for architecture in ("opt", "mixtral", "gemma2"):
        assert Policy.from_config(tiny_config(folders(architecture), model={"dtype": dtype})).why_uncached == ""
    with pytest.raises(ModelError, match="left-padded"):
        Policy.from_config(tiny_config(folders("bart-decoder"), model={"dtype": dtype}))


@pytest.mark.parametrize(("architecture", "modules"), [("gemma3", 8), ("llava", 8), ("mllama", 4)])
@pytest.mark.parametrize("targets", [[], ["q_proj", "k_proj", "v_proj", "o_proj"]])
def test_of_a_model_that_also_sees_only_the_text_part_is_used(
    folders, architecture: str, modules: int, targets: list[str]
) -> None:
    policy = load(folders(architecture), target_modules=targets)
    adapted = {name.partition(".lora_")[0] for name in policy.adapters["actor"]}
    assert len(adapted) == modules
    assert not [name for name in adapted if "vision" in name or "cross_attn" in name]
    assert policy.max_positions == 64
    stir(policy)
    says_what_transformers_says(policy)


def test_a_model_that_also_sees_is_trained(folders) -> None:
    config = tiny_config(folders("gemma3"), train={"steps": 1}, sampling={"max_new_tokens": 3})
    trainer = Trainer(config, run_dir=None, emit=lambda event: None)
    assert trainer.run() == RunState.FINISHED
    assert trainer.policy is not None
    text = trainer.policy.base.get_decoder()
    of_text = sum(p.numel() for name, p in text.named_parameters()
                  if p.dim() == 2 and "embed" not in name and "lora" not in name)
    size = ModelSize.of_model(trainer.policy.base, trainer.policy.text_parameters)
    assert (size.body, size.layers, size.width) == (of_text, 2, 32)
