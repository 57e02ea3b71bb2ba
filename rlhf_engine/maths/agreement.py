"""How far two judges agree beyond what chance would give. Plain Python, deterministic."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def raw_agreement(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """The share of items that both put into the same category. Raises ValueError for none, or unequal lengths."""
    if not one:
        raise ValueError("there are no items to agree on")
    return sum(first == second for first, second in zip(one, other, strict=True)) / len(one)


def gwet_ac1(one: Sequence[Hashable], other: Sequence[Hashable], categories: int) -> float:
    """Gwet's AC1 of two judges who put the same items into one of `categories` (Gwet 2008): (a − e) / (1 − e), where a
    is the share that they agree on, and e what chance would give, see `gwet_chance`.

    1 is full agreement, 0 that of chance. Unlike Cohen's kappa it does not fall towards 0 where nearly all items are of
    one category and both say so. Raises ValueError as `gwet_chance` does.
    """
    chance = gwet_chance(one, other, categories)
    return (raw_agreement(one, other) - chance) / (1 - chance)


def gwet_chance(one: Sequence[Hashable], other: Sequence[Hashable], categories: int) -> float:
    """How often two judges would agree by chance (Gwet 2008): Σ p (1 − p) / (categories − 1), p being how often both
    together use a category.

    Raises ValueError for no items, unequal lengths, fewer than two categories, or fewer than are used.
    """
    both = [*one, *other]
    used = set(both)
    if not both or len(one) != len(other) or categories < max(2, len(used)):
        raise ValueError(f"{len(one)} and {len(other)} items in {len(used)} of {categories} categories: there must be "
                         "as many items of each judge, one at least, and two categories or more")
    frequencies = [both.count(category) / len(both) for category in used]
    return sum(p * (1 - p) for p in frequencies) / (categories - 1)
