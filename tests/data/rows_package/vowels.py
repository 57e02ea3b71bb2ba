"""A reward of one's own, described: points for vowels. Imported wherever presets are read, so without torch."""

from typing import ClassVar, Literal

from rlhf_engine.config.rewards import RewardSection, reward_name
from rlhf_engine.config.section import setting


class VowelRewardConfig(RewardSection):
    """Points for each vowel of a response."""

    implementation: ClassVar = "vowels_reward:VowelReward"

    kind: Literal["vowels"] = "vowels"
    name: str = reward_name("vowels")
    per_vowel: float = setting(0.1, "for each vowel", unit="score", live=True, ge=0, le=100)
    vowels: list[str] = setting(["a", "e", "i", "o", "u"], "the letters that count", live=True, min_length=1)
