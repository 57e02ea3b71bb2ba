"""The table of seen word pairs: small, the same everywhere, and telling fresh stories from shuffled ones."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller_maker.grammar import stories
from storyteller_maker.measure import distinct_2, figures, invented, longest_copies, median
from storyteller_maker.seen import TABLE, key, load, pack, unpack, unseen_bigrams


@pytest.fixture(scope="module")
def seen() -> frozenset[int]:
    return load()


def test_hashes_are_the_same_everywhere() -> None:
    assert key(("the", "fox")) == 1965929853


@given(st.sets(st.integers(0, 2**32 - 1)))
def test_packing_loses_nothing(keys: set[int]) -> None:
    assert list(unpack(pack(keys))) == sorted(keys)


def test_the_table_is_small_and_full(seen: frozenset[int]) -> None:
    assert TABLE.stat().st_size < 400_000
    assert len(seen) > 100_000


def test_fresh_stories_hold_hardly_any_unseen_pair(seen: frozenset[int]) -> None:
    measured = figures(list(stories(300, seed=987)), seen)
    assert measured.unseen_per_100 < 0.25
    assert measured.share_without_unseen > 0.85


def test_shuffled_stories_hold_many(seen: frozenset[int]) -> None:
    rng, texts = Random(2), []
    for text in stories(50, seed=988):
        told = text.split()
        rng.shuffle(told)
        texts.append(" ".join(told))
    assert figures(texts, seen).unseen_per_100 > 30


def test_unseen_pairs_are_named(seen: frozenset[int]) -> None:
    assert ("xylophone", "fox") in unseen_bigrams("The xylophone fox was happy.", seen)
    assert unseen_bigrams("There once was a fox", seen) == []
    assert unseen_bigrams("", seen) == []


def test_invented_words_are_found() -> None:
    assert invented("The fox's gromble was Lily's.") == ["gromble"]


def test_copies_are_measured_in_words() -> None:
    told = ["the quick fox ran over the hill and sang", "a bear slept"]
    assert longest_copies(["so the quick fox ran home", "nothing of that kind"], told) == [4, 2]
    assert median([1, 2, 9]) == 2
    assert median([1, 2, 3, 9]) == 2.5


def test_distinct_pairs() -> None:
    assert distinct_2(["a b a b"]) == pytest.approx(2 / 3)
