"""What is exported loads with plain transformers and peft, and is the actor that was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from peft import AutoPeftModelForCausalLM, PeftModel
from tiny_models import make_ppo, stir, tiny_config
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError, ModelError, RunError
from rlhf_engine.exporting.export import export
from rlhf_engine.models.policy import Policy
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.checkpoint import Quality, TrainingState
from rlhf_engine.runs.run_dir import RunDir

TEXT = "There was a little fox"


def trained(config: RunConfig, root: Path, *, name: str = "taught", seed: int = 0) -> tuple[RunDir, Policy]:
    """A run with a checkpoint of step 2 whose adapters are far from zero, and the policy as it then was."""
    policy = Policy.from_config(config)
    stir(policy, seed)
    run = RunDir.create(root, config, name=name, preset="animals")
    tensors, numbers = make_ppo(config, policy=policy).state()
    quality = Quality("objective/rlhf_reward", 1.0, True)
    checkpoint.save(run, TrainingState(2, tensors, numbers, config, quality), keep=3)
    return run, policy


def actor_logits(policy: Policy) -> torch.Tensor:
    ids, mask = policy.encode([TEXT])
    with torch.no_grad(), policy.as_role("actor"):
        return policy.base(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits.float()


def plain_logits(model: Any, folder: Path) -> torch.Tensor:
    """By nothing of ours."""
    ids = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model.eval()(input_ids=ids, use_cache=False).logits.float()


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Equal to 1e-5; of models that were drawn at random to 1e-5 of their largest logit, which is some dozens."""
    torch.testing.assert_close(found, wanted, rtol=0.0, atol=1e-5 * max(1.0, wanted.abs().max().item()))


