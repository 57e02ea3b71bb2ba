"""An adapter's folder as the model: merged as PEFT merges it, or one sentence on why it cannot be."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from peft import (
    IA3Config,
    LoKrConfig,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from tiny_models import save_tiny_model, tiny_config
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config import preset_writer
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.models.loading import load_model
from rlhf_engine.runs.run_dir import RunDir

IDS = torch.tensor([[72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100]])


def stirred(model: torch.nn.Module) -> torch.nn.Module:
    """As if it had learnt something: every trainable weight moved."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def save_adapter(folder: Path, base: Path, settings: Any, *, loader: Any = AutoModelForCausalLM, rows: int = 0) -> Path:
    """What a fine-tuning of `base` under `settings` leaves behind. rows: of a vocabulary that it made larger."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        model = loader.from_pretrained(base)
        if rows:
            model.resize_token_embeddings(rows)
        stirred(get_peft_model(model, settings)).save_pretrained(folder)
    return folder


def plain(folder: Path, base: Path, rows: int = 0) -> torch.Tensor:
    """Logits of what PEFT makes of the adapter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if rows:
            model.resize_token_embeddings(rows)
        with torch.no_grad():
            return PeftModel.from_pretrained(model, folder).merge_and_unload().eval()(IDS).logits


def ours(name: Path) -> torch.Tensor:
    with torch.no_grad():
        return load_model(ModelConfig(name=str(name), device="cpu", dtype="float32")).model(IDS).logits


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(make_app(), [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
KINDS = {
    "lora": LORA,
    "all linear, with dropout and rank-stabilised": LoraConfig(
        r=8, target_modules="all-linear", lora_dropout=0.3, use_rslora=True, task_type="CAUSAL_LM"),
    "with biases": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], bias="lora_only", task_type="CAUSAL_LM"),
    "dora": LoraConfig(r=4, target_modules=["q_proj"], use_dora=True, task_type="CAUSAL_LM"),
    "no task": LoraConfig(r=4, target_modules=["q_proj"]),
    "with the head": LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"),
    "with embedding and head": LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"], task_type="CAUSAL_LM"),
    "on the head": LoraConfig(r=4, target_modules=["lm_head"], task_type="CAUSAL_LM"),
    "ia3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"),
    "lokr": LoKrConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_answers_as_peft_merges_it(model_folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    base = model_folders["llama"]
    folder = save_adapter(tmp_path / "sft", base, KINDS[kind])
    found = ours(folder)
    assert torch.allclose(found, plain(folder, base), atol=1e-5)
    assert not torch.allclose(found, ours(base), atol=1e-2)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neo"])
def test_tied_heads_and_transposed_matrices_are_merged_too(
    model_folders: dict[str, Path], tmp_path: Path, architecture: str
) -> None:
    base = model_folders[architecture]
    targets = {"gpt2": ["c_attn", "c_proj"], "gpt_neo": ["q_proj", "out_proj"]}[architecture]
    saved = {"gpt2": ["wte"], "gpt_neo": None}[architecture]  # an embedding that is trained apart from the head
    settings = LoraConfig(r=4, target_modules=targets, modules_to_save=saved, fan_in_fan_out=architecture == "gpt2",
                          task_type="CAUSAL_LM")
    folder = save_adapter(tmp_path / "sft", base, settings)
    assert torch.allclose(ours(folder), plain(folder, base), atol=1e-5)
    run_dir = tmp_path / "runs" / "r"
    preset = tmp_path / "mine.toml"
    preset.write_text(preset_writer.to_toml(tiny_config(folder, train={"steps": 1}, optimizer={"learning_rate": 0.0})))
    assert run("train", preset, "--name", "r", "--runs-dir", tmp_path / "runs").exit_code == 0
    assert run("export", run_dir, tmp_path / "whole", "--merged").exit_code == 0
    assert torch.allclose(ours(tmp_path / "whole"), ours(folder), atol=1e-5)


def test_new_tokens_come_with_their_rows(model_folders: dict[str, Path], tmp_path: Path) -> None:
    base = model_folders["llama"]
    settings = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"],
                          task_type="CAUSAL_LM")
    folder = save_adapter(tmp_path / "sft", base, settings, rows=261)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<|user|>", "<|assistant|>", "<|x|>"])
    tokenizer.save_pretrained(folder)
    found = ours(folder)
    assert found.shape[-1] == 261
    assert torch.allclose(found, plain(folder, base, rows=261), atol=1e-5)
    loaded = load_model(ModelConfig(name=str(folder), device="cpu"))
    assert len(loaded.tokenizer) == 261


