"""A terminal whose encoding is not Unicode is sent ASCII alone: frames, symbols, bars and text, cell for cell."""

from __future__ import annotations

import locale
import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_ALIKE = {
    "-": "−–—‐‒▂▃", ".": "·…", '"': "“”", "'": "‘’", "x": "×✗✕", "+": "±✓", "~": "≈≠∞", "<": "≤←‹⟨◂⏎↵⌫", ">": "≥→›⟩▸▶",
    "^": "↑▲", "v": "↓▼▾", "!": "⚠", "*": "●◆•✎★", "o": "○◌◐◑◒◓□°", "#": "■█▇▉▊▋▓⊘", "=": "▄▅▆▀", "_": "▁",
    "|": "▌▍▎▏▐▕‖", ":": "░▒", "2": "²", "3": "³", "a": "α", "b": "β", "g": "γ", "d": "δ∂", "e": "ε", "l": "λ",
    "m": "μ", "p": "π", "s": "σ", "S": "Σ",
}
_STAND_INS = {character: plain for plain, characters in _ALIKE.items() for character in characters}


class AsciiOnly(LineFilter):
    """Replaces every character outside ASCII by as many as it has cells."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments of a line, in ASCII."""
        return [segment if segment.control or segment.text.isascii() else
                Segment(ascii_cells(segment.text), segment.style, segment.control) for segment in segments]


@lru_cache(maxsize=16384)
def ascii_cells(text: str) -> str:
    """`text` in ASCII, in the same cells; what nothing stands for is a question mark."""
    return "".join(character if character.isascii() else _cells(character) for character in text)


def _cells(character: str) -> str:
    code = ord(character)
    if 0x2500 <= code <= 0x257F:  # frames and rules
        name = unicodedata.name(character)
        across, down = "HORIZONTAL" in name or "LEFT" in name or "RIGHT" in name, "VERTICAL" in name
        return "|" if down and not across else "-" if across and " AND " not in name else "+"
    if 0x2800 <= code <= 0x28FF:  # braille
        return " " if code == 0x2800 else "*"
    if character in _STAND_INS:
        return _STAND_INS[character]
    plain = unicodedata.normalize("NFKD", character)[0]  # é is an e
    width = cell_len(character)
    return plain if plain.isascii() and plain.isprintable() and width == 1 else "?" * width


def terminal_has_unicode() -> bool:
    """What the environment says of the terminal's encoding (LC_ALL, LC_CTYPE, LANG)."""
    return locale.getencoding().lower().replace("-", "").startswith("utf")
