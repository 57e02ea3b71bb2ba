"""The rules of the screen's styles, read once for all apps that tests mount."""

from __future__ import annotations

from collections.abc import Callable

from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet


def parsing_once() -> Callable[..., list[RuleSet]]:
    """What to put in the place of `Stylesheet._parse_rules`: the same styles with the same colours are parsed once."""
    parse, parsed = Stylesheet._parse_rules, {}

    def remembered(sheet: Stylesheet, *given: object, **named: object) -> list[RuleSet]:
        key = given, tuple(named.items()), tuple(sheet._variables.items())
        if key not in parsed:
            parsed[key] = parse(sheet, *given, **named)
        return parsed[key]

    return remembered
