"""The cells of a chart: each a character and what it belongs to. What comes later covers the line only as a mark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.cells import cell_len

CURSOR, CROSS = "│", "◆"
# kinds that something with words may be written over
_FAINT = {"", "raw", "target"}
_PLAIN = str.maketrans({
    "─": "-", "│": "|", "└": "+", "┤": "+", "┬": "+", "┼": "+", "╌": "-", "┊": ":", "·": ".", "◆": "@", "→": ">",
    "−": "-", "…": "~", "▲": "^", "▼": "v", "▸": ">", "✗": "x", "⠒": "*", "²": "^2", "β": "beta", "“": '"', "”": '"',
    "×": "x", "▕": "|", "▏": "|", "←": "<-", "↑": "^", "↓": "v", "π": "pi", "‖": "|", "–": "-", "≤": "<=",
})


def plain(text: str) -> str:
    """`text` for a font that has little more than ASCII; what has no stand-in becomes a question mark."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode()


class Sheet:
    """A chart of `columns` by `rows` cells within axes `left` cells from the left and `below` from the bottom."""

    def __init__(self, cells: Iterable[Iterable[str]], left: int, below: int, x_range: tuple[float, float],
                 y_range: tuple[float, float]) -> None:
        self.cells = [list(line) for line in cells]
        self.left = left
        self.rows = len(self.cells) - below
        self.columns = len(self.cells[0]) - left
        self._x, self._y = x_range, y_range
        self.kinds = [["axes"] * left + ["line" if cell != " " else "" for cell in line[left:]]
                      if number < self.rows else ["axes"] * len(line) for number, line in enumerate(self.cells)]

    # --- places ---

    def column(self, x: float) -> int:
        """The column of `x`, counted from the left axis."""
        first, last = self._x
        return math.floor(0.5 + (self.columns - 1) * ((x - first) / (last - first)))

    def row(self, y: float) -> int:
        """The row of `y`, counted from the bottom axis."""
        low, high = self._y
        return math.floor(0.5 + (self.rows - 1) * ((y - low) / (high - low)))

    def row_of(self, value: float, *, log: bool) -> int | None:
        """The row of a value on the scale of the axis; None where it has no place."""
        if log and value <= 0:
            return None
        return self.row(math.log10(value) if log else value)

    def x(self, column: int) -> float:
        """What lies in the middle of a column."""
        first, last = self._x
        return first + (last - first) * max(0, min(self.columns - 1, column)) / max(1, self.columns - 1)

    # --- drawing ---

    def put(self, column: int, row: int, character: str, kind: str) -> None:
        """Fill a cell that is free; out of the chart there is none."""
        if 0 <= column < self.columns and 0 <= row < self.rows:
            line, at = self.rows - 1 - row, self.left + column
            if not self.kinds[line][at]:
                self.cells[line][at], self.kinds[line][at] = character, kind

    def mark(self, x: float, y: float, character: str, kind: str) -> None:
        """Fill the cell of a point that must be seen, on the line too."""
        line, at = self.rows - 1 - self.row(y), self.left + self.column(x)
        self.cells[line][at], self.kinds[line][at] = character, kind

    def dots(self, points: Sequence[tuple[float, float]], character: str, kind: str) -> None:
        """A mark in every other column that has a point, so that what lies behind stays readable."""
        marked = -2
        for x, y in points:
            if (column := self.column(x)) >= marked + 2:
                self.put(column, self.row(y), character, kind)
                marked = column

    def band(self, band: Sequence[tuple[float, float, float]], character: str, kind: str) -> None:
        """Fill each column from the lowest value there to the highest."""
        extremes: dict[int, tuple[float, float]] = {}
        for x, low, high in band:
            column = self.column(x)
            before = extremes.get(column)
            extremes[column] = (min(low, before[0]), max(high, before[1])) if before else (low, high)
        for column, (low, high) in extremes.items():
            for row in range(self.row(low), self.row(high) + 1):
                self.put(column, row, character, kind)

    def label(self, column: int, text: str, kind: str, most: int) -> None:
        """Write `text` right or left of a column in the topmost of `most` lines where there is room; else not at all.
        """
        # a character of two cells, or of none, would move the rest of its line
        text = "".join(character if cell_len(character) == 1 else "?" for character in text)
        for line in range(min(most, self.rows)):
            for begin in (column + 1, column - len(text)):
                room = self.kinds[line][self.left + max(0, begin):self.left + begin + len(text)]
                if begin >= 0 and begin + len(text) <= self.columns and _FAINT.issuperset(room) and text:
                    at = self.left + begin
                    self.cells[line][at:at + len(text)] = text
                    self.kinds[line][at:at + len(text)] = [kind] * len(text)
                    return

    def in_ascii(self) -> Sheet:
        """The same with plain characters."""
        self.cells = [[plain(cell)[:1] for cell in line] for line in self.cells]
        return self

    def runs(self, cursor: tuple[int, int | None] | None = None) -> list[list[tuple[str, str]]]:
        """The lines, each as (text, kind) from left to right; through column `cursor[0]` goes a line, with a cross in
        row `cursor[1]`.
        """
        lines = []
        for number, (cells, kinds) in enumerate(zip(self.cells, self.kinds, strict=True)):
            if cursor is not None and number < self.rows and 0 <= cursor[0] < self.columns:
                cells, kinds = self._crossed(number, cells, kinds, cursor)
            line, at = [], 0
            for kind, group in groupby(kinds):
                end = at + len(list(group))
                line.append(("".join(cells[at:end]), kind))
                at = end
            lines.append(line)
        return lines

    def _crossed(self, number: int, cells: list[str], kinds: list[str],
                 cursor: tuple[int, int | None]) -> tuple[list[str], list[str]]:
        cells, kinds = cells.copy(), kinds.copy()
        at = self.left + cursor[0]
        ascii_only = cells[self.left - 1].isascii()
        if cursor[1] is not None and number == self.rows - 1 - cursor[1]:
            cells[at] = plain(CROSS) if ascii_only else CROSS
        elif kinds[at] in _FAINT:
            cells[at] = plain(CURSOR) if ascii_only else CURSOR
        kinds[at] = "cursor"
        return cells, kinds
