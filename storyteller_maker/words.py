"""Words of a text, the list of words that the grammar can produce, and how that list is made."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

_WORD = re.compile(r"[a-z']+")
_TEMPLATE = re.compile(r"\{[^{}]*\}")


def words(text: str) -> list[str]:
    """The words of a text in lower case, possessives as they stand."""
    return _WORD.findall(text.lower())


def bare(word: str) -> str:
    """A word without a possessive ending or quote marks."""
    return word.strip("'").removesuffix("'s")


def collect(texts: Iterable[str]) -> set[str]:
    """All bare words of these texts."""
    return {bare(word) for text in texts for word in words(text)} - {""}


def grammar_words() -> set[str]:
    """Every word that stands in the grammar's data, in case a sample of stories misses a rare one."""
    from storyteller_maker.grammar.actors import plural
    from storyteller_maker.grammar.tables import tables

    data = tables()
    texts: list[str] = []
    for setting in data.settings.values():
        texts += [entry for entries in setting.lists.values() for entry in entries]
        texts += [*setting.girls, *setting.boys, *setting.beasts, *(plural(noun) for noun in setting.beasts)]
        texts += [noun.partition(":")[0] for noun in setting.people]
    for table in (data.phrases, data.traits, data.pets, *data.by_kind.values()):
        texts += [entry for entries in table.values() for entry in entries]
    for plot in data.plots.values():
        beats = (*plot.begin, *plot.happy, *plot.sad, (plot.moral_happy, plot.moral_sad))
        texts += [option for beat in beats for option in beat if isinstance(option, str)]
    return collect(_TEMPLATE.sub(" ", text).replace("/", " ") for text in texts)


def main() -> None:
    """Write the list of words that the grammar can produce."""
    from storyteller_maker.grammar import stories

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--stories", type=int, default=60_000, help="stories to read besides the grammar's data")
    parser.add_argument("--seed", type=int, default=12)
    args = parser.parse_args()
    found = collect(stories(args.stories, args.seed)) | grammar_words()
    args.file.write_text("\n".join(sorted(found)) + "\n", encoding="utf-8")
    print(f"{len(found)} words in {args.file}")


if __name__ == "__main__":
    main()
