"""Heroes and helpers: who they are, and the words that refer to them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from storyteller_maker.grammar.tables import Setting, Tables

Kind = Literal["human", "animal"]
PRONOUNS = {"f": {"sub": "she", "him": "her", "his": "her"}, "m": {"sub": "he", "him": "him", "his": "his"}}
SAME_IN_PLURAL = {"fish", "sheep", "deer", "reindeer"}
IRREGULAR = {
    "mouse": "mice",
    "wolf": "wolves",
    "octopus": "octopuses",
    "fox": "foxes",
    "butterfly": "butterflies",
    "pony": "ponies",
    "puppy": "puppies",
}


@dataclass(frozen=True)
class Habits:
    """How often a kind of actor has a name, and is called by pronoun or by name. Animals are called by their noun."""

    named: float
    pronoun: float
    pronoun_full: float
    pronoun_object: float
    by_name: float


HABITS: dict[Kind, Habits] = {
    "human": Habits(named=0.72, pronoun=0.60, pronoun_full=0.22, pronoun_object=0.55, by_name=0.62),
    "animal": Habits(named=0.15, pronoun=0.28, pronoun_full=0.0, pronoun_object=0.15, by_name=0.25),
}
GIRL_OR_BOY = 0.25  # share of human heroes who are simply a girl or a boy
HELPER_ANIMAL = {"human": 0.03, "animal": 0.88}  # chance of an animal helper, by the kind of the hero
SHARE_WITH_TRAIT = 0.7


@dataclass(frozen=True)
class Actor:
    """Someone in the story."""

    noun: str
    name: str | None
    gender: Literal["f", "m"]
    kind: Kind
    trait: str
    show_trait: bool

    def pronoun(self, case: str) -> str:
        """The pronoun for a case: sub, him or his."""
        return PRONOUNS[self.gender][case]

    @property
    def plural(self) -> str:
        """The noun in the plural."""
        return plural(self.noun)

    def introduction(self, rng: Random) -> str:
        """As in "a kind fox called Rusty"; the article is mended later."""
        base = f"a {self.trait} {self.noun}" if self.show_trait else f"a {self.noun}"
        if self.name is None:
            return base
        return f"{base} {rng.choice(('named', 'named', 'called'))} {self.name}"


def plural(noun: str) -> str:
    """The plural of a noun of the grammar."""
    if noun in SAME_IN_PLURAL:
        return noun
    return IRREGULAR.get(noun, noun + "s")


def cast_actor(tables: Tables, setting: Setting, kind: Kind, rng: Random, other: Actor | None = None) -> Actor:
    """Choose someone who belongs to the setting and differs from `other`; opposite genders are preferred."""
    noun, gender = _noun(setting, kind, rng, other)
    if not gender:
        gender = rng.choice("fm")
        if other and rng.random() < 0.5:
            gender = "f" if other.gender == "m" else "m"
    name = _name(tables, setting, kind, gender, rng, other) if rng.random() < HABITS[kind].named else None
    show_trait = rng.random() < SHARE_WITH_TRAIT and not noun.startswith("old ")
    trait = rng.choice(tables.traits[kind])
    return Actor(noun, name, "f" if gender == "f" else "m", kind, trait, show_trait)


def _noun(setting: Setting, kind: Kind, rng: Random, other: Actor | None) -> tuple[str, str]:
    """A noun and its gender, if the noun has one."""
    nouns = setting.beasts if kind == "animal" else setting.people
    if kind == "human" and rng.random() < GIRL_OR_BOY:
        nouns = ("girl", "boy")
    free = [noun for noun in nouns if not other or noun.partition(":")[0] != other.noun]
    noun, _, gender = rng.choice(free).partition(":")
    return noun, {"girl": "f", "boy": "m"}.get(noun, gender)


def _name(tables: Tables, setting: Setting, kind: Kind, gender: str, rng: Random, other: Actor | None) -> str:
    pool = "girls" if gender == "f" else "boys"
    names = tables.pets[pool] if kind == "animal" else (setting.girls if pool == "girls" else setting.boys)
    return rng.choice([name for name in names if not other or name != other.name])
