"""What no file of ours would hold, and a stranger's may: texts, numbers, values, names. Drawn with given dice."""

from __future__ import annotations

import random
from typing import Any

TEXTS = (
    "\x1b[2J\x1b[31mred", "\x1b]52;c;aGk=\x07", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x9b31m",
    "\x9d0;title\x9c", "\x1bP+q544e\x1b\\", "\u202eabc\u2066", "\u2028\u2029", "a\nb\r\nc\rd", "\x00", "a\x00b",
    "\ud83d", "\x7f\x08\x08", "[red]", "[/]", "[@click=app.quit]q[/]", "[bold", "{0}{1.__class__}{", "%s%n%d",
    "{{ 7*7 }}", "$(touch x)`touch y`", "../../canary/secret.txt", "/etc/passwd", "~/x", "file:///etc/passwd",
    "http://127.0.0.1:9/x", "-rf", "--help", "-", "@", "@x.txt", "none", "null", "NaN", "true", "", " ", "\t",
    "\u200b\ufeff", "e\u0301" * 50, "日本👩\u200d🚀", "(a+)+$", "(?<", "[", "\\", "\\p{", "a" * 300, "A" * 1_000_000,
    "\n" * 5000, "x " * 50_000, "\U000e0041", "'; drop", "__class__", "con", "evil.py:score", "../evil.py:score",
    "rewards/<x>/mean", "step-000001", ".", "..", "storyteller", "all-linear", ".*",
)
# written into a file as they stand: no program of ours writes such numbers
NUMBERS = (
    "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "-1", "0", "-0.0", "1", "0.5", "1e-320", "1e300",
    "1" + "0" * 400, "-1" + "0" * 400, "9" * 5000, "9223372036854775808", "18446744073709551616", "9007199254740993",
    "4294967296", "2147483648", "65536", "1000000000", "true", "false", "null", '"5"', "1.0000000001", "3",
)
KINDS: tuple[Any, ...] = (
    None, True, False, 0, -1, "", "x", [], {}, [[]], [None], {"": None}, [0] * 5000, ["x"] * 3000,
    {"a": {"b": {"c": []}}}, [1, "a", None, {}], 1.5,
)
NAMES = (
    "\x1b]52;c;aGk=\x07", "\x1b[31mred", "\x9b31m", "\u202etxt", "a\nb", "\u2028", "--help", "-rf", "[red]x[/]",
    "{0}", "%s", "a" * 240, " ", "x@best", "own@2", ".hidden", "~", "$HOME", "con", "日本", "e\u0301", "step-000001",
    "checkpoints", "step-99999999999999999999", "step--1", "step-1e9", "step-000002.9999999999999999999",
    "step-000004.1", "...", "best", "\udcff\udc9b31m",
)
CHAT_TEMPLATES = (
    "{% for i in range(1000000000) %}x{% endfor %}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ raise_exception('no') }}", "{% if", "{{ messages * 100000000 }}",
)


class Raw:
    """Stands for something that is written as it is, where a format has no such value."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> str:
        """A string in the place of which `written` puts `text`."""
        self.texts.append(text)
        return f"\uf8ffraw{len(self.texts) - 1}\uf8ff"

    def written(self, document: str) -> str:
        """The document with what was meant; quotes around it go."""
        for number, text in enumerate(self.texts):
            for mark in ("\uf8ff", "\\uf8ff"):
                document = document.replace(f'"{mark}raw{number}{mark}"', text)
        return document


def text(dice: random.Random) -> str:
    """One hostile text, or two of them together."""
    return dice.choice(TEXTS) + (dice.choice(TEXTS) if dice.random() < 0.2 else "")


def value(dice: random.Random, raw: Raw, like: object = None) -> Any:
    """Something hostile in the place of `like`: more often of its own kind than of another."""
    number = isinstance(like, int | float) and not isinstance(like, bool)
    chance = dice.random()
    if chance < (0.7 if number else 0.2):
        return raw(dice.choice(NUMBERS))
    if chance < (0.8 if number else 0.7):
        return text(dice)
    if chance < 0.75:
        return raw(nested(dice))
    return dice.choice(KINDS)


def nested(dice: random.Random) -> str:
    """Brackets or braces, so deep that who follows them by recursion falls."""
    deep = dice.choice((50, 1000, 5000, 100_000))
    return "[" * deep + "]" * deep if dice.random() < 0.5 else '{"a":' * deep + "0" + "}" * deep
