"""Tells one story: chooses a setting, a cast and a plot, expands templates and keeps track of who was mentioned."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Literal

from storyteller_maker.grammar import polish
from storyteller_maker.grammar.actors import HABITS, HELPER_ANIMAL, Actor, Kind, cast_actor, plural
from storyteller_maker.grammar.tables import OPTION, Plot, Setting, Tables, tables

Style = Literal["short", "mid", "long"]
Talk = Literal["little", "mid", "much"]
JOIN = {"short": 0.0, "mid": 0.3, "long": 0.7}  # chance of joining two sentences, by style
DETAIL = {"short": 0.7, "mid": 1.0, "long": 1.3}  # factor on the chance of details, by style
TALK = {"little": 0.3, "mid": 1.0, "much": 3.0}  # weight of a sentence with direct speech, by talkativeness
STYLES: tuple[Style, ...] = ("short", "mid", "mid", "long")
TALKS: tuple[Talk, ...] = ("little", "mid", "much")
SHARE_HAPPY = 0.64
SHARE_MORAL = 0.22
_SYMBOL = re.compile(r"\{([^{}]+)\}")
_ACTOR = re.compile(r"([PH])(@|!|#|'s|\.\w+)?")


@dataclass(frozen=True)
class Wanted:
    """What a story must be; None leaves it to chance."""

    setting: str | None = None
    plot: str | None = None
    happy: bool | None = None
    animal: bool | None = None
    style: Style | None = None
    talk: Talk | None = None


@dataclass(frozen=True)
class Told:
    """A story and the choices behind it."""

    text: str
    setting: str
    plot: str
    happy: bool
    animal: bool
    style: Style
    talk: Talk
    hero: Actor
    helper: Actor


@dataclass
class State:
    """What the story has said so far, as far as later sentences depend on it."""

    last: Actor | None = None
    memo: dict[str, str] = field(default_factory=dict)
    used: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def copy(self) -> State:
        """A state that can change on its own."""
        return State(self.last, dict(self.memo), dict(self.used))


@cache
def parse(template: str) -> tuple[str, ...]:
    """Literal text at even places, symbols at odd ones."""
    return tuple(_SYMBOL.split(template))


class Teller:
    """One story in the making."""

    def __init__(self, rng: Random, wanted: Wanted, data: Tables) -> None:
        self.rng, self.data = rng, data
        names = list(data.settings)
        weights = [data.settings[name].weight for name in names]
        self.setting: Setting = data.settings[wanted.setting or rng.choices(names, weights)[0]]
        self.plot: Plot = data.plots[wanted.plot or rng.choice(list(data.plots))]
        self.happy = rng.random() < SHARE_HAPPY if wanted.happy is None else wanted.happy
        self.style = wanted.style if wanted.style is not None else rng.choice(STYLES)
        self.talk = wanted.talk if wanted.talk is not None else rng.choice(TALKS)
        animal = rng.random() < self.setting.animal if wanted.animal is None else wanted.animal
        kind: Kind = "animal" if animal else "human"
        self.hero = cast_actor(data, self.setting, kind, rng)
        kind = "animal" if rng.random() < HELPER_ANIMAL[kind] else "human"
        self.helper = cast_actor(data, self.setting, kind, rng, self.hero)
        beasts = [noun for noun in self.setting.beasts if noun not in (self.hero.noun, self.helper.noun)]
        self.extras = dict(zip("BC", rng.sample(beasts, 2), strict=True))
        self.day = False  # the story began with "One day, ..."
        self.state = State()
        self.sentences: list[str] = []

    # -- the course of a story

    def tell(self) -> Told:
        """The whole story."""
        self.opening()
        for number, beat in enumerate(self.plot.begin):
            self.beat(beat)
            if number == 0:
                self.maybe(0.1, ("{P:mind}.", "{P:mind}.", "{pause}."))
        for beat in self.plot.happy if self.happy else self.plot.sad:
            self.beat(beat)
        mood = "happy" if self.happy else "sad"
        self.say(self.data.phrases[f"ending_{mood}"])
        if self.rng.random() < SHARE_MORAL:
            self.say((self.plot.moral_happy if self.happy else self.plot.moral_sad,))
        about = ("He ", "She ", f"The {self.hero.noun} ", f"{self.hero.name} ")
        text = polish.join(self.sentences, about, JOIN[self.style], self.rng)
        choices = (self.setting.name, self.plot.name, self.happy, self.hero.kind == "animal", self.style, self.talk)
        return Told(text, *choices, self.hero, self.helper)

    def opening(self) -> None:
        """Introduce the hero: where, or once upon a time, or one day."""
        chance = self.rng.random()
        if chance < 0.42:
            self.say(("{open} {P.new}.",))
        elif chance < 0.72:
            self.say(("{once} {P.new}.", "{once} {P.new}.", "{once} {P.new} who lived {afar}."))
        else:
            self.day = True
            self.say(("{daybreak} {P.new} {start}.",))
            return
        self.maybe(0.36, ("{P:hobby}.", "{P:hobby}.", "{P:look}."))
        self.maybe(0.12, ("{sky}.",))

    # -- sentences

    def beat(self, beat: tuple[OPTION, ...]) -> None:
        """Tell a beat of the plot, or leave it out if it carries a chance."""
        options = tuple(option for option in beat if isinstance(option, str))
        if isinstance(beat[0], str):
            self.say(options)
        else:
            self.maybe(float(beat[0]), options)

    def maybe(self, chance: float, options: tuple[str, ...]) -> None:
        """Say something, with a chance that depends on the style."""
        if self.rng.random() < chance * DETAIL[self.style]:
            self.say(options)

    def say(self, options: tuple[str, ...]) -> None:
        """Say one of the options; short and long styles take the shortest or longest of three tries."""
        tries: list[tuple[int, str, State]] = []
        before = self.state
        for _ in range(1 if self.style == "mid" else 3):
            self.state = before.copy()
            text = self.expand(self.choose(options))
            tries.append((len(text), text, self.state))
        best = min(tries, key=lambda t: t[0]) if self.style == "short" else max(tries, key=lambda t: t[0])
        self.state = best[2]
        self.sentences.append(polish.sentence(best[1]))

    def choose(self, options: tuple[str, ...]) -> str:
        """One option, with direct speech more or less likely as the story is talkative."""
        weight = TALK[self.talk]
        if weight == 1.0:
            return self.rng.choice(options)
        return self.rng.choices(options, [weight if '"' in option else 1.0 for option in options])[0]

    def expand(self, template: str) -> str:
        """Fill in a template's symbols, from left to right."""
        parts = parse(template)
        return "".join(self.symbol(part) if place % 2 else part for place, part in enumerate(parts))

    def symbol(self, name: str) -> str:
        """What a symbol stands for: someone, a kind of hero's phrase, an extra, or an entry of a list."""
        if match := _ACTOR.fullmatch(name):
            return self.refer(self.hero if match[1] == "P" else self.helper, match[2] or "")
        if name[0] in self.extras:
            return plural(self.extras[name[0]]) if name.endswith(".s") else self.extras[name[0]]
        if name[1:2] == ":":
            actor = self.hero if name[0] == "P" else self.helper
            return self.expand(self.fresh(name, self.data.by_kind[actor.kind][name[2:]]))
        return self.listed(name)

    def listed(self, name: str) -> str:
        """An entry of a list; a digit remembers the choice, "+" takes the second of two forms."""
        second = name.endswith("+")
        key = name.rstrip("+")
        if key in self.state.memo:
            entry = self.state.memo[key]
        else:
            base = key.rstrip("0")
            if base == "when" and self.day:
                base = "when_later"
            options = self.setting.lists.get(base) or self.data.phrases[base]
            entry = self.fresh(base, options)
            if key[-1] == "0":
                self.state.memo[key] = entry
        return self.expand(entry.split("/")[-1] if second else entry.split("/")[0])

    def fresh(self, name: str, options: tuple[str, ...]) -> str:
        """An option that the story has not used yet, if there is one."""
        used = self.state.used.get(name, ())
        entry = self.choose(tuple(option for option in options if option not in used) or options)
        self.state.used[name] = (*used, entry)
        return entry

    # -- references

    def refer(self, actor: Actor, how: str) -> str:
        """Words for someone: introduction, pronoun, name or noun."""
        habits = HABITS[actor.kind]
        if how == ".new":
            self.state.last = actor
            return actor.introduction(self.rng)
        if how in (".sub", ".him", ".his"):
            return actor.pronoun(how[1:])
        if how in (".noun", ".s", ".adj"):
            return {".noun": actor.noun, ".s": actor.plural, ".adj": actor.trait}[how]
        if how == "@":
            return self.object(actor)
        if how == "#":
            return self.called(actor)
        chance = habits.pronoun if how == "" else habits.pronoun_full
        follows = self.state.last is actor and self.rng.random() < chance
        self.state.last = actor
        if how == "'s":
            return actor.pronoun("his") if follows else self.called(actor) + "'s"
        return actor.pronoun("sub") if follows else self.called(actor)

    def object(self, actor: Actor) -> str:
        """Someone as an object: a pronoun only where it cannot be mistaken."""
        differ = self.hero.gender != self.helper.gender
        if differ and self.rng.random() < HABITS[actor.kind].pronoun_object:
            return actor.pronoun("him")
        return self.called(actor)

    def called(self, actor: Actor) -> str:
        """A name, or a noun with its article."""
        if actor.name and self.rng.random() < HABITS[actor.kind].by_name:
            return actor.name
        return f"the {actor.noun}"


def tell(rng: Random, wanted: Wanted | None = None, **choices: object) -> Told:
    """Tell a story; choices name what it must be (setting=, plot=, happy=, animal=, style=, talk=)."""
    wanted = replace(wanted or Wanted(), **choices)  # type: ignore[arg-type]
    return Teller(rng, wanted, tables()).tell()
