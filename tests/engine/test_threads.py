"""Threads are what the user says, else what a resumed run had, else measured."""

from __future__ import annotations

import pytest
import torch

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.models import threads
from rlhf_engine.models.policy import Policy


@pytest.fixture
def policy(neo_config: RunConfig) -> Policy:
    return Policy.from_config(neo_config)


@pytest.fixture(autouse=True)
def _one_thread_afterwards():
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [({1: 1.0, 2: 0.6, 4: 0.4, 8: 0.39}, 4), ({1: 1.0, 2: 0.95}, 1), ({1: 1.0, 2: 0.5, 4: 0.7, 8: 0.1}, 2)],
)
def test_threads_double_while_a_tenth_is_gained(
    policy: Policy, seconds: dict[int, float], chosen: int
) -> None:
    assert threads.calibrate(policy, rows=4, response=12, cores=8, seconds=seconds.__getitem__) == chosen


def test_a_real_calibration_ends_with_a_number_of_cores(policy: Policy) -> None:
    assert threads.calibrate(policy, rows=4, response=12, cores=2) in (1, 2)


def test_the_user_comes_first_then_the_run_then_the_measurement(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "calibrate", lambda *given: 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4), raising=False)
    assert threads.use_threads(policy, 1, rows=4, response=12, known=3) == 1
    assert threads.use_threads(policy, 0, rows=4, response=12, known=3) == 3
    assert threads.use_threads(policy, 0, rows=4, response=12, known=64) == 4
    assert threads.use_threads(policy, 0, rows=4, response=12) == 1
    assert torch.get_num_threads() == 1
