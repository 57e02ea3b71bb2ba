"""Known answers of the word-list reward, and how words are told apart."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_engine.config.rewards import LengthRewardConfig, WordListRewardConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.length import LengthReward
from rlhf_engine.rewards.word_list import WordListReward
from rlhf_engine.rewards.word_matcher import WordMatcher
from rlhf_engine.words import word_places, words_of

LIKED = ["fox", "lion", "cat", "dog", "tiger", "bear"]
PARTS = ["liked", "disliked", "distinct", "short", "excess", "repeat", "adjacent"]


def score(text: str, liked: list[str] | None = None, disliked: list[str] | None = None, **settings: Any) -> Score:
    reward = WordListReward(WordListRewardConfig(
        liked=LIKED if liked is None else liked, disliked=disliked or ["boy"], **settings))
    (result,) = reward.score([""], [text])
    assert result.total == pytest.approx(sum(result.parts.values()))
    assert list(result.parts) == PARTS
    return result


def matched(text: str, liked: list[str], disliked: list[str] | None = None) -> list[tuple[str, str]]:
    """What is highlighted, with its kind."""
    return [(text[s.start : s.end], s.kind) for s in score(text, liked, disliked).spans]


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("The quick brown fox and a lion met a boy", 2.6),
        ("a cat and dog", 2.4),
        ("cat dog lion tiger bear fox cat dog lion tiger bear fox", 13.9),
        ("This is a simple sentence about nothing special", 0.0),
        ("", -1.0),
    ],
)
def test_known_answers(text: str, total: float) -> None:
    assert score(text).total == pytest.approx(total)


def test_parts_are_named_and_signed() -> None:
    parts = score("cat cat cat cat cat cat boy dog", repeat_penalty=0.25, adjacent_penalty=2.0).parts
    assert parts == pytest.approx(
        {
            "liked": 7 * 1.2,
            "disliked": -0.8,
            "distinct": 2 * 0.5,
            "short": 0.0,
            "excess": -(7 - 5) * 0.5,
            "repeat": -(6 - 4) * 0.25,
            "adjacent": -5 * 2.0,  # five pairs of cats; a boy stands between the last cat and the dog
        }
    )


def test_brakes_that_are_off_leave_plain_zeros() -> None:
    assert {str(value) for part, value in score("so it was once again").parts.items()} == {"0.0"}


@pytest.mark.parametrize(
    "text", ["Dog.", "DOG", '"dog,"', "*dog*", "_dog_", "dog\u2014", "(dog)", "dog's", "Dog\u2019s!", "dogs' dog"]
)
def test_case_punctuation_and_possessive_do_not_matter(text: str) -> None:
    assert score(text).parts["liked"] == 1.2


@pytest.mark.parametrize("text", ["dogs", "hotdog", "hot-dog", "dog-eared", "d og", "dogma", "dog\u0301"])
def test_other_words_do_not_match(text: str) -> None:
    assert score(text).parts["liked"] == 0.0


def test_list_entries_match_whatever_their_case_and_accents() -> None:
    assert score("lily ran", liked=["Lily"]).parts["liked"] == 1.2
    assert score("Cafe\u0301", liked=["café"]).parts["liked"] == 1.2
    assert score("ΟΔΟΣ", liked=["οδος"]).parts["liked"] == 1.2
    assert score("Don\u2019t!", liked=["don't"]).parts["liked"] == 1.2
    assert score("हिन्दी", liked=["हिन्दी"]).parts["liked"] == 1.2
    assert score("STRASSE", liked=["Straße"]).parts["liked"] == 1.2
    assert score("Ｄｏｇ").parts["liked"] == 1.2
    assert score("a T\u2011Rex", liked=["t-rex"]).parts["liked"] == 1.2
    assert score("می\u200cخواهم", liked=["می\u200cخواهم"]).parts["distinct"] == 0.5
    assert score("می\u200cخواهم", liked=["می"]).parts["liked"] == 0.0
    assert score("हिन", liked=["हिन्दी"]).parts["liked"] == 0.0


def test_a_contraction_on_the_list_is_not_the_bare_word() -> None:
    assert matched("he said he's here", ["he's"]) == [("he's", "liked")]
    assert matched("he said he's here", ["he's"], ["he"]) == [("he", "disliked"), ("he's", "liked")]
    assert matched("it's a fox's den", ["fox's", "it"]) == [("it's", "liked"), ("fox's", "liked")]


def test_spellings_of_one_entry_are_one_distinct_word() -> None:
    assert score("the fox saw the Fox's tail", liked=["fox", "Fox", " FOX "]).parts["distinct"] == 0.5


def test_phrases_match_longest_first_and_never_twice() -> None:
    liked = ["bear", "polar bear", "polar bear cub"]
    assert matched("A polar bear cub, a Polar  Bear's den, a bear, polar", liked) == [
        ("polar bear cub", "liked"),
        ("Polar  Bear's", "liked"),
        ("bear", "liked"),
    ]
    assert score("one polar bear cub ran home", liked=liked).parts["liked"] == 1.2


def test_a_longer_disliked_phrase_beats_a_liked_word_inside() -> None:
    assert matched("a hot dog and a dog", ["dog"], ["hot dog"]) == [("hot dog", "disliked"), ("dog", "liked")]


def test_liked_wins_over_disliked() -> None:
    found = WordMatcher(["Boy"], ["boy"]).matches(words_of("boy"))
    assert [(match.entry, match.liked) for match in found] == [(("boy",), True)]


def test_short_penalty_stops_after_short_words() -> None:
    assert score("one two three four").parts["short"] == -1.0
    assert score("one two three four five").parts["short"] == 0.0
    assert score("one two", short_words=1).parts["short"] == 0.0


@pytest.mark.parametrize(("words", "excess"), [(33, -0.5), (39, -0.5), (40, 0.0)])
def test_long_texts_may_hold_more_liked_words(words: int, excess: float) -> None:
    """Six liked words: above 5, allowed from floor(0.15 * 40) = 6 on."""
    text = " ".join(["fox"] * 6 + ["word"] * (words - 6))
    assert score(text).parts["excess"] == excess


def test_the_share_is_not_lost_to_binary_fractions() -> None:
    text = " ".join(["fox"] * 29 + ["word"] * 71)
    assert score(text, excess_share=0.29).parts["excess"] == 0.0  # 0.29 * 100 is 28.999999999999996


def test_adjacent_words_count_across_commas_but_not_across_words() -> None:
    assert score("cat, dog, lion and a bear", adjacent_penalty=1.0).parts["adjacent"] == -2.0
    assert score("cat and dog and lion", adjacent_penalty=1.0).parts["adjacent"] == 0.0


def test_repeats_are_counted_per_word() -> None:
    text = "cat x cat x cat x dog x dog x dog"
    assert score(text, repeat_penalty=1.0, repeat_limit=2).parts["repeat"] == -2.0
    assert score(text, repeat_penalty=1.0, repeat_limit=3).parts["repeat"] == 0.0


def test_punctuation_alone_is_no_entry_and_blanks_are_skipped() -> None:
    with pytest.raises(ConfigError, match=r"'!\?'"):
        WordMatcher(["fox", "!?"], [])
    assert matched("fox", ["", "  ", "fox"]) == [("fox", "liked")]


def test_each_response_has_its_own_score() -> None:
    scores = WordListReward(WordListRewardConfig(liked=["fox"])).score(["a", "b"], ["fox fox", "none"])
    assert [s.parts["liked"] for s in scores] == [2.4, 0.0]


@settings(deadline=None)
@given(st.text())
def test_words_are_slices_in_order_of_any_text(text: str) -> None:
    words, places = words_of(text), word_places(text)
    assert len(words) == len(places)
    assert all(words)
    assert all(start < end for start, end in places)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))
    assert {i for start, end in places for i in range(start, end)} >= {i for i, c in enumerate(text) if c.isalnum()}


@settings(deadline=None)
@given(st.lists(st.sampled_from(["fox", "Dog's", "boy", "and", "polar", "bear", ",", "!"]), max_size=30))
def test_spans_never_overlap_and_agree_with_the_parts(pieces: list[str]) -> None:
    text = " ".join(pieces)
    result = score(text, liked=["fox", "dog", "polar bear"])
    assert all(a.end <= b.start for a, b in pairwise(result.spans))
    liked = sum(s.kind == "liked" for s in result.spans)
    assert result.parts["liked"] == pytest.approx(1.2 * liked)
    assert result.parts["disliked"] == pytest.approx(-0.8 * (len(result.spans) - liked))


@pytest.mark.parametrize("other", ["é", "猫", "🦊"])
@given(text=st.text(st.characters(codec="ascii"), max_size=60))
def test_words_are_the_same_whatever_else_stands_in_the_text(text: str, other: str) -> None:
    assert words_of(f"{text} {other}")[:-1] == words_of(text)
    assert word_places(f"{text} {other}")[:-1] == word_places(text)


@pytest.mark.parametrize(("text", "entry", "found"), [
    ("一只猫在睡觉。", "猫", ["猫"]),
    ("一只猫在睡觉。", "睡觉", ["睡觉"]),
    ("猫、猫と犬", "猫", ["猫", "猫"]),
    ("ねこがいる", "ねこ", ["ねこ"]),
    ("ネコが好き、ﾈｺ", "ネコ", ["ネコ", "ﾈｺ"]),
    ("黒ネコが", "黒ネコ", ["黒ネコ"]),
    ("แมวนอนหลับ", "แมว", ["แมว"]),
    ("ແມວນອນ", "ແມວ", ["ແມວ"]),
    ("ឆ្មាដេក", "ឆ្មា", ["ឆ្មា"]),
    ("ကြောင်အိပ်", "ကြောင်", ["ကြောင်"]),
    ("고양이 한 마리", "고양이", ["고양이"]),
    ("고양이가 잔다", "고양이", []),  # a particle belongs to its word, as the s of "dogs" does
    ("İSTANBUL, I\u0307stanbul", "istanbul", ["İSTANBUL", "I\u0307stanbul"]),
    ("istanbul", "İSTANBUL", ["istanbul"]),
    ("Straße STRASSE Stra\u00adße", "strasse", ["Straße", "STRASSE", "Stra\u00adße"]),
    ("ΣΟΦΟΣ σοφος σοφοσ", "Σοφος", ["ΣΟΦΟΣ", "σοφος", "σοφοσ"]),
    ("cafe\u0301 CAFÉ", "café", ["cafe\u0301", "CAFÉ"]),
    ("don’t don't", "don't", ["don’t", "don't"]),
    ("t‐rex t-rex", "t‑rex", ["t‐rex", "t-rex"]),
    ("می\u200cخواهم", "میخواهم", ["می\u200cخواهم"]),
    ("ה\u200fחתול ישן", "החתול", ["ה\u200fחתול"]),
    ("a\u200bcat", "cat", ["cat"]),  # a zero-width space is a space
    ("a 🦊!", "🦊", ["🦊"]),
    ("❤️ ❤", "❤", ["❤️", "❤"]),
    ("👍🏽👍", "👍", ["👍🏽", "👍"]),
    ("👨‍👩‍👧👨", "👨", ["👨"]),
    ("🇩🇪🇫🇷", "🇫🇷", ["🇫🇷"]),
])
def test_words_match_in_every_script_and_are_shown_where_they_stand(text: str, entry: str, found: list[str]) -> None:
    assert [shown for shown, _ in matched(text, [entry])] == found


@pytest.mark.parametrize(("text", "count"), [
    ("一只猫在睡觉。", 6), ("ねこ", 2), ("ネコ", 1), ("แมวนอน ๒๕๖๗", 7), ("고양이가 잔다", 2), ("iPhone手机3只", 5),
    ("Hi 🦊🦊", 3), ("👨‍👩‍👧", 1), ("Lego™ © 2020 →", 2), ("می‌خواهم بروم", 2), ("क्षत्रिय राजा", 2),
])
def test_how_many_words_a_text_has(text: str, count: int) -> None:
    assert len(words_of(text)) == count
    assert LengthReward(LengthRewardConfig(min_words=count, max_words=count)).score([""], [text])[0].total == 0
