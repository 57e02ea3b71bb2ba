"""Prompts put to chat models: by the tokenizer's own template, and decoded behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_config
from tokenizers_of_kinds import byte_level, metaspace, save_model, word_piece
from transformers import PreTrainedTokenizerFast

from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.errors import ModelError, PromptError
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import sample
from rlhf_engine.models.text_codec import TextCodec

# of Llama 2's kind: the template writes the start token itself, which the tokenizer would put there once more
BEGINS = ("{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }} \n"
          "{% endfor %}{% if add_generation_prompt %}tape: {% endif %}")
BARE = BEGINS.removeprefix("{{ bos_token }}")
# one that knows no system message, and says so
REFUSES = "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system here') }}" \
          "{% endif %}{{ message['content'] }}{% endfor %}"


def codec(tokenizer: PreTrainedTokenizerFast, template: str | None, system: str | None = None) -> TextCodec:
    tokenizer.chat_template = template
    found = TextCodec(tokenizer, rows=max(tokenizer.get_vocab().values()) + 1, end_ids=[2])
    found.use_chat_template(system)
    return found


@pytest.mark.parametrize("template", [BEGINS, BARE])
@pytest.mark.parametrize("make", [metaspace, byte_level, word_piece])
def test_a_prompt_has_the_tokens_that_its_template_gives_it(make: object, template: str) -> None:
    tokenizer = make()  # type: ignore[operator]
    (ids,) = codec(tokenizer, template).encode(["Once upon a time "])
    messages = [{"role": "user", "content": "Once upon a time "}]
    assert ids == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def test_the_start_token_comes_once() -> None:
    tokenizer = metaspace()
    (ids,) = codec(tokenizer, BEGINS).encode(["Once"])
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    # prompts that were rendered before they came here, and no template in the settings
    plain = TextCodec(tokenizer, rows=len(tokenizer), end_ids=[2])
    assert plain.encode(["<s>Once"])[0].count(tokenizer.bos_token_id) == 1
    assert plain.encode(["Once"])[0].count(tokenizer.bos_token_id) == 1


def test_what_a_prompt_ends_with_stays() -> None:
    tokenizer = metaspace()
    (ids,) = codec(tokenizer, BEGINS).encode(["Once"])
    assert tokenizer.decode(ids).endswith("tape: ")


def test_a_system_text_comes_first_and_once() -> None:
    tokenizer = byte_level()
    texts = codec(tokenizer, BARE, "a note")
    assert tokenizer.decode(texts.encode(["b"])[0]) == "system: a note \nuser: b \ntape: "
    own = json.dumps([{"role": "system", "content": "own"}, {"role": "user", "content": "b"}])
    assert tokenizer.decode(texts.encode([own])[0]) == "system: own \nuser: b \ntape: "


def test_a_conversation_is_rendered_whole_and_one_that_has_begun_is_continued() -> None:
    tokenizer = byte_level()
    texts = codec(tokenizer, BARE)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert tokenizer.decode(texts.encode([json.dumps(turns)])[0]) == "user: a \nassistant: b \nuser: c \ntape: "
    assert tokenizer.decode(texts.encode([json.dumps(turns[:2])])[0]) == "user: a \nassistant: b"
    assert tokenizer.decode(texts.encode(['["a", "list"]'])[0]) == 'user: ["a", "list"] \ntape: '


def test_what_a_template_refuses_is_told_in_a_sentence() -> None:
    with pytest.raises(PromptError, match="no system here"):
        codec(byte_level(), REFUSES, "a note").encode(["b"])
    for template in ("{{ 1 / 0 }}", "{% for", "{{ messages.__class__.__mro__ }}{{ ''.x.y }}"):
        with pytest.raises(PromptError):
            codec(byte_level(), template).encode(["b"])
    with pytest.raises(ModelError, match="chat_template"):
        codec(byte_level(), None)


@pytest.mark.parametrize("make", [metaspace, byte_level, word_piece])
def test_a_response_is_what_the_decoded_whole_has_more_than_the_decoded_prompt(make: object) -> None:
    tokenizer = make()  # type: ignore[operator]
    texts = codec(tokenizer, BEGINS if tokenizer.bos_token else BARE)
    prompts = texts.encode(["once upon a time", "cat"])
    generator = torch.Generator().manual_seed(0)
    ordinary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    if make is metaspace:  # bytes of half a character are another matter
        ordinary = [index for index in ordinary if not tokenizer.convert_ids_to_tokens(index).startswith("<0x")]
    elif make is byte_level:
        ordinary = [index for index in ordinary if tokenizer.decode([index]).isascii()]
    for _ in range(20):
        responses = [[ordinary[int(at)] for at in torch.randint(len(ordinary), (6,), generator=generator)]
                     for _ in prompts]
        for prompt, response, text in zip(prompts, responses, texts.decode(responses, prompts), strict=True):
            before, whole = (tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                             for ids in (prompt, prompt + response))
            assert before + text == whole


def test_a_run_samples_behind_the_template(tmp_path: Path) -> None:
    tokenizer = metaspace()
    tokenizer.chat_template = BEGINS
    folder = save_model(tmp_path / "model", tokenizer)
    config = tiny_config(folder, data={"prompts": ["Once", "cat"], "chat_template": True, "system": "a note"})
    policy = Policy.from_config(config)
    rollout = sample(policy, ["Once", "cat"], SamplingConfig(max_new_tokens=4), torch.Generator().manual_seed(0))
    assert rollout.prompts == ["Once", "cat"]
    ids, mask, response_mask = rollout.batch(torch.arange(2))
    for row, prompt in enumerate(rollout.prompts):
        messages = [{"role": "system", "content": "a note"}, {"role": "user", "content": prompt}]
        wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        real = ids[row][mask[row]].tolist()
        assert real[: len(wanted)] == wanted
        assert len(real) == len(wanted) + int(response_mask[row].sum())
