"""Prompts come in shuffled epochs, each equally often, known from seed and step alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.data.prompt_order import rows_for_step


def prompts_for_step(prompts: list[str], step: int, count: int, seed: int) -> list[str]:
    return [prompts[row] for row in rows_for_step(len(prompts), step, count, seed)]


@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 6), st.integers(0, 99))
def test_steps_cut_epochs_into_equal_pieces(prompts: int, count: int, steps: int, seed: int) -> None:
    names = [f"p{i}" for i in range(prompts)]
    taken = [name for step in range(steps) for name in prompts_for_step(names, step, count, seed)]
    assert len(taken) == count * steps
    for start in range(0, len(taken) - prompts + 1, prompts):
        assert sorted(taken[start:start + prompts]) == sorted(names)
    uses = Counter(taken).values()
    assert max(uses) - min(uses) <= 1 or len(uses) < prompts


def test_epochs_differ_and_seeds_differ() -> None:
    names = [f"p{i}" for i in range(10)]
    epochs = [tuple(prompts_for_step(names, step, 10, 0)) for step in range(5)]
    assert len(set(epochs)) == 5
    assert prompts_for_step(names, 0, 10, 0) != prompts_for_step(names, 0, 10, 1)
    assert prompts_for_step(names, 3, 10, 0) == list(epochs[3])
