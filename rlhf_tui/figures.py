"""Numbers as the screen shows them."""

from __future__ import annotations


def minus(number: str) -> str:
    """A formatted number, or several, with a minus sign as wide as a plus, which a hyphen is not in most fonts.

    Not for what is typed, copied or stored: there it stays a hyphen.
    """
    return number.replace("-", "−")


def figure(value: float, form: str) -> str:
    """`value` by a format such as `+.2f`, with that minus sign; with none where it rounds to zero."""
    sign, rest = (form[0], form[1:]) if form[0] in "+- " else ("", form)
    return minus(format(value, f"{sign}z{rest}"))
