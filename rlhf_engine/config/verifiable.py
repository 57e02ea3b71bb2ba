"""The settings of rewards that check a response: against a regular expression, or against the right answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from rlhf_engine.config.rewards import RewardSection, reward_name
from rlhf_engine.config.section import COUNT, setting
from rlhf_engine.patterns import LONGEST, compiled

Extractor = Literal["last_number", "boxed", "hashes", "answer_tag", "first_line", "last_line", "whole", "pattern"]
_EXTRACTORS = ("last_number, boxed (the last \\boxed{…}), hashes (what follows ####), answer_tag (<answer>…</answer>), "
               "first_line, last_line, whole")


def _score(default: float, help: str) -> Any:
    return setting(default, help, unit="score", live=True, ge=-1000, le=1000)


class RegexRewardConfig(RewardSection):
    """Points for a response that a regular expression matches, or for each of its matches."""

    kind: Literal["regex"] = "regex"
    name: str = reward_name("regex")
    pattern: str = setting(..., "regular expression, in the syntax of Python's re", live=True, min_length=1,
                           max_length=LONGEST, allowed=f"a regular expression of at most {LONGEST:,} characters")
    match: Literal["search", "full"] = setting("search", "search: somewhere in the response; full: the whole response, "
                                               "without the space around it", live=True)
    count: Literal["once", "each"] = setting("once", "found_score once, or for each match (search alone)", live=True)
    most_matches: int | None = setting(
        None, "matches beyond these earn nothing, if each counts: a brake against repeating what earns; none is off",
        unit="matches", live=True, ge=1, le=COUNT, label="max matches")
    found_score: float = _score(1.0, "for a match")
    missing_score: float = _score(0.0, "for a response without any match")
    ignore_case: bool = setting(False, "letters match whatever their case (re.IGNORECASE)", live=True)
    dotall: bool = setting(False, "a dot matches line ends, too (re.DOTALL)", live=True)
    multiline: bool = setting(False, "^ and $ match at every line (re.MULTILINE)", live=True)

    @model_validator(mode="after")
    def _pattern_is_one(self) -> RegexRewardConfig:
        compiled(self.pattern, ignore_case=self.ignore_case, dotall=self.dotall, multiline=self.multiline)
        return self


class AnswerRewardConfig(RewardSection):
    """Points for the right answer: one is read out of the response, and held against a column of the data."""

    kind: Literal["answer"] = "answer"
    name: str = reward_name("answer")
    column: str = setting("answer", "column of data.source with the right answer: a text, a number, or a list of "
                          "several that are right", min_length=1, max_length=1_000)
    extract: Extractor = setting("last_number", f"what of a response is its answer: {_EXTRACTORS}; or pattern",
                                 live=True)
    pattern: str | None = setting(
        None, "for extract = pattern: a regular expression whose first group (or all of it) is the answer; its last "
        "match counts", live=True, min_length=1, max_length=LONGEST,
        allowed=f"a regular expression of at most {LONGEST:,} characters")
    column_extract: Extractor = setting(
        "whole", "what of the column is the right answer, in the same words: hashes for GSM8K, boxed for MATH",
        live=True, label="extract of column")
    compare: Literal["number", "text"] = setting(
        "number", "number: 1,000 = 1000.0 = 10³ written any way, and 1/2 = 0.5; text: letter by letter, but for what "
        "is ignored below", live=True)
    tolerance: float = setting(0.0, "numbers that differ by this much are equal, too", live=True, ge=0, le=1e12)
    separator: str | None = setting(None, "text between several right answers in one column, such as |; none is off",
                                    live=True, min_length=1, max_length=10)
    ignore_case: bool = setting(True, "of texts: a is A", live=True)
    ignore_punctuation: bool = setting(True, "of texts: punctuation and symbols do not count", live=True)
    ignore_spaces: bool = setting(False, "of texts: spaces do not count at all; else any run of them is one, and none "
                                  "counts at the ends", live=True)
    right_score: float = _score(1.0, "for the right answer")
    wrong_score: float = _score(0.0, "for another one")
    no_answer_score: float = _score(0.0, "for a response in which no answer is found")

    @model_validator(mode="after")
    def _pattern_is_there(self) -> AnswerRewardConfig:
        if self.pattern is not None:
            compiled(self.pattern)
        elif "pattern" in (self.extract, self.column_extract):
            raise ValueError("extract = pattern needs a pattern: set that first")
        return self
