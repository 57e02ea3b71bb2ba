"""Points for what a regular expression finds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlhf_engine.config.verifiable import RegexRewardConfig
from rlhf_engine.errors import RewardError
from rlhf_engine.events import Span
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.regex import RegexReward


def score(text: str, pattern: str, **settings: object) -> Score:
    (result,) = RegexReward(RegexRewardConfig(pattern=pattern, **settings)).score([""], [text])
    assert result.total == sum(result.parts.values())
    return result


@pytest.mark.parametrize(("settings", "total"), [
    ({}, 1.0),
    ({"found_score": 2.5}, 2.5),
    ({"count": "each"}, 3.0),
    ({"count": "each", "most_matches": 2}, 2.0),
    ({"count": "each", "found_score": -0.5}, -1.5),
    ({"match": "full"}, 0.0),
    ({"match": "full", "missing_score": -1.0}, -1.0),
])
def test_matches_count_once_or_each(settings: dict[str, object], total: float) -> None:
    assert score("fox, fox and fox", "fox", **settings).total == total


def test_a_response_without_a_match_gets_the_missing_score() -> None:
    assert score("an owl", "fox").total == 0.0
    assert score("an owl", "fox", missing_score=-2.0).parts == {"found": 0.0, "missing": -2.0}
    assert score("", "fox", count="each", missing_score=-2.0).total == -2.0


def test_the_whole_response_is_what_is_left_without_the_space_around_it() -> None:
    found = score("  a fox \n", "a [a-z]+", match="full")
    assert (found.total, found.spans) == (1.0, (Span(2, 7, "rewarded"),))
    assert score("  a fox and more", "a [a-z]+", match="full").total == 0.0


def test_flags_are_those_of_python() -> None:
    assert score("A Fox", "fox").total == 0.0
    assert score("A Fox", "fox", ignore_case=True).total == 1.0
    assert score("A Fox", "(?i)fox").total == 1.0
    assert score("a\nb", "a.b").total == 0.0
    assert score("a\nb", "a.b", dotall=True).total == 1.0
    assert score("a\nb", "^b$").total == 0.0
    assert score("a\nb", "^b$", multiline=True).total == 1.0
    form = r"<think>.*?</think>\s*<answer>.*?</answer>"
    assert score("<think>\n1\n</think>\n<answer>2</answer>\n", form, match="full", dotall=True).total == 1.0


def test_what_matched_is_lit_and_its_share_is_told() -> None:
    assert score("a fox, a fox", "fox", count="each").spans == (Span(2, 5, "rewarded"), Span(9, 12, "rewarded"))
    assert score("a fox", "fox", found_score=-1.0).spans == (Span(2, 5, "penalized"),)
    assert score("a fox", "fox", found_score=-1.0, weight=-1.0).spans == (Span(2, 5, "rewarded"),)
    rewards = build_rewards([RegexRewardConfig(pattern="fox", name="foxes", weight=2.0)])
    batch = rewards.score([""] * 4, ["fox", "owl", "fox fox", ""])
    assert batch.facts == {"foxes/match_rate": 0.5}
    assert [found.total for found in batch.scores] == [2.0, 0.0, 2.0, 0.0]


def test_matches_of_nothing_count_once_and_not_each() -> None:
    assert score("fox", "(?!.*owl)").total == 1.0
    assert score("fox", "(?!.*owl)").spans == ()
    assert score("bbb", "a*", count="each").total == 0.0


@given(st.text("ab \n", max_size=20), st.sampled_from(["a+", "b", "a b", "^a", "b$", "(a|b)+", "a{2}", "[^a]+", r"\s"]),
       st.booleans())
def test_it_finds_what_python_finds(text: str, pattern: str, multiline: bool) -> None:
    flags = re.MULTILINE if multiline else 0
    found = [match.span() for match in re.finditer(pattern, text, flags)]
    each = score(text, pattern, count="each", multiline=multiline)
    assert each.total == len(found)
    assert [(span.start, span.end) for span in each.spans] == found
    assert score(text, pattern, multiline=multiline).total == float(bool(found))
    full = re.fullmatch(pattern, text.strip(), flags)
    assert score(text, pattern, match="full", multiline=multiline).total == float(full is not None)


@pytest.mark.parametrize(("pattern", "place"), [
    ("(a", "1"), ("a[z-a]", "3"), ("*", "1"), ("x(?P<n>a)(?P<n", "14")])
def test_a_bad_pattern_is_refused_with_the_place_of_the_mistake(pattern: str, place: str) -> None:
    with pytest.raises(ValidationError, match=f"at character {place}"):
        RegexRewardConfig(pattern=pattern)


@pytest.mark.parametrize(("pattern", "says"), [
    ("(" * 400 + "a" + ")" * 400, "nested too deeply"), ("a" * 1_001, "at most 1000"), ("", "at least 1"),
    ("(?au)x", "flags"), ("x{99999999}", "repeats may make 100,0"), ("(?:(a{100}|b){100}){100}", "repeats may make 1,"),
    ("(?x) (a) {200} (b) # {\n {200}", "repeats may make 1,"), ("x{9" + "9" * 900 + "}", "regular expression|parts"),
    ("(?R)", "unknown extension"), ("(?e)(abc){e<=9}", "unknown extension"), (r"\p{L}", "bad escape"),
])
def test_what_would_take_all_memory_or_is_not_of_python_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RegexRewardConfig(pattern=pattern)


def test_a_brace_that_counts_nothing_is_a_brace() -> None:
    assert score(r"\boxed{4}", r"boxed{(\d)}").total == 1.0
    assert score("ab", "ac{e<=1}").total == 0.0  # an approximate match where `regex` reads it
    assert score("ac{e<=1}", "ac{e<=1}").total == 1.0
    assert score("aa{", r"\N{LATIN SMALL LETTER A}{2}\{").total == 1.0


PIECES = ["a", "b", "(", ")", "{", "}", "[", "]", "|", "*", "+", "?", ".", "^", "$", r"\d", r"\b", ",", "1", "{2}",
          "{1,2}", "{,2}", "(?:", "(?=", "(?!", "[^", r"\s", r"\1", r"\{", " "]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of Python, about nested sets
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join), st.text("ab12 {},", max_size=12))
def test_any_pattern_means_what_it_means_in_python(pattern: str, text: str) -> None:
    try:
        found = [match.span() for match in re.compile(pattern).finditer(text)]
    except re.error:
        with pytest.raises(ValidationError):
            RegexRewardConfig(pattern=pattern)
        return
    each = score(text, pattern, count="each")
    assert [(span.start, span.end) for span in each.spans] == [place for place in found if place[0] < place[1]]


@pytest.mark.parametrize("settings", [{}, {"count": "each"}, {"match": "full"}])
def test_a_pattern_that_would_take_for_ever_is_given_up_with_one_sentence(settings: dict[str, object]) -> None:
    with pytest.raises(RewardError, match=r"slow.*\(a\|aa\)\+") as caught:
        score("a" * 120 + "b", r"(a|aa)+$" if "match" not in settings else r"(a|aa)+c", name="slow", **settings)
    assert "\n" not in str(caught.value)
