"""How `vowels` scores."""

from collections.abc import Sequence

from vowels import VowelRewardConfig

from rlhf_engine.rewards.base import Score


class VowelReward:
    """See `rlhf_engine.rewards.base.Reward`."""

    def __init__(self, config: VowelRewardConfig) -> None:
        self.name, self.config = config.name, config

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score | None]:
        counts = [sum(letter in self.config.vowels for letter in response) for response in responses]
        return [Score(self.config.per_vowel * count, {}) for count in counts]
