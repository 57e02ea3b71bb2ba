"""Which checkpoints stay: the newest, the best, and within a budget some of earlier steps, the denser the earlier."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from rlhf_engine.config.fields import replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.requests import Edit
from rlhf_engine.runs import checkpoint, checkpoint_list
from rlhf_engine.runs.checkpoint_list import MOST_SPACED, is_due, thinned
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer


def grown(steps: list[int], size: int, newest: int, budget: int, best: int | None = None) -> list[int]:
    """What is left of a run that saved after each of `steps`, tidied at every save as a run is."""
    left: list[int] = []
    for step in steps:
        left.append(step)
        always = {len(left) - 1 - back for back in range(min(newest, len(left)))}
        always |= {left.index(best)} if best in left else set()
        left = [left[place] for place in sorted(thinned(left, [size] * len(left), always, budget))]
    return left


def saved_steps(total: int, every: int, budget: int) -> list[int]:
    """After which steps a run of that length saves by itself, the start and the end among them."""
    return sorted({0, total, *(step for step in range(1, total + 1) if is_due(step, every, budget))})


@given(total=st.integers(1, 3000), every=st.integers(1, 60), newest=st.integers(1, 4), slots=st.integers(0, 40))
@example(total=3000, every=1, newest=3, slots=8)
def test_the_budget_holds_and_what_stays_is_dense_towards_the_start(
    total: int, every: int, newest: int, slots: int
) -> None:
    size = 7
    steps = saved_steps(total, every, slots)
    left = grown(steps, size, newest, budget=slots * size, best=steps[len(steps) // 2])
    mandatory = {*steps[-newest:], steps[len(steps) // 2]}
    assert mandatory <= set(left)
    assert size * len(left) <= max(slots * size, size * len(mandatory))
    assert len(left) <= MOST_SPACED + len(mandatory)
    if slots > len(mandatory):
        assert left[0] == 0
    # the closest pair of neighbours is at most twice the mean distance, so no gap that was made is wider than that
    spaced = min(slots - len(mandatory), MOST_SPACED)
    if spaced >= 3:
        made = 2 * math.log(total + 1) / (spaced - 1)
        for before, after in pairwise(left):
            gap = math.log((after + 1) / (before + 1))
            natural = math.log((steps[steps.index(before) + 1] + 1) / (before + 1))
            assert gap <= max(made, natural) + 1e-9, (left, before, after)


def test_a_long_run_keeps_steps_that_double() -> None:
    left = grown(saved_steps(1024, 8, budget=1), size=1, newest=2, budget=12)
    assert len(left) == 12
    assert left[0] == 0
    assert left[-2:] == [1016, 1024]
    early = [step for step in left if step <= 512]
    assert {1, 4, 8} <= set(early)
    assert all((after + 1) / (before + 1) < 4 for before, after in pairwise(early)), left


def test_without_a_budget_only_the_newest_and_the_best_stay() -> None:
    assert grown(list(range(0, 60, 5)), size=3, newest=2, budget=0, best=10) == [10, 50, 55]
    assert [step for step in range(1, 25) if is_due(step, 10, budget=0)] == [10, 20]
    assert [step for step in range(1, 25) if is_due(step, 10, budget=1)] == [1, 2, 4, 8, 10, 20]


def test_what_is_larger_than_the_budget_leaves_room_for_less() -> None:
    steps, sizes = [0, 1, 2, 4, 8], [10, 10, 10, 50, 10]
    assert thinned(steps, sizes, {4}, budget=1000) == {0, 1, 2, 3, 4}
    assert thinned(steps, sizes, {4}, budget=5) == {4}
    assert sum(sizes[place] for place in thinned(steps, sizes, {4}, budget=45)) <= 45
    assert 0 in thinned(steps, sizes, {4}, budget=20)


def trained(config: RunConfig, root: Path) -> RunDir:
    run = RunDir.create(root, config)
    Trainer(config, run_dir=run, emit=lambda _: None).run()
    return run


def test_a_run_keeps_its_first_steps_to_fork_from_and_resumes_as_before(neo_config: RunConfig, tmp_path: Path) -> None:
    config = replace(neo_config, {"train.steps": 9, "train.checkpoint_every": 6, "train.keep_checkpoints": 1,
                                  "train.keep_best": None})
    run = trained(config, tmp_path / "runs")
    assert checkpoint_list.steps(run) == [9, 6, 4, 2, 1, 0]
    for step in checkpoint_list.steps(run):
        assert checkpoint.state_at(run, step, print).step == step
    bare = trained(replace(config, {"train.checkpoint_budget_mb": 0}), tmp_path / "bare")
    assert checkpoint_list.steps(bare) == [9]
    assert [line.metrics["objective/kl"] for line in bare.metrics()] == [
        line.metrics["objective/kl"] for line in run.metrics()]
    sentence = checkpoint_list.missing(run, 5)
    assert "4 and 6" in sentence


def test_a_damaged_checkpoint_of_a_course_that_was_left_goes_with_the_next_save(
    neo_config: RunConfig, tmp_path: Path
) -> None:
    run = trained(replace(neo_config, {"train.steps": 4, "train.checkpoint_every": 4}), tmp_path / "runs")
    newest = checkpoint.candidates(run)[0]
    (newest / "tensors.safetensors").write_bytes(b"damaged")
    other = checkpoint.candidates(run)[1]
    trainer = Trainer.resume(run, emit=lambda _: None)
    trainer.requests.ask(Edit("train.checkpoint_every", 3))
    trainer.requests.ask(Edit("train.steps", 6))
    trainer.run()
    assert checkpoint.step_of(other) == 2
    assert checkpoint_list.steps(run) == [6, 3, 2, 1, 0]
    assert not newest.exists()
