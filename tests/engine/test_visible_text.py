"""What commands a terminal, or hides, is seen where people look, and read back unchanged where programs do."""

from __future__ import annotations

import json
import sys
import tomllib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from rlhf_engine.config.fields import validate
from rlhf_engine.config.preset_text import parse
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.errors import first_line
from rlhf_engine.files.json_text import to_json
from rlhf_engine.runs.run_lines import as_object, to_line
from rlhf_engine.system.visible_text import one_line, visible, without_hidden

OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
KEPT = "\n\t\u200d"
HIDDEN = ["\u115f", "\u1160", "\u3164", "\uffa0", "\u034f", "\u180b", "\ufe00", "\ufff0", "\U000e0041", "\U000e0100"]
LEGITIMATE = ["👩\u200d🚀", "❤\ufe0f", "é", "e\u0301\u0302", "日本語", "ลิ้น", "עִבְרִית", "a\tb\nc", "क्षि", "\ue0b0"]
some_text = st.lists(st.sampled_from(["\x1b[2J", "\x7f", "\x9b31m", "\u202e", "\u2028", "\\", '"', "'", "\n", "\r",
                                      "\t", "\U000e0041", "\u3164", "e" + "\u0301" * 30, "日本", "#", "\\u202e"])
                     | st.characters(exclude_categories=["Cs"]), max_size=12).map("".join)


def is_visible(text: str, kept: str = KEPT) -> bool:
    return all(c in kept or unicodedata.category(c) not in OBEYED for c in text) and not set(text) & set(HIDDEN)


def test_every_character_of_the_categories_that_terminals_obey_has_a_stand_in() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    obeyed = "".join(c for c in characters if unicodedata.category(c) in OBEYED and c not in KEPT)
    for text in (obeyed, "".join(HIDDEN)):
        shown = visible(text)
        assert is_visible(shown)
        assert len(shown) == len(text)
        assert shown.isprintable()
        assert without_hidden(text) == ""
    assert visible("".join(map(chr, range(128)))).replace("\n", "").replace("\t", "").isprintable()  # all ASCII


@pytest.mark.parametrize("text", LEGITIMATE)
def test_what_people_write_stays(text: str) -> None:
    assert visible(text) == text
    assert json.dumps(text, ensure_ascii=False) == to_json(text, ascii_only=False)


def test_accents_in_heaps_are_seen() -> None:
    text = "z" + "\u0335" * 3000
    assert len(visible(text)) == len(text)
    assert visible(text).count("\u0335") < 10
    assert len(without_hidden(text)) < 10


@given(some_text)
def test_a_name_is_one_line_however_it_is_called(text: str) -> None:
    shown = one_line(text)
    assert is_visible(shown, "\u200d")
    assert len(shown.splitlines()) <= 1
    assert one_line(shown) == shown


@given(some_text, st.booleans())
def test_json_holds_what_was_there_and_shows_nothing_else(text: str, ascii_only: bool) -> None:
    for value in (text, {text: [text]}):
        written = to_json(value, ascii_only=ascii_only)
        assert is_visible(written, "\u200d")
        assert json.loads(written) == value
    line = to_line({"text": text})
    assert is_visible(line, "\u200d")
    assert as_object(line.encode()) == {"text": text}


def test_half_a_surrogate_pair_is_written_and_read_back() -> None:
    line = to_line({"text": "a\ud83d"})
    assert as_object(line.encode()) == {"text": "a\ud83d"}


@given(some_text.filter(str.strip), some_text)
def test_a_preset_holds_what_was_there_and_shows_nothing_else(prompt: str, description: str) -> None:
    config = validate({"data": {"prompts": [prompt, "plain"]}, "description": description,
                       "rewards": [{"kind": "word_list", "liked": ["fox"]}]})
    written = to_toml(config)
    assert is_visible(written)
    assert "\r" not in written
    assert parse(written, "x") == config
    # laid out as a person might: a text without escapes, and a comment
    earlier = f"# by hand \u202e\nprompts = ['''{prompt}''', 'x']\ndescription = 'old'\n[[rewards]]\nkind = 'length'\n"
    again = to_toml(config, earlier)
    assert is_visible(again)
    assert parse(again, "x") == config


def test_a_raw_preset_of_before_is_read_and_what_is_saved_of_it_is_clean() -> None:
    raw = ("prompts = ['a\u202eb']  # \u2066\ndescription = \"c\x9bd\"\n"
           "[[rewards]]\nkind = 'word_list'\nliked = ['fox']\n")
    config = parse(raw, "x")
    assert config.data.prompts == ["a\u202eb"]
    saved = to_toml(config, raw)
    assert is_visible(saved)
    assert tomllib.loads(saved)["description"] == "c\x9bd"


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


def test_what_an_error_of_others_says_fits_into_a_sentence() -> None:
    class Strict(BaseModel):
        size: int

    with pytest.raises(ValidationError) as caught:
        Strict.model_validate({"size": "x" * 1_000_000})
    for error in (caught.value, ValueError("\x1b[2J" + "x" * 1_000_000), KeyError("name\n"), Unspeakable(), OSError()):
        said = first_line(error)
        assert 0 < len(said) <= 300
        assert is_visible(said, "")
        assert "http" not in said
    assert "size" in first_line(caught.value)
    assert "name" in first_line(KeyError("name"))
