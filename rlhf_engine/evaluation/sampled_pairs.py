"""Preferences made here: several answers to each prompt, of which a reward says the best and the worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.prompt_order import rows_for_step
from rlhf_engine.data.rows import Rows
from rlhf_engine.errors import ConfigError
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.events import Sample
from rlhf_engine.maths.groups import best_and_worst, equal_groups
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.rewards.composite import RewardSum

_AT_ONCE = 64  # responses
_MOST_VAIN = 50  # groups in a row that give no pair


@dataclass(frozen=True)
class SampledPair:
    """The best and the worst of some answers to one prompt. As a row of a file: what `data.source` reads, with the
    scores and whether each answer came to its end."""

    prompt: str
    chosen: Sample
    rejected: Sample

    def row(self) -> dict[str, object]:
        """For JSON."""
        return {
            "prompt": self.prompt, "chosen": self.chosen.response, "rejected": self.rejected.response,
            "chosen_score": self.chosen.score, "rejected_score": self.rejected.score,
            "chosen_finished": self.chosen.finished, "rejected_finished": self.rejected.finished,
        }


def sample_pairs(
    policy: Policy,
    config: RunConfig,
    rows: Rows,
    rewards: RewardSum,
    *,
    tuned: bool,
    count: int,
    responses: int,
    seed: int,
    tell: Callable[[int, int], None] = lambda found, groups: None,
) -> Iterator[SampledPair]:
    """`count` pairs, each of `responses` answers to one of the prompts of `rows`, by the actor (`tuned`) or the
    reference under `config.sampling`. Prompts come in shuffled order, again and again.

    Answers that all score the same are no pair, and others are sampled in their place. tell: takes the pairs and the
    prompts so far. Raises ConfigError when too many in a row are none, or there is no prompt to answer.
    """
    asked = rows.take(at for at, prompt in enumerate(rows.prompts) if prompt or rows.kind == "prompts")
    if not len(asked):
        raise ConfigError("data.prompts: there is no prompt to answer")
    together = max(1, _AT_ONCE // responses)
    decoder = PreparedDecoder(policy) if tuned else None
    found = groups = vain = 0
    while found < count:
        places = rows_for_step(len(asked), groups // together, together, seed)
        part = asked.take(place for place in places for _ in range(responses))
        samples = answer(policy, part.prompts, config.sampling, tuned=tuned, seed=(seed + groups) % 2**63,
                         rewards=rewards, decoder=decoder, columns=part.columns)
        groups += together
        for best, worst in _places(samples, responses):
            if best is None or worst is None:
                vain += 1
                continue
            vain, found = 0, found + 1
            yield SampledPair(samples[best].prompt, samples[best], samples[worst])
            if found == count:
                break
        tell(found, groups)
        if vain >= _MOST_VAIN:
            raise ConfigError(f"rewards: {vain} prompts in a row had {responses} responses with equal scores, of which "
                              "none is better; a finer reward, more responses or a higher sampling.temperature would "
                              "tell them apart")


def _places(samples: list[Sample], size: int) -> Iterator[tuple[int | None, int | None]]:
    scores = torch.tensor([sample.score for sample in samples], dtype=torch.float64)
    best, worst = best_and_worst(scores, size)
    for one, other, equal in zip(best.tolist(), worst.tolist(), equal_groups(scores, size).tolist(), strict=True):
        yield (None, None) if equal else (one, other)
