"""The sign of a number below zero on the screen: as wide as a plus, which a hyphen is not in most fonts.

Not for what is typed, copied or stored: there it stays a hyphen.
"""

from __future__ import annotations


def minus(number: str) -> str:
    """A formatted number, or several, with the sign that the screen uses."""
    return number.replace("-", "−")
