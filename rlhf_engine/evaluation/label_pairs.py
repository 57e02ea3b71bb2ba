"""Pairs of answers for a person to judge: sampled from any two models, and those asked for that teach the most.

    random   each of both sides answers a prompt once
    unsure   each answers it several times; the two are asked for whose scores differ least
    gap      those whose scores differ most, where a person's word weighs most if it says otherwise

What is learnt from pairs that were not chosen at random is not what a random pair would say: each pair tells how it was
chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.prompt_check import check_prompts
from rlhf_engine.data.prompt_order import rows_for_step
from rlhf_engine.data.rows import prompts_to_ask
from rlhf_engine.errors import ConfigError, NonFiniteError, RunError
from rlhf_engine.evaluation.comparison import ComparisonModels, LoadedSide, answers_of
from rlhf_engine.events import Sample
from rlhf_engine.labels.guess import guess_of
from rlhf_engine.labels.pair import Answer, AskedFor, Origin, Pair
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import TUNED, Side
from rlhf_engine.rewards.build import rewards_if_any
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs.base_model import AS_IT_WAS, BaseChoice
from rlhf_engine.runs.run_dir import RunDir

BATCH = 32
"""Pairs that are sampled at a time where many are wanted."""
_MOST_VAIN = 8  # rounds in a row that give no pair
_APART = 1 << 31  # between the seeds of both sides, and of two rounds


def label_pairs(
    policy: Policy | None,
    config: RunConfig | None,
    *,
    count: int,
    seed: int,
    step: int = 0,
    sides: tuple[Side, Side] = (TUNED, TUNED),
    ask: AskedFor = "random",
    responses: int = 4,
    run: str = "",
    run_dir: RunDir | None = None,
    may_load: bool = True,
    base: BaseChoice = AS_IT_WAS,
    cancelled: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Pair, ...] | None:
    """`count` pairs of different answers, the first of each by the first side; None once cancelled.

    Prompts, sampling and rewards are those of `config`, or of the first side's run if both are checkpoints; prompts
    come in shuffled order. The same seed gives the same pairs. responses: of each side to each prompt, among which
    "unsure" and "gap" choose. run: the name of the run that the tuned model is of. run_dir: the run that `config` was
    read from, if it was one. policy, may_load, base, tell: as for `compare`. Raises RlhfError as that does, and where
    nearly all answers are equal, or nothing can say which of them to ask for.
    """
    models = ComparisonModels(policy, config, step, may_load, base, tell)
    both = [models.read(side) for side in sides]
    of_checkpoints = all(side.kind == "checkpoint" for side in sides)
    settings = both[0].config if of_checkpoints else config
    if settings is None:
        raise RunError("there is no configuration to take prompts from")
    for side in both:
        if side.tuned:
            (side.config or settings).algorithm.require_answers()
    scored_by = RunDir(sides[0].run) if of_checkpoints and sides[0].run else run_dir
    rewards, no_scores = rewards_if_any(settings, scored_by)
    if rewards is None and ask != "random":
        raise ConfigError(f"pairs cannot be asked for by {ask!r}: {no_scores or 'there are no rewards'}; choose random")
    to_ask = prompts_to_ask(settings)
    if not to_ask:
        raise ConfigError("data.prompts: there is no prompt to answer")
    draw = _Draw(models, (both[0], both[1]), settings, rewards, run, ask, responses if ask != "random" else 1,
                 cancelled)
    return draw.pairs(to_ask, count, seed)


def endless_pairs(draw: Callable[[int, int], Sequence[Pair] | None], seed: int, begun: int = 0) -> Iterator[Pair]:
    """Pairs, a batch at a time, as long as there are any that were not there before. begun: how many were taken from
    an iterator of the same seed before this one, which goes on from there. draw: takes count and seed of a batch, as
    `label_pairs` does; None from it ends all."""
    batch, vain = begun // BATCH, 0
    seen: set[str] = set()
    while vain < _MOST_VAIN:
        found = draw(BATCH, seed + batch)
        if found is None:
            return
        new = [pair for pair in found if pair.id not in seen]
        seen.update(pair.id for pair in new)
        batch, vain = batch + 1, 0 if new else vain + 1
        yield from new


@dataclass(frozen=True)
class _Draw:
    """What all rounds of answers share. each: answers of each side to each prompt."""

    models: ComparisonModels
    sides: tuple[LoadedSide, LoadedSide]
    settings: RunConfig
    rewards: RewardSum | None
    run: str
    ask: AskedFor
    each: int
    cancelled: Callable[[], bool]

    def pairs(self, to_ask: list[str], count: int, seed: int) -> tuple[Pair, ...] | None:
        found: dict[str, Pair] = {}
        vain = turn = 0
        while len(found) < count:
            places = rows_for_step(len(to_ask), turn, count - len(found), seed)
            answered = self._answers([to_ask[place] for place in places], (seed + 2 * turn * _APART) % 2**62)
            if answered is None:
                return None
            before = len(found)
            for prompt, first, second in answered:
                pair = self._asked_for(prompt, first, second)
                if pair is not None:
                    found.setdefault(pair.id, pair)
            turn, vain = turn + 1, 0 if len(found) > before else vain + 1
            if vain >= _MOST_VAIN:
                raise ConfigError(f"both sides answer alike: {vain} rounds of answers in a row gave no two that differ "
                                  "and were not there before; a higher sampling.temperature, more prompts or other "
                                  "sides would")
        return tuple(found.values())

    def _answers(self, prompts: Sequence[str], seed: int) -> list[tuple[str, list[Answer], list[Answer]]] | None:
        """The answers of both sides to each prompt that fits into the model."""
        answered: list[list[list[Answer]]] = []
        for number, side in enumerate(self.sides):
            of_side = seed + number * _APART
            with self.models.answering_as(side) as policy:
                if not number:
                    prompts = check_prompts(policy, self.settings, prompts).usable
                asked = [prompt for prompt in prompts for _ in range(self.each)]
                try:
                    samples = answers_of(policy, asked, self.settings, side, self.rewards, of_side, lambda done: None,
                                         self.cancelled)
                except NonFiniteError as error:
                    raise NonFiniteError(f"{side.label}: {error}") from None
            del policy  # or it would be held while the next one is loaded
            if samples is None:
                return None
            answers = [_answer(sample, self._origin(side, of_side)) for sample in samples]
            answered.append([answers[at:at + self.each] for at in range(0, len(answers), self.each)])
        return list(zip(prompts, *answered, strict=True))

    def _origin(self, side: LoadedSide, seed: int) -> Origin:
        model = (side.config or self.settings).model.name
        if side.config is not None:
            return Origin("checkpoint", model, side.run, side.step, seed)
        if side.tuned:
            return Origin("tuned", model, self.run, side.step, seed)
        return Origin("reference", model, seed=seed)

    def _asked_for(self, prompt: str, first: list[Answer], second: list[Answer]) -> Pair | None:
        """The pair of one answer of each that is asked for; None where all are alike."""
        different = [(one, other) for one, other in product(first, second) if one.text != other.text]
        if not different:
            return None
        if self.ask == "random":
            one, other = different[0]
        else:
            choose = min if self.ask == "unsure" else max
            one, other = choose(different, key=lambda two: abs((two[0].score or 0.0) - (two[1].score or 0.0)))
        odds = self.rewards.log_odds_per_unit if self.rewards else None
        return Pair(prompt, one, other, self.ask, guess_of(one, other, odds))


def _answer(sample: Sample, origin: Origin) -> Answer:
    return Answer(sample.response, sample.finished, origin, sample.score, sample.parts, sample.spans)
