"""Prompts become the ids, and sampled ids the texts, that model and tokenizer mean, whatever they disagree about."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_config
from tokenizers_of_kinds import byte_level, metaspace, save_model, word_level, word_piece
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast
from typer.testing import CliRunner

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.evaluation.generate import generate_texts
from rlhf_engine.events import Event, GenerationFinished, GenerationToken, Notice, StepFinished
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import sample
from rlhf_engine.models.text_codec import TextCodec
from rlhf_engine.requests import Generate
from rlhf_engine.training.trainer import Trainer

KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": byte_level, "metaspace": metaspace, "wordpiece": word_piece, "words": word_level}


def policy_of(folder: Path) -> Policy:
    return Policy.from_config(tiny_config(folder))


def drawn_ids(policy: Policy, rows: int = 64) -> set[int]:
    generator = torch.Generator().manual_seed(0)
    rollout = sample(policy, ["cat"] * rows, SamplingConfig(max_new_tokens=24), generator)
    return set(rollout.response_ids[rollout.response_mask].tolist())


# --- which ids may be sampled ---


def test_an_end_token_behind_a_hole_ends_responses_and_the_hole_is_never_drawn(tmp_path: Path) -> None:
    policy = policy_of(save_model(tmp_path, byte_level(end_id=276), rows=300))
    drawn = drawn_ids(policy)
    assert 276 in drawn
    assert drawn <= {*range(256), 276}
    answers, _ = generate_texts(str(tmp_path), prompts=["cat"] * 64, tuned=False, seed=0, max_new_tokens=24)
    assert any(answer.finished for answer in answers)


def test_the_log_probs_of_what_may_be_drawn_sum_to_one_over_the_real_tokens(tmp_path: Path) -> None:
    policy = policy_of(save_model(tmp_path, byte_level(end_id=276), rows=300))
    ids, mask = policy.encode(["cat"])
    real = torch.tensor([*range(256), 276])
    logits = policy.base(input_ids=ids, attention_mask=mask.long()).logits[0, -1, real]
    found = policy.next_logits(policy.forward(ids, mask)[:, -1], 1.0)[0]
    assert torch.allclose(found.log_softmax(-1)[real], logits.log_softmax(-1), atol=1e-5)


@pytest.mark.parametrize("own_padding", [True, False])
def test_a_padding_token_of_its_own_is_never_drawn_but_one_that_is_the_end_token_is(
    tmp_path: Path, own_padding: bool
) -> None:
    tokenizer = byte_level()
    tokenizer.pad_token = "<|pad|>" if own_padding else "<|end|>"
    if own_padding:
        tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    policy = policy_of(save_model(tmp_path, tokenizer, rows=257 + own_padding))
    drawn = drawn_ids(policy)
    assert 256 in drawn
    assert 257 not in drawn
    assert (policy.pad_id == 256) is not own_padding


def test_a_padding_token_without_a_row_pads_nothing(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    policy = policy_of(save_model(tmp_path, tokenizer, rows=257))
    assert policy.pad_id == 256
    assert 256 in drawn_ids(policy)


def test_every_end_token_of_the_generation_config_ends_a_response_and_one_without_a_row_is_told(
    tmp_path: Path,
) -> None:
    folder = save_model(tmp_path, byte_level())
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [65, 66, 999]}))
    policy = policy_of(folder)
    generator = torch.Generator().manual_seed(0)
    rollout = sample(policy, ["cat"] * 64, SamplingConfig(max_new_tokens=24), generator)
    last = [row[mask][-1] for row, mask in zip(rollout.response_ids, rollout.response_mask, strict=True)]
    assert {int(index) for index, done in zip(last, rollout.finished, strict=True) if done} == {65, 66, 256}
    assert [text for text in told(folder) if "999" in text]


def test_a_model_saved_without_a_word_about_its_end_does_not_end_at_a_letter(tmp_path: Path) -> None:
    folder = save_model(tmp_path, byte_level(), eos_token_id=2)  # what Llama's configuration says by itself
    assert policy_of(folder).end_ids == (256,)
    assert [text for text in told(folder) if "(id 2)" in text]


def test_a_model_without_any_end_token_is_told(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = None
    assert [text for text in told(save_model(tmp_path, tokenizer)) if "end token" in text]


def told(folder: Path) -> list[str]:
    """The notices of a run of one step."""
    config = tiny_config(folder, train={"steps": 1}, algorithm={"responses_per_step": 2, "minibatch_size": 2})
    events: list[Event] = []
    Trainer(config, run_dir=None, emit=events.append).run()
    return [event.text for event in events if isinstance(event, Notice)]


def test_a_prompt_with_a_token_beyond_the_models_rows_is_a_sentence_and_leaves_no_run(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens(["<|user|>"])
    folder = save_model(tmp_path / "model", tokenizer, rows=257)
    config = tiny_config(folder, data={"prompts": ["cat", "<|user|>Say so"]})
    (tmp_path / "p.toml").write_text(to_toml(config))
    result = CliRunner().invoke(make_app(), ["train", str(tmp_path / "p.toml"), "--runs-dir", str(tmp_path / "runs")])
    assert result.exit_code in (1, 2)
    for named in ("<|user|>Say so", "257"):
        assert named in result.stderr
    assert not list((tmp_path / "runs").glob("*/config.toml"))
    result = CliRunner().invoke(make_app(), ["generate", str(folder), "--prompt", "<|user|>Say so"])
    assert result.exit_code == 1
    assert "<|user|>" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("prompt", ["caf\udce9", ""])
def test_a_prompt_that_cannot_be_read_is_a_sentence(tmp_path: Path, prompt: str) -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = None  # and so nothing to begin an empty text with
    with pytest.raises(ModelError, match="prompt"):
        generate_texts(str(save_model(tmp_path, tokenizer)), prompts=["cat", prompt], tuned=False, seed=0)


# --- prompts ---


@pytest.mark.parametrize(("make", "prompt", "tokens"), [
    (metaspace, "cat", ["<s>", "▁cat"]),
    (metaspace, "<s>cat", ["<s>", "▁cat"]),
    (metaspace, "<s><s>cat", ["<s>", "<s>", "▁cat"]),  # who writes two means two
    (metaspace, "cat</s>", ["<s>", "▁cat", "</s>"]),
    (metaspace, "", ["<s>"]),
    (metaspace, "<s>", ["<s>"]),
    (word_piece, "a cat", ["[CLS]", "a", "cat"]),
    (word_piece, "[CLS] a cat", ["[CLS]", "a", "cat"]),
    (word_piece, "a cat [SEP]", ["[CLS]", "a", "cat", "[SEP]"]),
    (word_level, "once upon", ["once", "upon"]),
    (lambda: word_level(end_at_the_end=True), "once upon", ["once", "upon"]),
    (lambda: word_level(end_at_the_end=True), "once </s>", ["once", "</s>"]),
    (byte_level, "a<|end|>", ["a", "<|end|>"]),
    (byte_level, "", ["<|end|>"]),
])
def test_a_prompt_has_one_start_token_and_ends_as_it_was_written(
    tmp_path: Path, make: Callable[[], PreTrainedTokenizerFast], prompt: str, tokens: list[str]
) -> None:
    tokenizer = make()
    policy = policy_of(save_model(tmp_path, tokenizer))
    ids, mask = policy.encode([prompt])
    assert tokenizer.convert_ids_to_tokens(ids[0].tolist()) == tokens
    assert mask.all()


def test_a_chat_template_that_writes_the_start_token_gets_no_second_one(tmp_path: Path) -> None:
    tokenizer = metaspace()
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    messages = [{"role": "user", "content": "Once upon"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False)
    assert prompt.startswith("<s>")
    ids, _ = policy_of(save_model(tmp_path, tokenizer)).encode([prompt])
    assert ids[0].tolist() == tokenizer.apply_chat_template(messages, return_dict=False)


# --- texts ---


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_response_is_what_the_decoded_whole_has_more_than_the_decoded_prompt(kind: str, data: st.DataObject) -> None:
    tokenizer = KINDS[kind]()
    codec = TextCodec(tokenizer, rows=1000, end_ids=(tokenizer.eos_token_id,) if tokenizer.eos_token else ())
    prompt = data.draw(st.sampled_from(["once upon a time", "Once upon", "cat", "é 😀", "a "]))
    ids = data.draw(st.lists(st.sampled_from(sorted(tokenizer.get_vocab().values())), max_size=12))
    (before,) = codec.encode([prompt])
    whole, known = (tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                    for row in ([*before, *ids], before))
    (text,) = codec.decode([ids], [before])
    if whole.startswith(known):  # else the bytes of a broken character took the prompt's own with them
        assert text == whole[len(known):]
    assert text.count("\N{REPLACEMENT CHARACTER}") <= len(ids)


class Loud(PreTrainedTokenizerFast):
    """One that writes in its own way."""

    def _decode(self, *ids: Any, **options: Any) -> str:
        return super()._decode(*ids, **options).upper()


def loud() -> PreTrainedTokenizerFast:
    return Loud(tokenizer_object=byte_level().backend_tokenizer, eos_token="<|end|>")


@pytest.mark.parametrize("kind", [*KINDS, "loud", "without a library", "cleaning"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_many_responses_have_the_texts_that_transformers_gives_each(kind: str, data: st.DataObject) -> None:
    tokenizer = (KINDS | {"loud": loud, "without a library": ByT5Tokenizer, "cleaning": word_level})[kind]()
    if kind == "cleaning":
        tokenizer.clean_up_tokenization_spaces = True
    row = st.lists(st.sampled_from(sorted(tokenizer.get_vocab().values())), max_size=12)
    rows = data.draw(st.lists(row, max_size=6))
    alone = [tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in rows]
    codec = TextCodec(tokenizer, rows=1000)
    special = tokenizer.all_special_ids[:1]  # behind no text a response stands alone
    assert codec.decode(rows, [special] * len(rows)) == alone


@pytest.mark.parametrize(("prompt", "ids", "text"), [
    ("Once upon time", ["▁cat", "▁cat"], " cat cat"),
    ("Once upon time", ["cat"[0], "a", "t"], "cat"),
    ("", ["▁cat", "▁cat"], "cat cat"),
    ("<s>", ["▁cat"], "cat"),
    ("cat 😀", ["▁cat", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>"], " cat😀"),
    ("cat 😀", ["<0x98>", "▁cat"], "\N{REPLACEMENT CHARACTER} cat"),
    ("Once", ["▁cat", "</s>"], " cat"),
])
def test_the_first_space_is_told_from_none(prompt: str, ids: list[str], text: str) -> None:
    tokenizer = metaspace()
    codec = TextCodec(tokenizer, rows=1000, end_ids=(2,))
    response = tokenizer.convert_tokens_to_ids(ids)
    assert codec.decode([response], codec.encode([prompt])) == [text]


def test_an_end_token_that_is_not_called_special_is_no_text_of_the_response(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens(["<|stop|>"])
    folder = save_model(tmp_path, tokenizer)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [257]}))
    answers, _ = generate_texts(str(folder), prompts=["cat <|stop|>"] * 64, tuned=False, seed=0, max_new_tokens=24)
    assert any(answer.finished for answer in answers)
    assert not any("stop" in answer.response for answer in answers)


@pytest.mark.parametrize("make", [lambda: metaspace(bytes_too=False), word_piece])
def test_samples_traces_and_answers_show_the_text_after_the_prompt(
    tmp_path: Path, make: Callable[[], PreTrainedTokenizerFast]
) -> None:
    tokenizer = make()
    folder = save_model(tmp_path, tokenizer)
    config = tiny_config(folder, data={"prompts": ["once upon a time", "cat"]},
                         train={"steps": 1, "samples_per_step": 8})
    events: list[Event] = []
    trainer = Trainer(config, run_dir=None, emit=events.append)
    trainer.run()
    samples = [sample for event in events if isinstance(event, StepFinished) for sample in event.samples]
    answers, _ = generate_texts(str(folder), prompts=config.data.prompts * 4, tuned=False, seed=3, max_new_tokens=12)
    assert len(samples) == 8
    for found in samples:
        assert found.trace is not None
        assert "".join(found.trace.texts) == found.response
    for texts in ([found.response for found in samples], [found.response for found in answers]):
        assert any(text.startswith(" ") and text.strip() for text in texts)


def test_a_text_that_is_shown_as_it_comes_is_the_one_that_is_there_at_the_end(tmp_path: Path) -> None:
    config = tiny_config(save_model(tmp_path, metaspace(bytes_too=False)), data={"prompts": ["Once upon"]},
                         train={"steps": 1})
    events: list[Event] = []
    trainer = Trainer(config, run_dir=None, emit=events.append)
    for number in range(8):
        trainer.requests.ask(Generate(number, config, "Once upon", True, 1.0, 12, seed=number))
    trainer.run()
    last = {event.request_id: event.text for event in events if isinstance(event, GenerationToken)}
    done = {event.request_id: event.text for event in events if isinstance(event, GenerationFinished)}
    assert last == done
    assert any(text.startswith(" ") for text in done.values())
