"""Reference, tuned and their difference as a table of text, as wide as there is room for. Pure functions."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content

from rlhf_engine.evaluation.compare import Row
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.estimates import LESS, MORE, UNCLEAR, plain, points, share, show_estimate, sign_of, signed

SHARES = ("liked_share", "disliked_share", "distinct_1", "distinct_2")
_LABEL, _SHORT = 24, 12  # cells of a side's name, with and without intervals below it

Cells = tuple[Content, Content, Content, Content, Content]


def comparison_table(
    rows: tuple[Row, ...], width: int, labels: tuple[str, str] = ("reference", "tuned")
) -> Content:
    """The table in at most `width` columns: with all intervals, else with that of the difference, else without."""
    for intervals in ((True, True), (False, True), (False, False)):
        table = _table(rows, labels, *intervals)
        if table.cell_length == 0 or max(line.cell_length for line in table.split("\n")) <= width:
            return table
    return Content("\n").join(line.truncate(max(1, width), ellipsis=True) for line in table.split("\n"))


def table_text(rows: tuple[Row, ...], labels: tuple[str, str]) -> str:
    """The whole table for another program: with all intervals, signs, and a line that says what those mean."""
    table = "\n".join(line.rstrip() for line in _table(rows, labels, True, True).plain.split("\n"))
    return f"{table}\n95 % CI in brackets; {MORE} {LESS} significant (95 % CI excludes 0), {UNCLEAR} not\n"


# ---------------------------------------------------------------------------------------------------------------------


def _table(
    rows: tuple[Row, ...], labels: tuple[str, str], intervals: bool, interval_of_difference: bool
) -> Content:
    named = [Content(label).truncate(_LABEL if intervals else _SHORT, ellipsis=True).plain for label in labels]
    change = "difference" if interval_of_difference else "diff."
    heads = [Content.styled(text, "bold") for text in ("", *named, change, "")]
    lines = [tuple(heads), *(_cells(row, intervals, interval_of_difference) for row in rows if not row.idle)]
    widths = [max(line[column].cell_length for line in lines) for column in range(5)]
    return Content("\n").join(Content("  ").join(_aligned(line, widths)) for line in lines)


def _cells(row: Row, intervals: bool, interval_of_difference: bool) -> Cells:
    is_share = row.key in SHARES
    number, change = (share, points) if is_share else (plain, signed)
    symbol, style = sign_of(row.difference)
    label = clean_line(row.label)
    return (
        Content(label if interval_of_difference else label.partition(" (")[0]),
        show_estimate(row.reference, number, intervals),
        show_estimate(row.tuned, number, intervals),
        show_estimate(row.difference, change, interval_of_difference).stylize("" if symbol == UNCLEAR else "bold"),
        Content.styled(symbol, style),
    )


def _aligned(line: tuple[Content, ...], widths: list[int]) -> list[Content]:
    """Labels to the left; numbers to the right, so that their brackets and units stand below each other."""
    aligned = []
    for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
        missing = width - cell_len(cell.plain)
        aligned.append(cell.pad_right(missing) if column == 0 else cell.pad_left(missing))
    return aligned
