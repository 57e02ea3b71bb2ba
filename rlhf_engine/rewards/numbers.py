"""Numbers as people and models write them, read exactly."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_LONGEST = 400  # characters, and the largest exponent: what is longer is no number that somebody means to compare
_SPACES = "\u00a0\u2009\u202f"  # that stand between thousands, and not between words
_DIGITS = rf"(?:\d{{1,3}}(?:[,{_SPACES}]\d{{3}})+(?!\d)|\d+)"
# a sign behind a letter, digit or bracket is an operator: the last number of "7-3" is 3
_SIGN = r"(?:(?<![\w)\]])[-+−])?"
NUMBER = re.compile(
    rf"{_SIGN}(?:{_DIGITS}(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE][-+−]?\d+)?(?:\s?/\s?\d+(?![\d.,]*\d))?%?")
"""One number within a text: sign, thousands in groups, decimals, exponent, and the denominator of a fraction."""
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_BETWEEN_THOUSANDS = re.compile(rf"(?<=\d)(?:[{_SPACES}]|\\,|\{{,\}})(?=\d{{3}}(?!\d))")
_WRAPPING = re.compile(r"\\[()\[\]]|[$£€¥]|\\?%$")  # of mathematics, currency and percent
_AROUND_SLASH = re.compile(r"\s*/\s*")


def read_number(text: str) -> Fraction | None:
    """The number that `text` is, exactly; None where it is none, or more than a number.

    Read are 1,000 and 1 000 with a narrow space, −3, .5, 1.50, 2e3, 1/2, \\frac{1}{2}, and signs of currency and of
    percent, which change nothing: 50 % is 50.
    """
    if len(text) > _LONGEST:
        return None
    text = unicodedata.normalize("NFKC", _BETWEEN_THOUSANDS.sub(",", text.strip().rstrip("."))).replace("−", "-")
    text = _WRAPPING.sub("", _FRACTION.sub(r"\1/\2", text).strip())
    top, slash, bottom = _AROUND_SLASH.sub("/", text.strip()).partition("/")
    numerator, denominator = _decimal(top), _decimal(bottom) if slash else Fraction(1)
    return numerator / denominator if numerator is not None and denominator else None


def _decimal(text: str) -> Fraction | None:
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?", text):
        text = text.replace(",", "")
    found = re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE]([-+]?\d+))?", text)
    if found is None or abs(int(found[1] or 0)) > _LONGEST:
        return None
    return Fraction(text)
