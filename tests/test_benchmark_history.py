"""Figures of earlier commits: what is recorded comes back, and a change is one since the same machine's last figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import history


def line(benchmark: str, machine: str, **figures: float) -> dict[str, object]:
    return {"benchmark": benchmark, "machine": machine, "figures": figures}


def test_a_change_is_since_the_last_figure_of_the_same_machine_and_benchmark() -> None:
    lines = [line("throughput", "a", fast=10.0, slow=1.0), line("throughput", "b", fast=99.0),
             line("growth", "a", fast=3.0), line("throughput", "a", fast=5.0), line("throughput", "a", slow=1.5)]
    changed = [changes for _, changes in history.changes(lines)]
    assert changed == [{}, {}, {}, {"fast": pytest.approx(-0.5)}, {"slow": pytest.approx(0.5)}]


def test_what_is_recorded_comes_back_with_its_machine(tmp_path: Path) -> None:
    for value in (2.0, 3.0):
        history.record("throughput", {"33M": value}, tmp_path / "history.jsonl")
    kept = [json.loads(text) for text in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["figures"] for row in kept] == [{"33M": 2.0}, {"33M": 3.0}]
    assert all(row["machine"] == history.machine() for row in kept)
    assert history.changes(kept)[1][1] == {"33M": pytest.approx(0.5)}
