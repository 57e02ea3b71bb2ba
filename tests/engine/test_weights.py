"""Weights that are missing, of another model, of another size or no numbers never train."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_byte_tokenizer, tiny_config
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_engine.errors import ModelError
from rlhf_engine.models.loading import load_model
from rlhf_engine.models.policy import Policy

Tensors = dict[str, Tensor]


@pytest.fixture
def changed(model_folders: dict[str, Path], tmp_path: Path):
    """A copy of a model's folder with its tensors changed."""

    def change(how: Callable[[Tensors], Tensors], architecture: str = "llama") -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(model_folders[architecture], folder)
        save_file(how(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return change


def refusal(folder: Path, **model: object) -> str:
    with pytest.raises(ModelError) as caught:
        Policy.from_config(tiny_config(folder, model=model))
    sentence = str(caught.value)
    assert sentence.startswith("model.name: ")
    assert str(folder) in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model.", "somebody.s."])
def test_weights_under_names_with_a_prefix_are_refused_naming_it(changed, prefix: str) -> None:
    folder = changed(lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    sentence = refusal(folder)
    assert f"begin with {prefix}" in sentence
    assert "model.embed_tokens.weight" in sentence


def test_a_missing_weight_is_named(changed) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    assert name in refusal(changed(lambda tensors: {key: t for key, t in tensors.items() if key != name}))


def test_more_than_a_few_missing_weights_are_counted(changed) -> None:
    sentence = refusal(changed(lambda tensors: {key: t for key, t in tensors.items() if "layers.1" not in key}))
    assert "model.layers.1.input_layernorm.weight" in sentence
    assert "and 6 more" in sentence  # of nine


def test_a_weight_of_another_size_is_named_with_both(changed) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    sentence = refusal(changed(lambda tensors: tensors | {name: torch.zeros(48, 32)}))
    assert name in sentence
    assert "48 x 32" in sentence
    assert "64 x 32" in sentence


def test_layers_that_the_config_does_not_count_are_refused(changed) -> None:
    folder = changed(lambda tensors: tensors)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    assert "model.layers.1.input_layernorm.weight" in refusal(folder)


def test_a_headless_model_is_refused(model_folders: dict[str, Path], tmp_path: Path) -> None:
    AutoModel.from_pretrained(model_folders["llama"]).save_pretrained(tmp_path)
    save_byte_tokenizer(tmp_path)
    sentence = refusal(tmp_path)
    assert "lm_head.weight" in sentence
    assert "LlamaModel" in sentence


def test_a_headless_model_whose_head_is_its_embedding_is_whole(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    AutoModel.from_pretrained(model_folders["gpt_neo"]).save_pretrained(tmp_path)
    save_byte_tokenizer(tmp_path)
    ids = torch.tensor([[1, 2, 3]])
    found, whole = (load_model(tiny_config(folder).model).model for folder in (tmp_path, model_folders["gpt_neo"]))
    assert torch.equal(found(ids).logits, whole(ids).logits)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])  # of the second the head is tied: nothing is missing
def test_a_classifier_is_refused(model_folders: dict[str, Path], tmp_path: Path, architecture: str) -> None:
    AutoModelForSequenceClassification.from_pretrained(model_folders[architecture]).save_pretrained(tmp_path)
    save_byte_tokenizer(tmp_path)
    sentence = refusal(tmp_path)
    assert "score.weight" in sentence
    assert "ForSequenceClassification" in sentence


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_number_is_named(changed, broken: float) -> None:
    def spoil(tensors: Tensors) -> Tensors:
        tensors["model.layers.1.self_attn.v_proj.weight"][3, 4] = broken
        return tensors

    assert "model.layers.1.self_attn.v_proj.weight" in refusal(changed(spoil))


def test_a_weight_too_large_for_float16_says_which_types_hold_it(changed) -> None:
    def enlarge(tensors: Tensors) -> Tensors:
        tensors["model.layers.1.mlp.down_proj.weight"][0, 0] = 1e5
        return tensors

    folder = changed(enlarge)
    sentence = refusal(folder, dtype="float16")
    assert "model.layers.1.mlp.down_proj.weight" in sentence
    assert "bfloat16" in sentence
    Policy.from_config(tiny_config(folder))


def test_a_missing_shard_is_named(model_folders: dict[str, Path], tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(model_folders["llama"]).save_pretrained(tmp_path, max_shard_size="50kB")
    save_byte_tokenizer(tmp_path)
    gone = sorted(tmp_path.glob("model-*.safetensors"))[1]
    gone.unlink()
    assert gone.name in refusal(tmp_path)


def test_what_older_files_hold_and_nobody_learnt_is_no_fault(changed) -> None:
    def as_before(tensors: Tensors) -> Tensors:
        return tensors | {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64).tril(),
                          "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}

    Policy.from_config(tiny_config(changed(as_before, "gpt2")))


def test_a_rotary_buffer_in_the_file_is_no_fault(changed) -> None:
    Policy.from_config(tiny_config(changed(
        lambda tensors: tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})))


@pytest.mark.parametrize(("settings", "says"), [
    ({"quant_method": "bitsandbytes", "load_in_4bit": True, "_load_in_4bit": True}, "bitsandbytes"),
    ({"quant_method": "gptq", "bits": 4}, "gptq"),
    ({"quant_method": "awq", "bits": 4}, "awq"),
    ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8"),
    ({"quant_method": "something-new"}, "something-new"),
    ({"bits": 4}, "quantised"),
])
def test_quantised_weights_are_refused_by_the_method_s_name(changed, settings: dict[str, object], says: str) -> None:
    folder = changed(lambda tensors: tensors)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    assert says in refusal(folder)


def test_two_loads_answer_alike(model_folders: dict[str, Path]) -> None:
    ids = torch.tensor([[1, 2, 3, 4]])
    first, second = (Policy.from_config(tiny_config(model_folders["llama"])) for _ in range(2))
    assert torch.equal(first.base(ids).logits, second.base(ids).logits)


@pytest.mark.parametrize("odd", [
    {"num_hidden_layers": 0}, {"num_hidden_layers": 3}, {"num_attention_heads": 3}, {"num_attention_heads": 0},
    {"hidden_size": None}, {"hidden_act": "nonsense"}, {"rope_scaling": {"type": "nonsense", "factor": 2.0}},
    {"max_position_embeddings": 4}, {"model_type": "gpt2"}, {"model_type": "vit"}, {"model_type": "t5"},
    {"model_type": None}, {"model_type": "llama99"}, {"vocab_size": 300}, {"text_config": {"hidden_size": 32}},
    {"is_encoder_decoder": True},
], ids=str)
def test_a_config_that_does_not_fit_its_weights_is_one_sentence(changed, odd: dict[str, object]) -> None:
    folder = changed(lambda tensors: tensors)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | odd))
    assert not refusal(folder).endswith(":")


def test_a_head_of_its_own_is_kept_whatever_the_config_says(changed, model_folders: dict[str, Path]) -> None:
    folder = changed(lambda tensors: tensors)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    ids = torch.tensor([[1, 2, 3]])
    found, plain = (load_model(tiny_config(where).model).model for where in (folder, model_folders["llama"]))
    assert torch.equal(found(ids).logits, plain(ids).logits)
