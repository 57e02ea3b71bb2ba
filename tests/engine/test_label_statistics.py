"""What judgements say about those who judge: values counted by hand, and what chance would give."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.config.rewards import WordListRewardConfig
from rlhf_engine.labels.judgement import Judgement, Verdict
from rlhf_engine.labels.pair import Answer, Origin, Pair, shown_swapped
from rlhf_engine.labels.rater import SimulatedRater
from rlhf_engine.labels.repeats import Repeats
from rlhf_engine.labels.statistics import agreement, statistics_of
from rlhf_engine.maths.agreement import gwet_ac1, gwet_chance, raw_agreement
from rlhf_engine.maths.statistics import wilson_interval
from rlhf_engine.rewards.build import build_rewards

HERE = Origin("tuned")


def pair(number: int, first: str = "a fox", second: str = "a dog and an owl") -> Pair:
    return Pair(f"number {number}", Answer(first, True, HERE), Answer(second, True, HERE))


def judged(number: int, verdict: Any, *, rater: str = "ann", repeat: int = 0, swapped: bool = False,
           seconds: float = 2.0, of: Pair | None = None, flag: bool = False) -> Judgement:
    return Judgement(of or pair(number), rater, verdict, swapped, repeat, "2026-01-02T03:04:05Z", seconds, flag)


# --- agreement ---


def test_ac1_of_a_table_by_hand() -> None:
    """118 items both call a, 5 and 2 that one does, 0 both call b (the table with which Gwet 2008 shows kappa to fail):
    a = 118/125, p = (2·118 + 5 + 2)/250 = 0.972, e = 2 p (1 − p) = 0.054432, AC1 = (0.944 − 0.054432)/0.945568."""
    one = ["a"] * 118 + ["a"] * 5 + ["b"] * 2
    other = ["a"] * 118 + ["b"] * 5 + ["a"] * 2
    assert raw_agreement(one, other) == pytest.approx(0.944)
    assert gwet_chance(one, other, 2) == pytest.approx(0.054432)
    assert gwet_ac1(one, other, 2) == pytest.approx(0.940777)


def test_ac1_of_three_categories_by_hand() -> None:
    one, other = ["a", "a", "b", "c"], ["a", "b", "b", "a"]
    # a 4/8, b 3/8, c 1/8: e = (16 + 15 + 7) / 64 / 2; half of all agree
    assert gwet_chance(one, other, 3) == pytest.approx(38 / 128)
    assert gwet_ac1(one, other, 3) == pytest.approx((0.5 - 38 / 128) / (1 - 38 / 128))


def test_judges_without_a_mind_agree_by_chance_and_equal_ones_fully() -> None:
    one = ["a", "b"] * 50
    assert gwet_ac1(one, ["a", "a", "b", "b"] * 25, 2) == pytest.approx(0.0)
    assert gwet_ac1(one, one, 2) == 1.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30))
def test_ac1_does_not_depend_on_who_is_first_and_is_no_more_than_one(items: list[tuple[str, str]]) -> None:
    one, other = ([item[side] for item in items] for side in (0, 1))
    assert gwet_ac1(one, other, 3) == pytest.approx(gwet_ac1(other, one, 3))
    assert gwet_ac1(one, other, 3) <= 1.0


@pytest.mark.parametrize(("one", "other", "categories"), [([], [], 2), (["a"], [], 2), (["a"], ["b"], 1),
                                                          (["a", "b"], ["c", "a"], 2)])
def test_what_has_no_agreement_is_refused(one: list[str], other: list[str], categories: int) -> None:
    with pytest.raises(ValueError, match="categories"):
        gwet_ac1(one, other, categories)


def test_two_people_agree_on_texts_however_pairs_were_drawn_and_shown() -> None:
    turned = [replace(p, first=p.second, second=p.first) for p in map(pair, range(4))]
    ann = [judged(0, "first"), judged(1, "second"), judged(2, "tie"), judged(3, "skip"), judged(8, "first")]
    bob = [judged(0, "second", of=turned[0]), judged(1, "second", of=turned[1]), judged(2, "both_bad", of=turned[2]),
           judged(3, "first", of=turned[3]), judged(9, "first")]
    found = agreement(ann, bob)
    assert found is not None
    assert (found.share.value, found.share.n) == (pytest.approx(2 / 3), 3)  # 0 and 2 alike, 1 not, 3 was skipped
    # first, second, neither are used 2, 2... by hand: ann first second neither, bob first first neither
    assert found.share.chance == pytest.approx((3 * 3 + 1 * 5 + 2 * 4) / 36 / 2)
    assert found.ac1 == pytest.approx((2 / 3 - found.share.chance) / (1 - found.share.chance))
    assert agreement(ann, []) is None
    # of a pair that came back, what was said first counts
    assert agreement([*ann, judged(0, "second", repeat=1)], bob) == found


# --- one person ---


def test_verdicts_and_time_are_counted() -> None:
    found = statistics_of([judged(0, "first", seconds=2), judged(1, "second", seconds=3, flag=True),
                           judged(2, "tie", seconds=10), judged(3, "both_bad", seconds=0), judged(4, "skip")])
    assert found.counts == {"first": 1, "second": 1, "tie": 1, "both_bad": 1, "skip": 1}
    assert (found.judged, found.flagged, found.raters) == (4, 1, ("ann",))
    assert (found.seconds_per_pair, found.per_minute) == (2.5, 24.0)
    nothing = statistics_of([])
    assert (nothing.judged, nothing.seconds_per_pair, nothing.consistency, nothing.left_won) == (0, None, None, None)


def test_position_bias_is_the_share_that_the_left_won() -> None:
    judgements = [judged(0, "first"), judged(1, "second", swapped=True), judged(2, "second"), judged(3, "tie")]
    left = statistics_of(judgements).left_won
    assert left is not None
    assert (left.value, left.n, left.chance) == (pytest.approx(2 / 3), 3, 0.5)
    interval = wilson_interval(2, 3)
    assert (left.low, left.high) == (interval.low, interval.high)


def test_rows_of_a_file_tell_nothing_of_positions() -> None:
    of_file = Pair("p", Answer("x", True, Origin("file")), Answer("y y", True, Origin("file")))
    found = statistics_of([judged(0, "first", of=of_file)])
    assert found.left_won is None
    assert found.longer_won is not None


def test_length_bias_is_the_share_that_more_words_won() -> None:
    equal = pair(3, "one two", "three four")
    found = statistics_of([judged(0, "first"), judged(1, "second"), judged(2, "second"), judged(3, "first", of=equal),
                           judged(4, "tie")]).longer_won
    assert found is not None
    assert (found.value, found.n, found.chance) == (pytest.approx(2 / 3), 3, 0.5)


def test_consistency_is_the_share_of_repeats_judged_alike() -> None:
    found = statistics_of([
        judged(0, "first"), judged(0, "first", repeat=1, swapped=True),
        judged(1, "first"), judged(1, "second", repeat=1, swapped=True),
        judged(2, "tie"), judged(2, "both_bad", repeat=1), judged(3, "first"),
        judged(4, "first"), judged(4, "skip", repeat=1), judged(0, "second", rater="bob"),
    ]).consistency
    assert found is not None
    assert (found.value, found.n) == (pytest.approx(2 / 3), 3)
    assert found.chance == pytest.approx((2 / 6) ** 2 + (4 / 6) ** 2 / 2)


def test_one_who_always_takes_the_left_is_never_consistent() -> None:
    judgements = []
    for number in range(20):
        for repeat in (0, 1):
            swapped = shown_swapped(pair(number), "ann", repeat)
            judgements.append(judged(number, "second" if swapped else "first", repeat=repeat, swapped=swapped))
    found = statistics_of(judgements)
    assert found.consistency is not None
    assert found.left_won is not None
    assert (found.consistency.value, found.left_won.value) == (0.0, 1.0)


# --- repeats ---


def test_one_in_ten_comes_back_once_and_not_at_once() -> None:
    judgements: list[Judgement] = []
    repeats = Repeats("ann")
    asked_again: dict[str, int] = {}

    def judge(judgement: Judgement) -> None:
        judgements.append(judgement)
        repeats.judged(judgement)

    for number in range(200):
        while (again := repeats.due()) is not None:
            assert again == due_by_definition(judgements, "ann")
            assert Repeats("ann", judgements=judgements).due() == again  # whoever comes back is asked for the same
            age = next(len(judgements) - at for at, done in enumerate(judgements) if done.pair.id == again.id)
            assert age > 5
            asked_again[again.id] = asked_again.get(again.id, 0) + 1
            judge(judged(0, "first", of=again, repeat=1))
        judge(judged(number, "skip" if number % 7 == 0 else "first"))
        judge(judged(number, "first", rater="bob"))
    assert sum(asked_again.values()) == 19
    assert set(asked_again.values()) == {1}
    assert Repeats("ann", 0, judgements).due() is None
    assert Repeats("carl", judgements=judgements).due() is None


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["first", "tie", "skip"]), st.integers(0, 1)),
                max_size=40), st.integers(1, 4))
def test_what_comes_back_is_told_judgement_by_judgement_as_from_all_at_once(
    said: list[tuple[int, Verdict, int]], every: int
) -> None:
    latest: dict[tuple[str, str, int], Judgement] = {}
    repeats = Repeats("ann", every)
    for number, verdict, repeat in said:
        judgement = judged(number, verdict, repeat=repeat)
        latest[judgement.key] = judgement  # in the place of an earlier one, where there is one
        repeats.judged(judgement)
        assert repeats.due() == due_by_definition(list(latest.values()), "ann", every)


def due_by_definition(judgements: list[Judgement], rater: str, every: int = 10) -> Pair | None:
    """Slowly, from all judgements: the lowest lot of those judged at least five others ago, and only once."""
    own = [judgement for judgement in judgements if judgement.rater == rater]
    again = {judgement.pair.id for judgement in own if judgement.repeat}
    first = [judgement for judgement in own if not judgement.repeat]
    if len(first) < every * (len(again) + 1):
        return None
    possible = [judgement.pair for judgement in first[:-5]
                if judgement.pair.id not in again and judgement.verdict != "skip"]
    return min(possible, default=None,
               key=lambda pair: hashlib.sha256(f'["repeat", "{rater}", "{pair.id}"]'.encode()).digest())


# --- the simulated rater ---


REWARDS = build_rewards([WordListRewardConfig(name="animals", liked=["fox", "owl"], short_penalty=0)])


def rater(**options: Any) -> SimulatedRater:
    return SimulatedRater(REWARDS, "sim", **options)


def test_without_error_the_higher_score_wins_and_equal_ones_are_a_tie() -> None:
    assert rater().judge(pair(0, "a fox", "a dog")).verdict == "first"
    assert rater().judge(pair(0, "a dog", "a fox")).verdict == "second"
    assert rater(error=0.4).judge(pair(0, "a dog", "a cat")).verdict == "tie"


def test_it_errs_as_often_as_it_should_and_the_same_way_again() -> None:
    pairs = [pair(number, "a fox", "a dog") for number in range(1000)]
    wrong = Counter(rater(error=0.25).judge(one).verdict for one in pairs)
    assert 200 < wrong["second"] < 300
    turned = [replace(one, first=one.second, second=one.first) for one in pairs]
    for one, other in zip(pairs, turned, strict=True):
        said, again = rater(error=0.25).judge(one), rater(error=0.25).judge(other)
        assert said.chosen.text == again.chosen.text
        assert said.swapped == shown_swapped(one, "sim")
    seeds = [[rater(error=0.25, seed=seed).judge(one).verdict for one in pairs] for seed in (0, 1)]
    assert seeds[0] != seeds[1]


def test_at_a_temperature_it_chooses_as_bradley_and_terry_say() -> None:
    # a fox scores 1.2 + 0.5 more than a dog: sigmoid(1.7 / 1.7) = 0.731
    pairs = [pair(number, "a fox", "a dog") for number in range(2000)]
    said = [rater(temperature=1.7).judge(one) for one in pairs]
    assert sum(judgement.verdict == "first" for judgement in said) / 2000 == pytest.approx(0.731, abs=0.035)
    for judgement in said[:200]:
        turned = replace(judgement.pair, first=judgement.pair.second, second=judgement.pair.first)
        assert rater(temperature=1.7).judge(turned).chosen.text == judgement.chosen.text


def test_a_repeat_errs_on_its_own() -> None:
    pairs = [pair(number, "a fox", "a dog") for number in range(1000)]
    judgements = [rater(error=0.1).judge(one, repeat) for one in pairs for repeat in (0, 1)]
    consistency = statistics_of(judgements).consistency
    assert consistency is not None
    assert consistency.value == pytest.approx(0.9**2 + 0.1**2, abs=0.04)
