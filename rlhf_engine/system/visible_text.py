"""Text of a model, a file or a name of a file, made fit to be printed, shown, or written where people look at it.

Such text can hold what a terminal obeys (escape sequences, the C1 controls), what turns the order of letters around or
ends a line (Unicode's format and separator characters), what nobody sees (fillers, tags, variation selectors that can
carry a message), and heaps of accents that cover the lines around them. In prose each of these becomes a visible
stand-in, one character for one, so that offsets stay valid. In JSON and TOML, which are data, each becomes an escape
of that language: a program reads back what was there, and `cat` shows nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# the categories Cc, Cf, Cs, Zl and Zp, but newline, tab and the joiner of emoji (which is harmless alone); fillers and
# selectors that show nothing, but the two that choose between text and emoji; the whole block of tags
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f"
_HIDDEN = re.compile(
    f"[{_CONTROLS}"
    "\x80-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]")
_HIDDEN_ASCII = re.compile(f"[{_CONTROLS}]")
# of languages with accents none puts more than a few on a letter
_ACCENTS = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_HEAP = re.compile(f"{_ACCENTS}(?<={_ACCENTS * 9})")


def visible(text: str) -> str:
    """`text` with a stand-in for every character that commands a terminal or hides; newlines and tabs stay."""
    if text.isascii():  # which Python knows without looking
        return _HIDDEN_ASCII.sub(_stand_in, text)
    return _HEAP.sub(REPLACEMENT, _HIDDEN.sub(_stand_in, text))


def without_hidden(text: str) -> str:
    """`text` without the characters that `visible` has stand-ins for, where they are worth nothing."""
    return _HEAP.sub("", _HIDDEN.sub("", text))


def one_line(text: str) -> str:
    """`visible` on one line, as a name or a sentence is shown: a newline shows as ↵, a tab is spaces."""
    return visible(text).expandtabs(4).replace("\n", "↵")


def escaped_json(encoded: str) -> str:
    """JSON with every such character of its strings as an escape; it means the same."""
    return _escaped(encoded, _json_escape)


def escaped_toml(encoded: str) -> str:
    """TOML whose strings are all basic ("…") with every such character as an escape; it means the same."""
    return _escaped(encoded, _toml_escape)


# ---------------------------------------------------------------------------------------------------------------------


def _stand_in(found: re.Match[str]) -> str:
    code = ord(found[0])
    # the control pictures name what was there: ESC is ␛
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else REPLACEMENT


def _escaped(encoded: str, escape: Callable[[re.Match[str]], str]) -> str:
    if encoded.isascii():
        return encoded.replace("\x7f", "\\u007f")  # of these, both languages escape all others
    return _HEAP.sub(escape, _HIDDEN.sub(escape, encoded))


def _json_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + ((code - 0x10000) >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _toml_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
