"""Sequence classifiers that PEFT left unmerged, as rewards: the scores of plain peft and transformers."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers as hf
from engine.test_adapters import stirred
from peft import LoraConfig, PeftModelForSequenceClassification, get_peft_model
from tiny_classifiers import save_classifier

from rlhf_engine.config.classifier import ClassifierRewardConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.model_folders.judge_models import judge_digest
from rlhf_engine.rewards.classifier import ClassifierReward

TEXTS = ["Once upon a time.", "x", "The fox, and a cat who slept"]
LORA: dict[str, Any] = {"task_type": "SEQ_CLS", "r": 2, "lora_alpha": 8}


@pytest.fixture(scope="module")
def bases(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Language models, which have no head, and an encoder that is a classifier already."""
    return {"llama": model_folders["llama"], "gpt2": model_folders["gpt2"],
            "roberta": save_classifier(tmp_path_factory.mktemp("base") / "roberta", "roberta")}


def save_adapter(folder: Path, base: Path, labels: int, **settings: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        model = hf.AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=labels, ignore_mismatched_sizes=True)
        stirred(get_peft_model(model, LoraConfig(**LORA | settings))).save_pretrained(folder)
    return folder


@torch.no_grad()
def plain(folder: Path, base: Path, labels: int) -> torch.Tensor:
    """[texts, labels], of each alone, by peft on the model that transformers loads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(7)  # of the head that transformers makes up, which the adapter replaces
        model = hf.AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=labels, dtype=torch.float32, ignore_mismatched_sizes=True)
        peft = PeftModelForSequenceClassification.from_pretrained(model, folder).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(base)
    return torch.stack([peft(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0] for text in TEXTS])


def scores(folder: Path, **settings: Any) -> list[float]:
    judge = ClassifierReward(ClassifierRewardConfig(model=str(folder), reads="text", **settings))
    return [found.total for found in judge.score([""] * len(TEXTS), TEXTS) if found is not None]


@pytest.mark.parametrize(("architecture", "labels", "settings"), [
    ("llama", 1, {}), ("llama", 3, {"use_dora": True}), ("gpt2", 2, {"use_rslora": True}), ("roberta", 2, {}),
    ("roberta", 4, {"target_modules": ["query", "dense"]}),
])
def test_it_scores_as_peft_does(
    bases: dict[str, Path], tmp_path: Path, architecture: str, labels: int, settings: dict[str, Any]
) -> None:
    base = bases[architecture]
    folder = save_adapter(tmp_path / "adapter", base, labels, **settings)
    expected = plain(folder, base, labels)
    assert expected.std() > 1e-3  # or it would tell nothing
    for label in range(labels):
        found = scores(folder, label=str(label) if labels > 1 else None)
        assert found == pytest.approx(expected[:, label].tolist(), abs=2e-5, rel=1e-5)


def test_settings_that_do_not_name_the_head_have_it_all_the_same(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "adapter", bases["llama"], 1)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["modules_to_save"]
    (folder / "adapter_config.json").write_text(json.dumps(config | {"modules_to_save": None}))  # as older peft has it
    assert scores(folder) == pytest.approx(plain(folder, bases["llama"], 1)[:, 0].tolist(), abs=2e-5)


def test_names_of_labels_are_those_of_a_base_that_has_as_many(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "two", bases["roberta"], 2)
    assert scores(folder, label="good") == scores(folder, label="1")
    with pytest.raises(ConfigError, match="LABEL_0, LABEL_1, LABEL_2"):
        scores(save_adapter(tmp_path / "three", bases["roberta"], 3), label="good")


def test_its_digest_tells_of_the_base_too(bases: dict[str, Path], tmp_path: Path) -> None:
    base = Path(shutil.copytree(bases["llama"], tmp_path / "base"))
    folder = save_adapter(tmp_path / "adapter", base, 1)
    config = ClassifierRewardConfig(model=str(folder))
    before = judge_digest(config)
    weights = safetensors.torch.load_file(base / "model.safetensors")
    next(iter(weights.values())).add_(1)
    safetensors.torch.save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert judge_digest(config) not in (before, None)


def changed(folder: Path, **settings: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def without_head(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "score" not in name}
    safetensors.torch.save_file(kept, folder / "adapter_model.safetensors")


def a_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def a_weight_less(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    weights.pop(next(name for name in weights if "lora_A" in name))
    safetensors.torch.save_file(weights, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(("spoil", "words"), [
    (without_head, r"lack score\.weight"),
    (a_pickle, "pickle"),
    (a_weight_less, "lacks"),
    (lambda folder: changed(folder, task_type="CAUSAL_LM"), "CAUSAL_LM.*SEQ_CLS"),
    (lambda folder: changed(folder, task_type=None), "SEQ_CLS"),
    (lambda folder: changed(folder, peft_type="PROMPT_TUNING"), "PROMPT_TUNING"),
    (lambda folder: changed(folder, base_model_name_or_path="/nowhere/at/all"), "no such folder"),
    (lambda folder: changed(folder, base_model_name_or_path=None), "which base"),
    (lambda folder: changed(folder, r=10**9), "rank"),
])
def test_what_is_no_whole_one_is_refused_in_a_sentence(
    bases: dict[str, Path], tmp_path: Path, spoil: Any, words: str
) -> None:
    folder = save_adapter(tmp_path / "adapter", bases["llama"], 1)
    spoil(folder)
    with pytest.raises(ConfigError, match=f"(?s)the reward 'classifier'.*{words}") as caught:
        scores(folder)
    assert "\n" not in str(caught.value)
    assert "model.name" not in str(caught.value)
