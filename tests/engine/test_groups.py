"""Advantages of groups against hand-computed numbers and brute force."""

from __future__ import annotations

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.maths.groups import STD_FLOOR, equal_groups, group_advantages, leave_one_out_advantages

GROUPS = st.integers(2, 5).flatmap(lambda size: st.tuples(
    st.just(size), st.lists(st.lists(st.floats(-20, 20, width=32), min_size=size, max_size=size),
                            min_size=1, max_size=4)))


def test_by_hand() -> None:
    scores = torch.tensor([1.0, 3.0, 10.0, 20.0])
    assert group_advantages(scores, 2, scale="none").tolist() == [-1, 1, -5, 5]
    by_group = [-1 / (2**0.5 + STD_FLOOR), 1 / (2**0.5 + STD_FLOOR), -5 / (50**0.5 + STD_FLOOR),
                5 / (50**0.5 + STD_FLOOR)]
    assert group_advantages(scores, 2, scale="group").tolist() == pytest.approx(by_group)
    std = statistics.stdev(scores.tolist()) + STD_FLOOR
    assert group_advantages(scores, 2, scale="batch").tolist() == pytest.approx([-1 / std, 1 / std, -5 / std, 5 / std])
    assert leave_one_out_advantages(scores, 2).tolist() == [-2, 2, -10, 10]


@given(GROUPS)
def test_leave_one_out_is_the_mean_of_the_others(drawn: tuple[int, list[list[float]]]) -> None:
    size, groups = drawn
    told = leave_one_out_advantages(torch.tensor([s for group in groups for s in group]), size).tolist()
    brute = [score - statistics.fmean(group[:i] + group[i + 1:]) for group in groups for i, score in enumerate(group)]
    assert told == pytest.approx(brute, abs=1e-3)


@given(st.floats(-1e6, 1e6, width=32), st.integers(2, 6), st.integers(1, 3),
       st.sampled_from(["group", "batch", "none"]))
def test_equal_scores_teach_exactly_nothing(score: float, size: int, groups: int, scale: str) -> None:
    scores = torch.full((size * groups,), score)
    assert group_advantages(scores, size, scale=scale).tolist() == [0.0] * len(scores)  # type: ignore[arg-type]
    assert leave_one_out_advantages(scores, size).tolist() == [0.0] * len(scores)
    assert equal_groups(scores, size).all()


def test_equal_groups_are_told_from_others() -> None:
    assert equal_groups(torch.tensor([0.1, 0.1, 0.1, 0.2, 0.0, 0.0]), 2).tolist() == [True, False, True]


@pytest.mark.parametrize(("count", "size"), [(4, 1), (5, 2), (0, 2)])
def test_a_batch_that_is_no_whole_groups_is_refused(count: int, size: int) -> None:
    for estimate in (leave_one_out_advantages, equal_groups):
        with pytest.raises(ValueError, match="whole groups"):
            estimate(torch.zeros(count), size)
