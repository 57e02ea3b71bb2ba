"""A reward for the right answer: a verifiable reward, as reasoning models are trained with."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

from rlhf_engine.config.verifiable import AnswerRewardConfig
from rlhf_engine.errors import ConfigError, RewardError, first_line, short
from rlhf_engine.events import Span
from rlhf_engine.patterns import SlowPatternError, slow
from rlhf_engine.rewards.base import Columns, Score
from rlhf_engine.rewards.extract import extract
from rlhf_engine.rewards.numbers import read_number

IsRight = Callable[[str], bool]


class AnswerReward:
    """right_score, wrong_score or no_answer_score. Parts: right, wrong, no_answer. Told besides: accuracy, the share of
    responses whose answer is right, and no_answer, the share of those in which none is found.

    It does not apply to prompts that are no rows of the data: nobody knows the right answer to them.
    """

    def __init__(self, config: AnswerRewardConfig) -> None:
        self.name, self._config = config.name, config

    def require_rows(self, prompts: Sequence[str], columns: Columns) -> None:
        """Raises ConfigError, one sentence, where a row has no right answer to hold a response against."""
        for prompt, value in zip(prompts, self._column(columns, len(prompts)), strict=True):
            try:
                self._checks(value)
            except ValueError as error:
                raise ConfigError(f"the reward {self.name!r}: the row of the prompt {short(repr(prompt), 60)} has no "
                                  f"right answer in its column {self._config.column!r}: {first_line(error)}") from None

    def score(
        self, prompts: Sequence[str], responses: Sequence[str], columns: Columns | None = None
    ) -> list[Score | None]:
        """One Score per response, its answer a Span; None where the right answer is not known. Raises RewardError where
        the data lacks the column, or a pattern takes too long."""
        if columns is None:
            return [None] * len(responses)
        try:
            values = self._column(columns, len(responses))
        except ConfigError as error:
            raise RewardError(str(error)) from None
        return [None if value is None else self._score_one(response, value)
                for response, value in zip(responses, values, strict=True)]

    def _score_one(self, response: str, value: Any) -> Score:
        config = self._config
        try:
            answer, checks = extract(response, config.extract, config.pattern), self._checks(value)
        except SlowPatternError:
            raise RewardError(slow(self.name, config.pattern or "", response)) from None
        except ValueError as error:
            raise RewardError(f"Reward {self.name!r}: a row has no right answer in its column {config.column!r}: "
                              f"{first_line(error)}.") from None
        right = answer is not None and any(is_right(answer.text) for is_right in checks)
        parts = {"right": config.right_score * right, "wrong": config.wrong_score * (answer is not None and not right),
                 "no_answer": config.no_answer_score * (answer is None)}
        spans = (Span(answer.start, answer.end, "right" if right else "wrong"),) if answer else ()
        return Score(sum(parts.values()), parts, spans,
                     {"accuracy": float(right), "no_answer": float(answer is None)})

    # --- the right answer ---

    def _column(self, columns: Columns, rows: int) -> Sequence[Any]:
        if self._config.column in columns:
            return columns[self._config.column]
        there = ", ".join(columns)
        which = f"the data has no such column, but {short(there, 200)}" if there else \
            "the prompts stand in a list, or in a file without other columns; data.source names rows that have some"
        raise ConfigError(f"the reward {self.name!r} holds responses against the column {self._config.column!r}: "
                          f"{which}")

    def _checks(self, value: Any) -> list[IsRight]:
        """Of each answer that is right, what tells whether another one is equal. Raises ValueError where `value` holds
        none."""
        checks = [self._equal_to(text) for text in self._right_answers(value)]
        if not checks:
            raise ValueError("it is empty")
        return checks

    def _right_answers(self, value: Any) -> Iterator[str]:
        config = self._config
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is None or isinstance(one, dict | list):
                raise ValueError("nothing stands there" if one is None else f"{short(repr(one), 60)} is no text")
            try:
                text = one if isinstance(one, str) else str(one)
            except ValueError:  # more digits than Python writes
                raise ValueError("it is a number of thousands of digits") from None
            try:
                answer = extract(text, config.column_extract, config.pattern)
            except SlowPatternError:
                raise ValueError("the pattern takes too long for it") from None
            if answer is None:
                raise ValueError(f"there is none in {short(repr(text), 60)} (column_extract is "
                                 f"{config.column_extract})")
            parts = answer.text.split(config.separator) if config.separator else [answer.text]
            yield from (part.strip() for part in parts if part.strip())

    def _equal_to(self, text: str) -> IsRight:
        config = self._config
        if config.compare == "text":
            normal = self._normal(text)
            if not normal:
                raise ValueError(f"nothing is left of {short(repr(text), 60)} without what is ignored")
            return lambda answer: self._normal(answer) == normal
        number, tolerance = read_number(text), Fraction(str(config.tolerance))  # 0.3 as it is written
        if number is None:
            raise ValueError(f"{short(repr(text), 60)} is no number (compare is number; text compares letter by "
                             "letter)")
        known: Fraction = number

        def is_right(answer: str) -> bool:
            found = read_number(answer)
            return found is not None and abs(found - known) <= tolerance

        return is_right

    def _normal(self, text: str) -> str:
        """The text without what does not count; equal texts are the same answer."""
        config = self._config
        text = unicodedata.normalize("NFKC", text)
        text = text.casefold() if config.ignore_case else text
        if config.ignore_punctuation:
            text = "".join(" " if unicodedata.category(letter)[0] in "PS" else letter for letter in text)
        return ("" if config.ignore_spaces else " ").join(text.split())
