"""`lora.target_modules`, as peft's users write it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_architectures import save_architecture
from tiny_models import tiny_config

from rlhf_engine.config.fields import parse, replace, setting_at
from rlhf_engine.errors import ModelError
from rlhf_engine.models.policy import Policy

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj"}


def adapted(folder: Path, targets: object) -> set[str]:
    """Full names of the adapted modules."""
    policy = Policy.from_config(tiny_config(folder, lora={"target_modules": targets}))
    return {name.partition("base_model.model.")[2].partition(".lora_")[0] for name in policy.adapters["actor"]}


def leaves(names: set[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


@pytest.mark.parametrize(("targets", "meant", "count"), [
    ("all-linear", ATTENTION | MLP, 14),
    (["all-linear"], ATTENTION | MLP, 14),
    (["ALL-LINEAR", "q_proj"], ATTENTION | MLP, 14),
    ("q_proj", {"q_proj"}, 2),
    (["q_proj", "v_proj"], {"q_proj", "v_proj"}, 4),
    (["self_attn.q_proj"], {"q_proj"}, 2),
    (["layers.1.self_attn.q_proj"], {"q_proj"}, 1),
    (r".*\.layers\.1\..*(q|v)_proj", {"q_proj", "v_proj"}, 2),
    (r".*", ATTENTION | MLP, 14),
    ([], ATTENTION, 8),
])
def test_targets_are_read_as_peft_reads_them(
    model_folders: dict[str, Path], targets: object, meant: set[str], count: int
) -> None:
    found = adapted(model_folders["llama"], targets)
    assert leaves(found) == meant
    assert len(found) == count
    assert "lm_head" not in leaves(found)


def test_all_linear_takes_matrices_that_are_stored_the_other_way_round(model_folders: dict[str, Path]) -> None:
    assert leaves(adapted(model_folders["gpt2"], "all-linear")) == {"c_attn", "c_proj", "c_fc"}


@pytest.mark.parametrize(("kind", "targets", "meant", "count"), [
    # gpt2 stores matrices transposed, and both have one module for queries, keys and values
    ("gpt2", [], {"c_attn", "c_proj"}, 4),
    ("gpt2", r".*\.mlp\.c_(fc|proj)", {"c_fc", "c_proj"}, 4),
    ("gpt_neox", [], {"query_key_value", "dense"}, 4),
    ("gpt_neox", "all-linear", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}, 8),
    ("gpt_neox", r".*\.1\.(attention|mlp)\..*", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}, 4),
    ("falcon", "all-linear", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}, 8),
    ("phi3", [], {"qkv_proj", "o_proj"}, 4),
    ("phi3", "all-linear", {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}, 8),
    ("phi3", r".*(qkv|gate_up)_proj", {"qkv_proj", "gate_up_proj"}, 4),
])
def test_targets_on_other_architectures(
    model_folders: dict[str, Path], tmp_path: Path, kind: str, targets: object, meant: set[str], count: int
) -> None:
    found = adapted(model_folders.get(kind) or save_architecture(tmp_path, kind), targets)
    assert leaves(found) == meant
    assert len(found) == count


@pytest.mark.parametrize("kind", ["gpt_neox", "phi3"])
def test_an_output_head_of_its_own_is_left_alone(tmp_path: Path, kind: str) -> None:
    """Neither architecture ties it to the embeddings, so that it is one linear module among others."""
    folder = save_architecture(tmp_path, kind)
    assert adapted(folder, "all-linear") == adapted(folder, ".*")
    assert "lm_head" not in leaves(adapted(folder, "all-linear"))
    with pytest.raises(ModelError, match="output head"):
        adapted(folder, ["lm_head"])


@pytest.mark.parametrize(("typed", "count"), [("q_proj,v_proj", 4), ("all-linear", 14), ('["q_proj", "o_proj"]', 4)])
def test_targets_on_the_command_line(model_folders: dict[str, Path], typed: str, count: int) -> None:
    config = tiny_config(model_folders["llama"])
    value = parse(setting_at(config, "lora.target_modules"), typed)
    config = replace(config, {"lora.target_modules": value})
    assert len(adapted(model_folders["llama"], config.lora.target_modules)) == count


@pytest.mark.parametrize(("targets", "names"), [
    (["nonsense"], ["nonsense", "q_proj", "all-linear"]),
    (["q_proj", "v_porj"], ["v_porj", "v_proj"]),  # peft says nothing if one of several fits
    (["proj"], ["proj", "q_proj"]),  # part of a word is no name
    (r".*\.q_porj", ["q_porj", "q_proj"]),
    (["(q_proj"], ["(q_proj", "regular expression"]),
    (["embed_tokens"], ["embed_tokens", "no linear module"]),
    (["input_layernorm"], ["input_layernorm", "no linear module"]),
    (["self_attn"], ["self_attn", "no linear module"]),
    (["lm_head"], ["output head"]),
    (["all-linear", "lm_head"], ["output head"]),
    ([""], ["q_proj"]),
])
def test_what_does_not_fit_is_one_sentence_with_what_would(
    model_folders: dict[str, Path], targets: object, names: list[str]
) -> None:
    with pytest.raises(ModelError, match=r"^lora\.target_modules: ") as caught:
        adapted(model_folders["llama"], targets)
    assert "\n" not in str(caught.value)
    assert all(name in str(caught.value) for name in names)


def test_a_model_without_attention_has_its_linear_modules_adapted(tmp_path: Path) -> None:
    assert leaves(adapted(save_architecture(tmp_path, "mamba"), [])) == {"in_proj", "x_proj"}


def test_what_peft_refuses_to_adapt_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^lora\.target_modules: .*out_proj") as caught:
        adapted(save_architecture(tmp_path, "mamba"), ["out_proj"])
    assert "\n" not in str(caught.value)


def test_a_module_of_the_vision_tower_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fc1 is no linear module that text passes through"):
        adapted(save_architecture(tmp_path, "llava"), ["fc1"])


def test_a_module_that_shares_its_name_with_an_expert_s_is_adapted_alone(tmp_path: Path) -> None:
    """peft takes it for the name that the experts' fused weights had before transformers 5."""
    found = adapted(save_architecture(tmp_path, "dots1"), ["gate_proj"])
    assert found == {f"model.layers.{layer}.mlp.shared_experts.gate_proj" for layer in (0, 1)}
