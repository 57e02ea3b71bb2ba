"""Rewards that are sequence classifiers: the same outputs as plain transformers, and nothing silently wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tiny_classifiers import ARCHITECTURES, save_classifier

from rlhf_engine.config import fields
from rlhf_engine.config.classifier import ClassifierRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.pinning import change_of_data, pinned_data
from rlhf_engine.errors import ConfigError, DataChangedError
from rlhf_engine.events import EditApplied, Event, StepFinished
from rlhf_engine.model_folders import remote_code
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.classifier import ClassifierReward
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import settings_now
from rlhf_engine.training.trainer import Trainer

PROMPTS = ["Once", "x", "The little fox", "", "There was a"]
RESPONSES = [" upon a time.", "y", "", " ended<end>", " dog, and a cat who slept"]
CHAT = ("{% for message in messages %}{{ '[' + message['role'] + ']' + message['content'] + '<end>' }}{% endfor %}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("classifiers")
    return {name: save_classifier(root / name, name) for name in ARCHITECTURES}


def reward(folder: Path, **settings: Any) -> ClassifierReward:
    return ClassifierReward(ClassifierRewardConfig(model=str(folder), **{"label": "good"} | settings))


def totals(judge: ClassifierReward, prompts: list[str] = PROMPTS, responses: list[str] = RESPONSES) -> list[float]:
    return [score.total for score in judge.score(prompts, responses) if score is not None]


@torch.no_grad()
def plain(folder: Path, ids: list[int], **more: list[int]) -> torch.Tensor:
    """The logits of one text by transformers alone."""
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found: torch.Tensor = model(**{name: torch.tensor([values]) for name, values in (more | {"input_ids": ids}).items()}
                                ).logits[0]
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_texts_judged_together_get_what_transformers_gives_each_alone(
    folders: dict[str, Path], architecture: str
) -> None:
    folder = folders[architecture]
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    kept = [place for place, text in enumerate(map(str.__add__, PROMPTS, RESPONSES)) if tokenizer(text)["input_ids"]]
    expected = [plain(folder, tokenizer(PROMPTS[at] + RESPONSES[at])["input_ids"])[1].item() for at in kept]
    for batch_size in (1, 2, 32):
        found = totals(reward(folder, batch_size=batch_size))
        assert [found[at] for at in kept] == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1  # or it would tell nothing


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_one_without_a_padding_token_is_padded_by_a_token_that_no_text_has(tmp_path: Path, architecture: str) -> None:
    folder = save_classifier(tmp_path, architecture, pads=False)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    texts = ["short<end>", "a longer text", "<end><end>"]
    expected = [plain(folder, tokenizer(text)["input_ids"])[1].item() for text in texts]
    assert totals(reward(folder), [""] * 3, texts) == pytest.approx(expected, abs=1e-5)


def test_a_label_is_named_in_any_case_or_by_its_place(folders: dict[str, Path]) -> None:
    good = totals(reward(folders["llama"]))
    assert totals(reward(folders["llama"], label="GOOD")) == totals(reward(folders["llama"], label="1")) == good
    assert totals(reward(folders["llama"], label="bad")) != good


@pytest.mark.parametrize("label", ["best", "2", None])
def test_another_label_or_none_is_refused_with_those_there_are(folders: dict[str, Path], label: str | None) -> None:
    with pytest.raises(ConfigError, match=r"label.*bad, good"):
        reward(folders["llama"], label=label)


def test_the_score_is_logit_probability_or_its_log(folders: dict[str, Path], tmp_path: Path) -> None:
    both = torch.tensor([totals(reward(folders["bert"], label=label)) for label in ("bad", "good")]).double()
    chance = (both[1].exp() / both.exp().sum(0)).tolist()
    assert totals(reward(folders["bert"], output="probability")) == pytest.approx(chance, abs=1e-6)
    logs = torch.tensor(chance).log().tolist()
    assert totals(reward(folders["bert"], output="log_prob")) == pytest.approx(logs, abs=1e-5)

    each = save_classifier(tmp_path, "bert", problem_type="multi_label_classification")
    logits = torch.tensor(totals(reward(each))).double()
    alone = (1 / (1 + (-logits).exp())).tolist()  # of labels that do not exclude each other
    assert totals(reward(each, output="probability")) == pytest.approx(alone, abs=1e-6)


def test_a_regression_head_needs_no_label(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path, "llama", labels=("LABEL_0",))
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    (found,) = totals(reward(folder, label=None), ["a"], ["b"])
    assert found == pytest.approx(plain(folder, tokenizer("ab")["input_ids"])[0].item(), abs=1e-5)


def test_numbers_of_a_regression_have_no_probability(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path, "bert", problem_type="regression")
    with pytest.raises(ConfigError, match="regression"):
        reward(folder, output="probability")
    assert totals(reward(folder))


# --- what it reads ---


def test_it_reads_its_own_chat_template_where_there_is_one(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path, "llama", template=CHAT)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)

    def of(text: str) -> float:
        return plain(folder, tokenizer(text, add_special_tokens=False)["input_ids"])[1].item()

    turns = json.dumps([{"role": "system", "content": "S"}, {"role": "user", "content": "U"}])
    begun = json.dumps([{"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}])
    found = totals(reward(folder), ["Hi", turns, begun], ["you", "you", "you"])
    texts = ["[user]Hi<end>[assistant]you<end>", "[system]S<end>[user]U<end>[assistant]you<end>",
             "[user]U<end>[assistant]Ayou<end>"]
    assert found == pytest.approx([of(text) for text in texts], abs=1e-5)


def test_chat_without_a_template_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="chat template"):
        reward(folders["bert"], reads="chat")


def test_a_pair_is_told_apart_and_a_response_stands_alone(folders: dict[str, Path]) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folders["bert"])
    both = tokenizer("Once", " upon")
    assert 1 in both["token_type_ids"]
    expected = plain(folders["bert"], both["input_ids"], token_type_ids=both["token_type_ids"])[1].item()
    assert totals(reward(folders["bert"], reads="pair"), ["Once", "x"], [" upon", "yz"])[0] == pytest.approx(
        expected, abs=1e-5)
    alone = plain(folders["bert"], tokenizer(" upon")["input_ids"])[1].item()
    assert totals(reward(folders["bert"], reads="response"), ["Once"], [" upon"]) == pytest.approx([alone], abs=1e-5)


def test_what_is_too_long_loses_its_beginning_and_that_is_a_metric(folders: dict[str, Path]) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folders["bert"])
    prompt, response = "p" * 90, "r" * 20
    read = tokenizer((prompt + response)[-62:])["input_ids"]  # with the two special ones as many as it can
    assert len(read) == 64
    judge = build_rewards([reward(folders["bert"]).config])
    batch = judge.score([prompt, "short"], [response, " one"])
    assert batch.scores[0].total == pytest.approx(plain(folders["bert"], read)[1].item(), abs=1e-5)
    assert batch.facts == {"classifier/truncated": 0.5}


@pytest.mark.parametrize(("prompt", "response", "kept"), [("p" * 20, "r" * 6, ("ppp", "rrrrrr")),
                                                         ("p" * 20, "abcdefghijkl", ("", "defghijkl"))])
def test_of_a_pair_the_prompt_is_cut_first(
    folders: dict[str, Path], prompt: str, response: str, kept: tuple[str, str]
) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folders["bert"])
    read = tokenizer(*kept)
    assert len(read["input_ids"]) == 12
    expected = plain(folders["bert"], read["input_ids"], token_type_ids=read["token_type_ids"])[1].item()
    found = totals(reward(folders["bert"], reads="pair", max_tokens=12), [prompt], [response])
    assert found == pytest.approx([expected], abs=1e-5)


def test_a_cut_conversation_ends_as_it_did(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path, "llama", template=CHAT)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(f"[user]{'p' * 80}<end>[assistant]you<end>", add_special_tokens=False)["input_ids"]
    expected = plain(folder, ids[-64:])[1].item()
    assert totals(reward(folder), ["p" * 80], ["you"]) == pytest.approx([expected], abs=1e-5)


# --- what is no classifier ---


def test_a_model_whose_head_is_not_in_its_files_is_refused(model_folders: dict[str, Path]) -> None:
    for name in ("llama", "gpt2"):
        with pytest.raises(ConfigError, match=r"'classifier'.*incomplete.*score\.weight.*ForCausalLM|LMHeadModel"):
            reward(model_folders[name], label="LABEL_0")


def test_a_head_of_another_size_and_lost_layers_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    for key, value, word in (("id2label", {"0": "a", "1": "b", "2": "c"}, "size"), ("num_hidden_layers", 1, "no use")):
        folder = Path(shutil.copytree(folders["llama"], tmp_path / key))
        config = json.loads((folder / "config.json").read_text()) | {key: value}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError, match=word):
            reward(folder, label="0")


def test_what_is_not_there_is_told_in_one_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder '/nowhere/at/all'"):
        reward(Path("/nowhere/at/all"))
    with pytest.raises(ConfigError, match="does not hold a sequence classifier"):
        reward(tmp_path)
    folder = Path(shutil.copytree(folders["bert"], tmp_path / "torn"))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        reward(folder)
    adapter = Path(shutil.copytree(folders["bert"], tmp_path / "adapter"))
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="adapter_model"):
        reward(adapter)


@pytest.fixture
def nothing_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    yield
    remote_code.distrust()


@pytest.mark.usefixtures("nothing_is_trusted")
def test_code_of_its_own_runs_only_where_that_classifier_was_named(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["bert"], tmp_path / "own"))
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(
        "from pathlib import Path\nfrom transformers import BertConfig, BertForSequenceClassification\n"
        f"Path({str(tmp_path / 'mark')!r}).touch()\n"
        "class OwnConfig(BertConfig):\n    model_type = 'own'\n"
        "class OwnModel(BertForSequenceClassification):\n    config_class = OwnConfig\n")
    with pytest.raises(ConfigError, match=r"needs code of its own.*read that code first"):
        reward(folder)
    assert not (tmp_path / "mark").exists()
    remote_code.trust(str(folder))
    assert totals(reward(folder)) == pytest.approx(totals(reward(folders["bert"])), abs=1e-6)


def test_nothing_of_it_is_trained_or_dropped_out(folders: dict[str, Path]) -> None:
    before = (folders["bert"] / "model.safetensors").read_bytes()
    judge = reward(folders["bert"])
    with torch.enable_grad():
        assert totals(judge) == totals(judge)  # BERT has dropout
    assert (folders["bert"] / "model.safetensors").read_bytes() == before


# --- in a run ---


@pytest.fixture
def judged(neo_config: RunConfig, folders: dict[str, Path], tmp_path: Path) -> RunConfig:
    folder = shutil.copytree(folders["llama"], tmp_path / "judge")
    table = {"kind": "classifier", "model": str(folder), "label": "good", "output": "probability"}
    return fields.validate(neo_config.model_dump() | {"rewards": [table]})


def recorded(config: RunConfig) -> str | None:
    assert isinstance(config.rewards[0], ClassifierRewardConfig)
    return config.rewards[0].sha256


def test_a_run_writes_down_its_classifier_and_asks_before_it_goes_on_with_another(
    judged: RunConfig, folders: dict[str, Path], tmp_path: Path
) -> None:
    run_dir = RunDir.create(tmp_path, pinned_data(fields.replace(judged, {"train.steps": 2})), name="run")
    events: list[Event] = []
    Trainer(run_dir.config(), run_dir=run_dir, emit=events.append).run()
    told = [event.metrics["rewards/classifier/mean"] for event in events if isinstance(event, StepFinished)]
    assert len(told) == 2
    assert all(0 < value < 1 for value in told)
    digest = recorded(run_dir.config())
    assert digest is not None
    assert change_of_data(run_dir) == ""

    longer = RequestQueue()
    longer.ask(Edit("train.steps", 3))
    (tmp_path / "judge" / "config.json").write_text(
        (tmp_path / "judge" / "config.json").read_text().replace('"good"', '"fine"'))
    with pytest.raises(DataChangedError, match="classifier that has changed"):
        Trainer.resume(run_dir, emit=lambda event: None)
    assert "classifier" in change_of_data(run_dir)
    with pytest.raises(ConfigError, match="no longer the classifier"):
        pinned_data(run_dir.config())

    shutil.copytree(folders["llama"], tmp_path / "judge", dirs_exist_ok=True)
    Trainer.resume(run_dir, emit=lambda event: None, requests=longer).run()
    (tmp_path / "judge" / "tokenizer_config.json").write_text(
        (tmp_path / "judge" / "tokenizer_config.json").read_text().replace("<pad>", "<end>"))
    events.clear()
    Trainer.resume(run_dir, emit=events.append, accept_data=True).run()
    edits = [event.path for event in events if isinstance(event, EditApplied)]
    assert edits == ["rewards.0.sha256"]
    assert recorded(settings_now(run_dir)) != digest


def test_a_live_edit_of_a_weight_keeps_the_classifier_that_is_loaded(
    judged: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[object] = []
    real = hf.AutoModelForSequenceClassification.from_pretrained

    def counted(*args: Any, **options: Any) -> Any:
        loads.append(args)
        return real(*args, **options)

    monkeypatch.setattr(hf.AutoModelForSequenceClassification, "from_pretrained", counted)
    requests = RequestQueue()
    requests.ask(Edit("rewards.0.weight", 0.5))
    Trainer(fields.replace(judged, {"train.steps": 1}), run_dir=None, emit=lambda event: None, requests=requests).run()
    assert len(loads) == 1
