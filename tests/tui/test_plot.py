"""One picture: what is drawn where, and never over the line."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tui.test_hostile_text import hostile
from tui.test_series import histories

from rlhf_tui.areas.charts.lens import AXES, Axis
from rlhf_tui.areas.charts.plot import Picture, draw
from rlhf_tui.areas.charts.series import smooth
from rlhf_tui.areas.charts.sheet import Sheet, plain
from rlhf_tui.engine.metrics_history import Points


def banded(points: Points) -> list[tuple[float, float, float]]:
    return [(x, y, y) for x, y in points]


def text_of(sheet: Sheet, cursor: tuple[int, int | None] | None = None) -> str:
    return "\n".join("".join(text for text, _ in line) for line in sheet.runs(cursor))


def drawn(picture: Picture, width: int = 60, height: int = 12) -> str:
    sheet = draw(picture, width, height)
    return sheet if isinstance(sheet, str) else text_of(sheet)


def ramp(last: int) -> Points:
    return [(float(x), float(x)) for x in range(1, last + 1)]


@settings(max_examples=60)
@given(histories, st.integers(0, 90), st.integers(0, 30), st.booleans(), st.none() | st.floats(0.1, 100),
       st.sampled_from(AXES), st.booleans(), hostile)
def test_anything_finite_is_drawn_in_its_box(points: Points, width: int, height: int, log: bool, target: float | None,
                                             axis: Axis, ascii_only: bool, label: str) -> None:
    line = smooth(points, 0.9)
    picture = Picture(banded(points), line, 1, 80, target, [(3, label), (79, label)], [("o", line[::2])], log, axis,
                      ascii_only)
    sheet = draw(picture, width, height)
    if isinstance(sheet, Sheet):
        assert len(sheet.cells) == height
        assert all(len(cells) == width and all(len(cell) == 1 for cell in cells) for cells in sheet.cells)


def test_a_picture_wider_than_the_terminal_is_not_cut() -> None:
    lines = drawn(Picture(banded(ramp(49)), ramp(49), 1, 49), 260, 60).split("\n")
    assert len(lines) == 60
    assert max(map(len, lines)) > 250


def test_raw_smoothed_target_and_edits_differ_by_marker() -> None:
    points = [(float(x), float(x % 5)) for x in range(1, 40)]
    plain_text = drawn(Picture(banded(points), smooth(points, 0.9), 1, 40, 3.0, [(20, "")]))
    assert "·" in plain_text
    assert any(0x2800 < ord(c) < 0x2900 for c in plain_text)
    assert "╌" in plain_text
    assert "┊" in plain_text


def test_in_ascii_everything_is_ascii_and_still_differs() -> None:
    points = [(float(x), float(x % 5)) for x in range(1, 40)]
    text = drawn(Picture(banded(points), smooth(points, 0.9), 1, 40, 3.0, [(20, "kl.coef 0.1→0.3")], [("o", points)],
                         ascii=True))
    assert text.isascii()
    assert "kl.coef 0.1>0.3" in text
    assert all(mark in text for mark in "*.:-o|+")
    assert plain("KL ▲ 日本") == "KL ^ ??"


def test_a_band_fills_a_column_from_lowest_to_highest() -> None:
    rows = drawn(Picture([(50.0, 0.0, 10.0)], [], 0, 100)).split("\n")
    columns = [row.index("·") for row in rows if "·" in row]
    assert len(columns) >= 8
    assert len(set(columns)) == 1


def test_an_edit_says_what_it_was_where_there_is_room() -> None:
    line = [(float(x), 0.01 * x) for x in range(101)]
    assert "┊kl.coef 0.1→0.3" in drawn(Picture([], line, 0, 100, edits=[(10, "kl.coef 0.1→0.3")]))
    assert "kl.coef 0.1→0.3┊" in drawn(Picture([], line, 0, 100, edits=[(75, "kl.coef 0.1→0.3")]))
    several = drawn(Picture([], line, 0, 100, edits=[(10, "first"), (11, "second"), (12, "third")]))
    assert all(word in several for word in ("first", "second", "third"))
    assert "too long" not in drawn(Picture([], line, 0, 100, edits=[(10, "too long" * 9)]))


def test_a_wide_character_in_a_label_moves_nothing() -> None:
    line = [(float(x), 0.01 * x) for x in range(101)]
    assert "┊??" in drawn(Picture([], line, 0, 100, edits=[(10, "狐狐")]))


def test_other_runs_are_drawn_even_where_this_one_has_nothing() -> None:
    text = drawn(Picture([], [], 1, 20, overlays=[("o", ramp(20)), ("x", [(x, 20 - y) for x, y in ramp(20)])]))
    assert "o" in text
    assert "x" in text
    assert "20" in text.split("\n")[-1]


def test_a_log_axis_leaves_out_what_is_not_above_zero() -> None:
    assert "above 0" in drawn(Picture([(1, -1.0, -1.0)], [(1, -1.0)], 1, 10, log=True))
    assert "10" in drawn(Picture([(1, 1.0, 1.0), (2, -1.0, 100.0)], [], 1, 10, log=True))


@pytest.mark.parametrize(("axis", "label"), [("step", "20000"), ("responses", "20k"), ("time", "6:00:00")])
def test_the_axis_is_labelled_in_its_own_unit(axis: Axis, label: str) -> None:
    line = [(float(x), math.sin(x)) for x in range(0, 40_000, 1000)]
    assert label in drawn(Picture([], line, 0, 40_000, axis=axis)).split("\n")[-1].split()


def test_the_cursor_stands_on_the_value() -> None:
    line = [(float(x), 0.01 * x) for x in range(101)]
    sheet = draw(Picture([], line, 0, 100), 60, 12)
    assert isinstance(sheet, Sheet)
    rows = text_of(sheet, (sheet.column(50), sheet.row_of(0.5, log=False))).split("\n")
    at = [row.index("◆") for row in rows if "◆" in row]
    assert at == [sheet.left + sheet.column(50)]
    assert sum(row[at[0]] == "│" for row in rows) >= 8
    assert sheet.x(sheet.column(50)) == pytest.approx(50, abs=2)
    assert sheet.row_of(-1.0, log=True) is None
