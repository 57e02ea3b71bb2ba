"""Columns hold what the lines say, in whatever portions they are read."""

from __future__ import annotations

import json
import math
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_engine.runs import run_columns
from rlhf_engine.runs.run_columns import columns_of, glimpses, last_lines, read_columns


def line(step: object, metrics: object, seconds: object = 1.5) -> bytes:
    return json.dumps({"step": step, "seconds": seconds, "metrics": metrics}).encode()


def test_each_metric_is_a_column_and_what_a_step_lacks_is_no_number() -> None:
    found = columns_of([line(1, {"a": 1.0, "b": 2}), line(2, {"a": 3.0}), line(4, {"a": None, "c": 5.0}, None)])
    assert list(found.steps) == [1, 2, 4]
    assert list(found.seconds[:2]) == [1.5, 1.5]
    assert math.isnan(found.seconds[2])
    assert {name: [None if math.isnan(value) else value for value in values] for name, values in found.values.items()
            } == {"a": [1.0, 3.0, None], "b": [2.0, None, None], "c": [None, None, 5.0]}
    assert found.not_finite == {"a": 4}  # b is not there, which is nothing bad


@pytest.mark.parametrize("bad", [b"", b"{", b"[1]", b'{"step": 3}', line("x", {}), line(3, [1]), line(3, {}, "soon"),
                                 b"\xff"])
def test_lines_that_cannot_be_read_are_left_out(bad: bytes) -> None:
    found = columns_of([line(1, {"a": 1.0}), bad, line(5, {"a": 2.0})])
    assert (list(found.steps), list(found.seconds), list(found.values["a"])) == ([1, 5], [1.5, 1.5], [1.0, 2.0])


def test_a_name_with_half_a_surrogate_pair_is_read() -> None:
    assert list(columns_of([b'{"step": 1, "seconds": 1, "metrics": {"\\ud800": 2.0}}']).values) == ["\ud800"]


def test_a_file_is_read_in_portions_and_its_torn_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    assert list(read_columns(path)) == []
    path.write_bytes(b"".join(line(step, {"a": step / 7}) + b"\n" for step in range(1, 101)) + b'{"step": 101')
    monkeypatch.setattr(run_columns, "PORTION_BYTES", 64)  # about a line
    portions = list(read_columns(path))
    assert len(portions) > 50
    assert [step for found in portions for step in found.steps] == list(range(1, 101))
    assert [value for found in portions for value in found.values.get("a", ())] == [step / 7 for step in range(1, 101)]


def test_a_glimpse_of_a_long_file_follows_its_course_and_of_a_short_one_is_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert glimpses(path, "a", 12) == []
    path.write_bytes(b"".join(line(step, {"a": step, "b": None}) + b"\n" for step in range(1, 31)))
    assert glimpses(path, "a", 12) == list(range(1, 31))
    assert glimpses(path, "b", 12) == []
    path.write_bytes(b"".join(line(step, {"a": step}) + b"\n" for step in range(1, 20_001)))
    found = glimpses(path, "a", 12)
    assert len(found) == 12
    assert found == sorted(found)
    assert found[0] < 500
    assert found[-1] > 19_500
    assert all(abs(value - 20_000 * at / 11) < 500 for at, value in enumerate(found))


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 900), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_last_lines_are_whole_and_as_many_as_fit(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], most: int, whole: bool
) -> None:
    path = tmp_path_factory.mktemp("lines") / "lines"
    data = b"".join(b"x" * length + b"\n" for length in lengths) + (b"" if whole else b"torn")
    path.write_bytes(data)
    with FileIO(path) as file:
        place = last_lines(file, most)
        assert file.tell() == place
    assert place == 0 or data[place - 1 : place] == b"\n" or place == len(data) - min(most, len(data))
    starts = [0, *(at + 1 for at, byte in enumerate(data) if byte == 10)]
    fitting = [start for start in starts if len(data) - start <= most]
    if fitting:
        assert place == fitting[0]
