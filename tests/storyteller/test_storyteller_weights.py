"""The shipped weights against their bars.

Bars are stated for 200 responses; here are fewer, so a rate fails only when it lies past its bar by more than two
standard errors of this sample (`MARGIN`), and shares get two binomial standard errors. The bars stay as they are.
"""

from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf_engine.storyteller import MODEL_DIR, lexicon, prompts
from storyteller_maker.measure import Figures, figures, load_model, respond
from storyteller_maker.seen import load
from storyteller_maker.words import bare, words

MARGIN = 2.0
EACH = 4  # responses to each of the 20 openers
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def storyteller() -> tuple[Any, Any]:
    return load_model(MODEL_DIR)


@pytest.fixture(scope="module")
def responses(storyteller: tuple[Any, Any]) -> list[str]:
    return respond(*storyteller, list(prompts("animals")) * EACH, seed=1)[0]


@pytest.fixture(scope="module")
def measured(responses: list[str]) -> Figures:
    return figures(responses, load())


def test_words_are_not_invented(measured: Figures) -> None:
    bar = 0.1
    assert measured.invented_per_100 <= bar + MARGIN * 100 * math.sqrt(bar / 100 / measured.words)


def test_word_pairs_are_those_of_the_grammar(measured: Figures) -> None:
    assert measured.unseen_per_100 <= 0.7 + MARGIN * measured.unseen_standard_error


def test_most_responses_hold_no_unseen_pair(measured: Figures) -> None:
    bar = 0.78
    assert measured.share_without_unseen >= bar - MARGIN * math.sqrt(bar * (1 - bar) / measured.texts)


def test_animals_are_seldom_and_people_common(measured: Figures) -> None:
    """Words of a kind cluster in stories, so the standard errors are those of shares per story, over 80 stories."""
    assert 0.008 - MARGIN * 0.003 <= measured.animals <= 0.02 + MARGIN * 0.004
    assert 0.03 - MARGIN * 0.003 <= measured.people <= 0.08 + MARGIN * 0.003


def test_responses_are_varied(measured: Figures) -> None:
    assert measured.distinct_2 >= 0.42  # fewer responses repeat less, so this is met more easily than by 200


def test_every_story_ends(storyteller: tuple[Any, Any]) -> None:
    texts, ended = respond(*storyteller, list(prompts("animals")), new_tokens=256, seed=2)
    assert ended == 1.0
    assert 35 <= sum(len(words(text)) for text in texts) / len(texts) <= 75


def test_a_story_can_begin_from_nothing(storyteller: tuple[Any, Any]) -> None:
    model, tokenizer = storyteller
    texts, ended = respond(model, tokenizer, [tokenizer.bos_token] * 12, new_tokens=250, seed=3)
    assert ended == 1.0
    assert all(text[0].isupper() or text[0] == '"' for text in texts)
    assert all(not text.startswith(" ") for text in texts)


def test_the_pad_token_is_never_likely(storyteller: tuple[Any, Any], responses: list[str]) -> None:
    import torch

    model, tokenizer = storyteller
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == 0
    ids = tokenizer([text.strip() for text in responses[:20]], return_tensors="pt", padding=True, padding_side="right")
    with torch.no_grad():
        chances = model(**ids).logits.softmax(-1)[..., tokenizer.pad_token_id]
    assert float(chances[ids["attention_mask"] == 1].max()) < 1e-4


def test_an_unknown_word_in_a_prompt_does_no_harm(storyteller: tuple[Any, Any]) -> None:
    texts, _ = respond(*storyteller, ["Once upon a time, there was a wombat named Zorbina. Zorbina"] * 20, seed=4)
    strange = [word for text in texts for word in words(text) if bare(word) not in lexicon()]
    assert len(strange) <= 0.01 * sum(len(words(text)) for text in texts)


def test_words_of_the_grammar_are_single_tokens(storyteller: tuple[Any, Any]) -> None:
    _, tokenizer = storyteller
    whole = sum(len(tokenizer(f" {word}").input_ids) == 1 for word in lexicon())
    capital = sum(len(tokenizer(f" {word.capitalize()}").input_ids) == 1 for word in lexicon())
    assert max(whole, capital) / len(lexicon()) > 0.9
    assert sum(
        min(len(tokenizer(f"{space}{form}").input_ids) for space in ("", " ") for form in (word, word.capitalize()))
        == 1
        for word in lexicon()
    ) == len(lexicon())


@pytest.mark.parametrize(
    "text", ["Once there was a fox.", " two  spaces\n\tand tabs", "naïve 🙂 Ωmega", '"No!" she said.', ""]
)
def test_the_tokenizer_loses_nothing(storyteller: tuple[Any, Any], text: str) -> None:
    _, tokenizer = storyteller
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_weights_and_tokenizer_are_small_plain_files() -> None:
    total = sum((MODEL_DIR / name).stat().st_size for name in ("model.safetensors", "tokenizer.json"))
    assert total <= 5_000_000
    for path in MODEL_DIR.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444, path
    config = json.loads((MODEL_DIR / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert config["max_position_embeddings"] == 256


LOAD = """
import socket
def refuse(*_, **__):
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import time
import torch
import transformers.models.gpt_neo.modeling_gpt_neo
from transformers import AutoModelForCausalLM, AutoTokenizer
start = time.process_time()
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
took = time.process_time() - start
ids = model.generate(**tokenizer("Once there was", return_tensors="pt"), max_new_tokens=4)
assert ids.shape[1] == 7
print(took)
"""


def test_it_loads_without_network_cache_or_variables() -> None:
    """In less than a second of processor time, once torch and the library's own modules are imported."""
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent"}
    code = LOAD.replace("FOLDER", repr(str(MODEL_DIR)))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1.0


def test_the_words_come_without_torch() -> None:
    code = (
        "import sys, rlhf_engine.storyteller as s; s.lexicon(); s.themes(); s.prompts('animals'); s.PROMPTS;"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_model_card_is_there() -> None:
    card = (MODEL_DIR / "MODEL_CARD.md").read_text(encoding="utf-8")
    for topic in ("How it was made", "Measured", "cannot"):
        assert topic in card


def test_openers_have_no_trailing_space_and_begin_like_stories(storyteller: tuple[Any, Any]) -> None:
    from rlhf_engine.storyteller import PROMPTS

    assert len(prompts("animals")) == 20
    for opener in (*prompts("animals"), *prompts("sea"), *PROMPTS):
        assert opener == opener.strip()
        assert {bare(word) for word in words(opener)} <= lexicon()
    with pytest.raises(KeyError):
        prompts("no such theme")
