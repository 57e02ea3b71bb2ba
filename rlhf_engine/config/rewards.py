"""The settings of each kind of reward, told apart by `kind`; which kinds there are: `config.kinds`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from rlhf_engine.config.section import COUNT, MOST_LETTERS, Section, Word, setting
from rlhf_engine.errors import short
from rlhf_engine.files.text_files import looks_like_file
from rlhf_engine.words import words_of

MOST_WORDS = 100_000
_WORDS = "a list of words or phrases, or @ and the name of a file with one a line"
REWARD_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,31}$"


def reward_name(default: Any) -> Any:
    """The field of a reward's name."""
    return setting(default, "short name, used in metrics as rewards/<name>/mean", pattern=REWARD_NAME,
                   allowed="a name of at most 32 letters, digits, - and _ that begins with a letter")


class RewardSection(Section):
    """What every reward has: a kind, a name for metrics, and a weight in the sum. One of another package gives `kind`
    and `name` a default, and says what it is made by."""

    kind: str

    implementation: ClassVar[str] = ""
    """module:Class of the `rewards.base.Reward`, imported when something is scored, and made with these settings."""

    name: str = reward_name(...)
    weight: float = setting(1.0, "factor in the sum of rewards", live=True, ge=-1000, le=1000)


class WordListRewardConfig(RewardSection):
    """A bonus for liked words, a penalty for disliked ones, and penalties against reward hacking."""

    kind: Literal["word_list"] = "word_list"
    name: str = reward_name("words")
    liked: list[Word] = setting([], f"words or phrases that earn liked_bonus each time; at most {MOST_WORDS:,}",
                                live=True, allowed=_WORDS, max_length=MOST_WORDS, fail_fast=True)
    disliked: list[Word] = setting([], f"words or phrases that cost disliked_penalty each time; at most {MOST_WORDS:,}",
                                   live=True, allowed=_WORDS, max_length=MOST_WORDS, fail_fast=True)
    liked_bonus: float = setting(1.2, "per liked word", unit="score", live=True, ge=0, le=1000,
                                 label="bonus per liked word")
    disliked_penalty: float = setting(0.8, "per disliked word", unit="score", live=True, ge=0, le=1000,
                                      label="penalty per disliked")
    distinct_bonus: float = setting(0.5, "per different liked word", unit="score", live=True, ge=0, le=1000,
                                    label="distinct bonus")
    short_penalty: float = setting(1.0, "once, for a response of short_words words or fewer", unit="score", live=True,
                                   ge=0, le=1000, label="penalty if shorter")
    short_words: int = setting(4, "longest response that gets short_penalty", unit="words", live=True, ge=0, le=COUNT,
                               label="short: max words")
    excess_penalty: float = setting(0.5, "per liked word above max(excess_min, excess_share · words)", unit="score",
                                    live=True, ge=0, le=1000, label="excess penalty")
    excess_min: int = setting(5, "number of liked words that are never in excess", unit="words", live=True, ge=0,
                              le=COUNT, label="excess above")
    excess_share: float = setting(0.15, "max density: liked words per word of the response before they are in excess",
                                  live=True, ge=0, le=1, label="max density")
    repeat_penalty: float = setting(0.0, "per use of one liked word beyond repeat_limit", unit="score", live=True, ge=0,
                                    le=1000, label="repeat penalty")
    repeat_limit: int = setting(4, "free repeats: uses of one liked word before repeat_penalty applies", unit="words",
                              live=True, ge=1, le=COUNT, label="free repeats")
    adjacent_penalty: float = setting(0.0, "per pair of adjacent liked words (bare lists)", unit="score", live=True,
                                      ge=0, le=1000, label="adjacent penalty")

    @model_validator(mode="after")
    def _lists_are_apart(self) -> WordListRewardConfig:
        entries = {text: " ".join(words_of(text)) for text in (*self.liked, *self.disliked)
                   if text.strip()}
        if not entries:
            raise ValueError("liked and disliked are both empty: nothing would be rewarded")
        if wordless := [text for text, words in entries.items() if not words]:
            raise ValueError(f"{short(repr(wordless[0]))} has no letter, digit or emoji, so no word can ever match it")
        if files := [text for text in entries if looks_like_file(text)]:
            name = files[0].strip().removeprefix("@")
            raise ValueError(f"{files[0]!r} in a list would be looked for as words; a list that stands in a file is "
                             f'written "@{name}" in place of the list')
        liked, disliked = ({entries[text] for text in words if text in entries}
                           for words in (self.liked, self.disliked))
        if both := sorted(liked & disliked):
            more = f" and {len(both) - 10:,} more" if len(both) > 10 else ""
            raise ValueError(f"in both liked and disliked: {', '.join(map(short, both[:10]))}{more}")
        return self


class LengthRewardConfig(RewardSection):
    """A penalty for responses outside a range of lengths, in words."""

    kind: Literal["length"] = "length"
    name: str = reward_name("length")
    min_words: int = setting(
        0, "shorter responses get penalty_per_word for each missing word", unit="words", live=True, ge=0, le=COUNT
    )
    max_words: int | None = setting(None, "longer responses get it for each word too many; none is off", unit="words",
                                    live=True, ge=0, le=COUNT)
    penalty_per_word: float = setting(0.1, "per word outside the range", unit="score", live=True, ge=0, le=1000,
                                      label="penalty per word")
    max_penalty: float = setting(5.0, "the largest penalty of a response", unit="score", live=True, ge=0, le=1000,
                                 label="max penalty")

    @model_validator(mode="after")
    def _range_is_a_range(self) -> LengthRewardConfig:
        if self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(f"max_words {self.max_words} is below min_words {self.min_words}")
        return self


class FunctionRewardConfig(RewardSection):
    """A Python function of your own: prompts and responses in, one score for each response out."""

    kind: Literal["function"] = "function"
    name: str = reward_name("function")
    function: str = setting(
        ..., "file.py:function, called with the list of prompts and the list of responses",
        pattern=r"^[^\x00\n]+\.py:[A-Za-z_][A-Za-z0-9_]*$", max_length=MOST_LETTERS,
        allowed="a path and a name such as rewards.py:score",
    )
    sha256: str | None = setting(
        None, "digest of the file, recorded when a run starts; resuming asks first if the file has changed",
        pattern="^[0-9a-f]{64}$", allowed="64 hexadecimal digits",
    )