def test_the_tokenizer_that_fine_tuning_left_goes_before_that_of_the_base(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    base = model_folders["llama"]
    folder = save_adapter(tmp_path / "sft", base, LORA)
    assert load_model(ModelConfig(name=str(folder), device="cpu")).tokenizer.eos_token == "<|end|>"
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = "a"
    tokenizer.save_pretrained(folder)
    assert load_model(ModelConfig(name=str(folder), device="cpu")).tokenizer.eos_token == "a"


def test_half_precision_is_rounded_after_the_merge(model_folders: dict[str, Path], tmp_path: Path) -> None:
    base = model_folders["llama"]
    folder = save_adapter(tmp_path / "sft", base, LORA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).merge_and_unload()
    found = load_model(ModelConfig(name=str(folder), device="cpu", dtype="bfloat16")).model.state_dict()
    for name, tensor in merged.state_dict().items():
        assert torch.equal(found[name], tensor.bfloat16()), name


def test_what_rounding_takes_of_a_small_adapter_is_told(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "sft", model_folders["llama"], LORA)
    file = folder / "adapter_model.safetensors"
    whole = safetensors.torch.load_file(file)

    def told(dtype: str) -> tuple[str, ...]:
        notices = load_model(ModelConfig(name=str(folder), device="cpu", dtype=dtype)).ids.notices
        return tuple(notice for notice in notices if str(folder) in notice)

    assert told("bfloat16") == told("float32") == ()
    safetensors.torch.save_file({name: tensor * 0.01 for name, tensor in whole.items()}, file)
    assert "%" in told("bfloat16")[0]
    assert told("float32") == ()


def test_a_run_trains_on_an_adapter_resumes_generates_forks_and_is_exported(
    model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path(shutil.copytree(model_folders["llama"], tmp_path / "models" / "base"))
    folder = save_adapter(tmp_path / "models" / "sft", base, LORA)
    preset = tmp_path / "mine.toml"
    config = tiny_config(Path("models/sft"), train={"steps": 1}, optimizer={"learning_rate": 0.05})
    preset.write_text(preset_writer.to_toml(config))
    monkeypatch.chdir(tmp_path)
    assert run("train", preset, "--name", "r", "--runs-dir", "runs").exit_code == 0
    run_dir = RunDir.open(tmp_path / "runs" / "r")
    assert run_dir.config().model.name == str(folder)
    monkeypatch.chdir("/")
    assert run("resume", run_dir.path, "--set", "train.steps=2").exit_code == 0
    by_reference = run("generate", run_dir.path, "--reference", "--prompt", "Once", "--max-new-tokens", 8)
    by_model = run("generate", folder, "--prompt", "Once", "--max-new-tokens", 8)
    assert by_reference.exit_code == by_model.exit_code == 0
    assert by_reference.stdout == by_model.stdout
    for command in (["generate", run_dir.path], ["compare", run_dir.path, "--responses", 2],
                    ["export", run_dir.path, tmp_path / "merged", "--merged"],
                    ["fork", run_dir.path, "--set", "train.steps=3", "--runs-dir", tmp_path / "forks"],
                    ["verify", run_dir.path]):
        done = run(*command)
        assert done.exit_code == 0, done.output
    assert run("export", run_dir.path, tmp_path / "adapter").exit_code == 1  # PEFT puts no adapter on another
    for changed in (folder / "adapter_model.safetensors", base / "model.safetensors"):
        kept = changed.read_bytes()
        tensors = safetensors.torch.load_file(changed)
        safetensors.torch.save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, changed)
        refused = run("generate", run_dir.path)
        assert refused.exit_code == 2
        assert ("adapter" if "adapter" in changed.name else "weights") in refused.stderr
        changed.write_bytes(kept)
    assert run("generate", run_dir.path).exit_code == 0


@pytest.mark.parametrize("named", ["../base", "base", "models/base", "./models/base"])
def test_a_relative_base_is_found_from_the_adapters_folder_upwards(
    model_folders: dict[str, Path], tmp_path: Path, named: str
) -> None:
    base = Path(shutil.copytree(model_folders["llama"], tmp_path / "models" / "base"))
    folder = save_adapter(tmp_path / "models" / "sft", base, LORA)
    change_config(folder, base_model_name_or_path=named)
    assert torch.allclose(ours(folder), plain(folder, base), atol=1e-5)


def test_an_adapter_beside_its_own_base_is_merged_once(model_folders: dict[str, Path], tmp_path: Path) -> None:
    base = Path(shutil.copytree(model_folders["llama"], tmp_path / "base"))
    before = ours(base)
    adapter = save_adapter(tmp_path / "aside", base, LORA)
    expected = plain(adapter, base)
    for path in adapter.glob("adapter_*"):
        shutil.move(path, base / path.name)
    found = ours(base)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, before, atol=1e-2)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


def _first(tensors: dict[str, torch.Tensor]) -> str:
    return min(name for name in tensors if "lora_B" in name)


def _other_base(folder: Path) -> None:
    path = save_tiny_model(folder.parent / "neo", "gpt_neo")
    change_config(folder, base_model_name_or_path=str(path))


def _pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x02}q\x00.")


