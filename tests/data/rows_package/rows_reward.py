"""How `vowels` scores."""

from __future__ import annotations

from collections.abc import Sequence

from learns_from_rows import VowelRewardConfig

from rlhf_engine.rewards.base import Score


class VowelReward:
    """See `rlhf_engine.rewards.base.Reward`."""

    def __init__(self, config: VowelRewardConfig) -> None:
        self.name, self._config = config.name, config

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score | None]:
        return [Score(self._config.per_vowel * sum(letter in self._config.vowels for letter in response), {})
                for response in responses]
