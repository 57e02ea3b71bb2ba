"""From lower-case sentences to text: articles, capitals, dialogue tags, and the joining of short sentences."""

from __future__ import annotations

import re
from random import Random

TAGS = "said|asked|called|replied|answered|cheered|laughed|shouted|sighed|whispered|cried|sobbed|thought"
_ARTICLE = re.compile(r"\b([Aa]) (?=(?:[aeio]|un(?!i)|um|up|us(?!e)|hon(?!ey)|hour)(?!ne\b))")
_SAID_SHE = re.compile(rf'" ({TAGS}) (she|he)\b')
_SENTENCE = re.compile(r"([.!?] )([a-z])")
_PRONOUN = re.compile(r"(He|She) ")


def sentence(text: str) -> str:
    """Mend one beat: "a owl" -> "an owl", '" said she' -> '" she said', and a capital after each full stop."""
    text = _SAID_SHE.sub(r'" \2 \1', _ARTICLE.sub(r"\1n ", text))
    text = _SENTENCE.sub(lambda m: m[1] + m[2].upper(), text)
    return text[0].upper() + text[1:]


def join(sentences: list[str], about: tuple[str, ...], chance: float, rng: Random) -> str:
    """Put sentences together; now and then two about the hero (they begin with `about`) become "..., and she ..."."""
    told: list[str] = []
    for text in sentences:
        if told and told[-1].startswith(about) and _joinable(told[-1], text) and rng.random() < chance:
            told[-1] = f"{told[-1][:-1]}, and {text[0].lower()}{text[1:]}"
        else:
            told.append(text)
    return " ".join(told)


def _joinable(before: str, after: str) -> bool:
    plain = '"' not in before + after and before.endswith(".") and before.count(".") == 1 and "," not in before
    return plain and _PRONOUN.match(after) is not None and len(before) + len(after) < 120
