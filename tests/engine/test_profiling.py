"""`--profile` tells where the second step went, once, and leaves the run as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_engine.commands.console import Reporter, profile_table, start_table
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import Event, Profiled, StartProfiled, StepFinished, TimeSpent
from rlhf_engine.training.trainer import Trainer


def train(config: RunConfig, *, profile: bool) -> list[Event]:
    events: list[Event] = []
    Trainer(config, run_dir=None, emit=events.append, profile=profile).run()
    return events


def test_the_second_step_is_told_in_parts_and_operators(neo_config: RunConfig) -> None:
    events = train(neo_config, profile=True)
    (profiled,) = [event for event in events if isinstance(event, Profiled)]
    (start,) = [event for event in events if isinstance(event, StartProfiled)]
    assert all(part.seconds >= 0 for part in start.parts)
    assert sum(part.seconds for part in start.parts) == pytest.approx(start.seconds, abs=0.1)
    assert "the first step" in start_table(start)
    assert profiled.step == 2
    names = [part.name for part in profiled.parts]
    assert names == sorted(names, key=lambda name: ("rollout", "score", "update").index(name.partition(":")[0]))
    assert {"rollout: tokens", "score: reference", "update: actor", "update: critic"} <= set(names)
    assert 0 < sum(part.seconds for part in profiled.parts) <= profiled.seconds
    assert profiled.operators[0].seconds >= profiled.operators[-1].seconds > 0
    assert all(operator.name.startswith("aten::") for operator in profiled.operators)


def test_profiling_changes_no_number(neo_config: RunConfig) -> None:
    def numbers(events: list[Event]) -> list[dict[str, float]]:
        return [
            {name: value for name, value in event.metrics.items() if not name.startswith(("time/", "throughput/"))}
            for event in events if isinstance(event, StepFinished)
        ]

    assert numbers(train(neo_config, profile=True)) == numbers(train(neo_config, profile=False))


def test_the_table_names_the_rest_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    profiled = Profiled(2, 2.0, (TimeSpent("rollout: tokens", 0.5, 59),), (TimeSpent("aten::mm", 1.0, 7),))
    table = profile_table(profiled)
    assert "where step 2 went (2.00 s" in table
    assert "rollout: tokens" in table
    assert "25.0%" in table
    assert "the rest" in table
    assert "75.0%" in table
    assert "aten::mm" in table
    Reporter(lambda: None, as_json=True).emit(profiled)
    assert '"event": "profile"' in capsys.readouterr().out