@pytest.fixture(params=["storyteller", "gpt_neo", "llama", "gpt2"])
def config(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> RunConfig:
    if request.param != "storyteller":
        return tiny_config(model_folders[request.param])
    return tiny_config(Path("storyteller"))


def test_peft_and_transformers_load_the_actor_from_both_kinds_of_folder(config: RunConfig, tmp_path: Path) -> None:
    run, policy = trained(config, tmp_path / "runs")
    wanted = actor_logits(policy)
    adapter = export(run, tmp_path / "adapter")
    told = json.loads((adapter.path / "adapter_config.json").read_text())
    assert told["peft_type"] == "LORA"
    assert told["task_type"] == "CAUSAL_LM"
    assert (told["r"], told["lora_alpha"]) == (config.lora.rank, config.lora.alpha)
    base = AutoModelForCausalLM.from_pretrained(told["base_model_name_or_path"], dtype=torch.float32)
    untrained = plain_logits(base, adapter.path)
    assert not torch.allclose(untrained, wanted, atol=1e-2)
    assert_same(plain_logits(PeftModel.from_pretrained(base, adapter.path), adapter.path), wanted)
    by_name = AutoPeftModelForCausalLM.from_pretrained(adapter.path, dtype=torch.float32)
    assert_same(plain_logits(by_name, adapter.path), wanted)

    merged = export(run, tmp_path / "merged", merged=True)
    whole = AutoModelForCausalLM.from_pretrained(merged.path)
    assert whole.dtype == torch.float32
    assert_same(plain_logits(whole, merged.path), wanted)
    assert not (merged.path / "adapter_config.json").exists()


def test_a_merged_folder_works_as_model_name(config: RunConfig, tmp_path: Path) -> None:
    run, policy = trained(config, tmp_path / "runs")
    merged = export(run, tmp_path / "merged", merged=True)
    again = Policy.from_config(tiny_config(merged.path))
    assert_same(actor_logits(again), actor_logits(policy))


def test_an_adapter_folder_works_as_model_name(config: RunConfig, tmp_path: Path) -> None:
    run, policy = trained(config, tmp_path / "runs")
    adapter = export(run, tmp_path / "adapter")
    again = Policy.from_config(tiny_config(adapter.path))
    assert_same(actor_logits(again), actor_logits(policy))  # its own adapters are fresh: they change nothing yet


def test_modules_that_were_chosen_by_name_are_those_of_the_adapter(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny_config(model_folders["llama"], lora={"target_modules": ["q_proj", "layers.1.mlp.up_proj"]})
    run, policy = trained(config, tmp_path / "runs")
    loaded = AutoPeftModelForCausalLM.from_pretrained(export(run, tmp_path / "adapter").path, dtype=torch.float32)
    adapted = {name.partition(".lora_A")[0] for name, _ in loaded.named_parameters() if ".lora_A" in name}
    assert {name.removeprefix("base_model.model.model.layers.") for name in adapted} == {
        "0.self_attn.q_proj", "1.self_attn.q_proj", "1.mlp.up_proj"}
    assert_same(plain_logits(loaded, tmp_path / "adapter"), actor_logits(policy))


def test_the_model_card_says_how_to_load_it_and_no_path_of_this_machine(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    run, _ = trained(tiny_config(model_folders["gpt2"]), tmp_path / "runs")
    with run.lock():
        run.append_metrics(1, 1.0, {"objective/scores": 2.0, "objective/kl": 0.5})
        run.append_metrics(2, 2.0, {"objective/scores": 4.0, "objective/kl": 1.5})
        run.append_metrics(3, 3.0, {"objective/scores": 90.0, "objective/kl": 90.0})  # after the checkpoint
    for merged in (False, True):
        folder = export(run, tmp_path / f"merged-{merged}", merged=merged).path
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert str(model_folders["gpt2"].parent) not in card
        assert all(word in card for word in ("gpt2", "animals", "step 2 of 3", "rank 4", "length", "from_pretrained"))
        assert "| score | 3 " in card
        assert "| KL | 1 nats" in card
        files = {path.name for path in folder.iterdir()} - {"adapter_config.json"}
        for name in (name for name in files if name.endswith((".json", ".md"))):
            assert str(tmp_path) not in (folder / name).read_text(encoding="utf-8"), name


def test_nothing_is_replaced_and_an_empty_folder_is_taken(neo_config: RunConfig, tmp_path: Path) -> None:
    run, _ = trained(neo_config, tmp_path / "runs")
    full, empty, file = tmp_path / "full", tmp_path / "empty", tmp_path / "file"
    for folder in (full, empty):
        folder.mkdir()
    (full / "mine.txt").write_text("kept")
    file.write_text("kept")
    for taken in (full, file):
        with pytest.raises(RunError, match=str(taken)):
            export(run, taken)
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
    assert file.read_text() == "kept"
    assert export(run, empty).path == empty
    with pytest.raises(RunError, match="not empty"):
        export(run, empty)


def test_another_base_than_the_trained_one_is_refused(model_folders: dict[str, Path], tmp_path: Path) -> None:
    config = tiny_config(model_folders["llama"])
    _, policy = trained(config, tmp_path / "runs")
    tensors, numbers = make_ppo(config, policy=policy).state()
    other = tiny_config(model_folders["gpt_neo"])
    run = RunDir.create(tmp_path / "runs", other, name="mixed")
    for step in (2, 3):
        checkpoint.save(run, TrainingState(step, tensors, numbers, other), keep=3)
    for merged in (False, True):
        with pytest.raises(ModelError, match="not the model that was trained"):
            export(run, tmp_path / "out", step=3, merged=merged)
    with pytest.raises(CheckpointError, match="2, 3"):
        export(run, tmp_path / "out", step=7)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("limit", [100, 3000])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    neo_config: RunConfig, tmp_path: Path, limit: int, merged: bool
) -> None:
    run, _ = trained(neo_config, tmp_path / "runs")
    code = f"""
import resource, signal, sys
from pathlib import Path
from rlhf_engine.errors import RunError
from rlhf_engine.exporting.export import export
from rlhf_engine.runs.run_dir import RunDir
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
try:
    export(RunDir.open(Path({str(run.path)!r})), Path({str(tmp_path / "out")!r}), merged={merged})
except RunError as error:
    print(error)
"""
    done = warm.run(["-c", code], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "out") in done.stdout
    assert "size limit" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