def _whole_too(folder: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder.parent / "base" / name, folder / name)


def _on_another(folder: Path) -> None:
    other = Path(shutil.copytree(folder, folder.parent / "first"))
    shutil.copy(folder.parent / "base" / "config.json", other / "config.json")
    change_config(folder, base_model_name_or_path=str(other))


def _cut(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors[_first(tensors)][0, 0] = float("nan")


REFUSED: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a base that is gone": (lambda f: change_config(f, base_model_name_or_path="/no/such/base"), ["/no/such/base"]),
    "a relative base that is gone": (lambda f: change_config(f, base_model_name_or_path="./no/base"), ["./no/base"]),
    "a base of the hub": (lambda f: change_config(f, base_model_name_or_path="nobody/no-such"), ["nobody/no-such"]),
    "no base": (lambda f: change_config(f, base_model_name_or_path=None), ["base_model_name_or_path"]),
    "another base": (_other_base, ["neo"]),
    "another size": (lambda f: change_weights(f, lambda t: t.update({n: x[..., :16].clone() for n, x in t.items()
                                                                     if "lora_A" in n})), ["does not fit", "size"]),
    "a weight that it lacks": (lambda f: change_weights(f, lambda t: t.pop(_first(t))), ["lacks", "lora_B"]),
    "one too many": (lambda f: change_weights(f, lambda t: t.update({_first(t).replace("layers.0", "layers.7"):
                                                                     t[_first(t)].clone()})), ["no place", "layers.7"]),
    "not a number": (lambda f: change_weights(f, _nan), ["sft"]),
    "a pickle": (_pickle, ["adapter_model.bin", "pickle"]),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), ["adapter_model.safetensors"]),
    "weights cut off": (_cut, ["adapter_model.safetensors", "cut off"]),
    "a pointer": (lambda f: (f / "adapter_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1"),
                  ["adapter_model.safetensors", "git lfs pull"]),
    "a config that is a list": (lambda f: (f / "adapter_config.json").write_text("[]"),
                                ["adapter_config.json", "list"]),
    "a kind that nobody knows": (lambda f: change_config(f, peft_type="MAGIC"), ["MAGIC"]),
    "no kind": (lambda f: change_config(f, peft_type=None), ["sft"]),
    "replicated layers": (lambda f: change_config(f, layer_replication=[[0, 2], [1, 2]]), ["layer_replication"]),
    "a whole model too": (_whole_too, ["base", "adapter"]),
    "on another adapter": (_on_another, ["first"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_adapter_that_cannot_be_merged_is_one_sentence(
    model_folders: dict[str, Path], tmp_path: Path, what: str
) -> None:
    base = Path(shutil.copytree(model_folders["llama"], tmp_path / "base"))
    folder = save_adapter(tmp_path / "sft", base, LORA)
    change, says = REFUSED[what]
    change(folder)
    said = refused(folder, tmp_path)
    for words in ["sft", *says]:
        assert words in said


def refused(folder: Path, tmp_path: Path) -> str:
    preset = tmp_path / "mine.toml"
    preset.write_text(preset_writer.to_toml(tiny_config(folder)))
    result = run("train", preset, "--runs-dir", tmp_path / "runs")
    assert result.exit_code == 1, result.output
    assert not [*(tmp_path / "runs").glob("*")]
    assert "Traceback" not in result.output
    assert "bug" not in result.stderr
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    return said


@pytest.mark.parametrize(("settings", "loader", "says"), [
    (LoraConfig(r=4, target_modules=["q_proj"], task_type="SEQ_CLS"), AutoModelForSequenceClassification, "SEQ_CLS"),
    (LoraConfig(r=4, target_modules=["q_proj"]), AutoModelForSequenceClassification, "another kind of model"),
    (PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), AutoModelForCausalLM, "PROMPT_TUNING"),
    (PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), AutoModelForCausalLM, "PREFIX_TUNING"),
])
def test_adapters_of_other_kinds_are_named(
    model_folders: dict[str, Path], tmp_path: Path, settings: Any, loader: Any, says: str
) -> None:
    folder = save_adapter(tmp_path / "sft", model_folders["llama"], settings, loader=loader)
    assert says in refused(folder, tmp_path)


def test_a_head_that_was_trained_and_is_not_there_is_told(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "sft", model_folders["llama"], KINDS["with the head"])
    change_weights(folder, lambda t: [t.pop(name) for name in list(t) if "lm_head" in name])
    assert "lm_head" in refused(folder, tmp_path)


def test_new_tokens_without_rows_for_both_tables_are_refused(model_folders: dict[str, Path], tmp_path: Path) -> None:
    settings = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    folder = save_adapter(tmp_path / "sft", model_folders["llama"], settings, rows=261)
    change_weights(folder, lambda t: [t.pop(name) for name in list(t) if "embed_tokens" in name])
    with pytest.raises(ModelError, match="adds tokens"):
        ours(folder)
