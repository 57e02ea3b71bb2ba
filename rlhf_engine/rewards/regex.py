"""A reward for what a regular expression finds in a response."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_engine.config.verifiable import RegexRewardConfig
from rlhf_engine.errors import RewardError
from rlhf_engine.events import Span
from rlhf_engine.patterns import SlowPatternError, all_matches, compiled, first_match, slow
from rlhf_engine.rewards.base import Score


class RegexReward:
    """found_score once or for each match, missing_score where there is none. Parts: found, missing. Told besides:
    match_rate, the share of responses with a match.

    Of matches that each count those of no characters are not counted, and none overlap.
    """

    def __init__(self, config: RegexRewardConfig) -> None:
        self.name, self._config = config.name, config
        self._pattern = compiled(config.pattern, ignore_case=config.ignore_case, dotall=config.dotall,
                                 multiline=config.multiline)

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        """One Score per response, with a Span for each match that counts; the prompts do not matter.

        Raises RewardError when the pattern takes too long for one of them: what it would have found is not known, and
        on a faster machine it might have been.
        """
        return [self._score_one(response) for response in responses]

    def _score_one(self, response: str) -> Score:
        config = self._config
        try:
            found = self._found(response)
        except SlowPatternError:
            raise RewardError(slow(self.name, config.pattern, response)) from None
        parts = {"found": config.found_score * len(found), "missing": 0.0 if found else config.missing_score}
        kind = "rewarded" if config.found_score * config.weight >= 0 else "penalized"
        spans = tuple(Span(start, end, kind) for start, end in found if start < end)
        return Score(sum(parts.values()), parts, spans, {"match_rate": float(bool(found))})

    def _found(self, response: str) -> list[tuple[int, int]]:
        """Where the matches stand that count."""
        config = self._config
        if config.match == "full":
            inner = response.strip()
            before = response.index(inner)
            return [(before, before + len(inner))] if first_match(self._pattern, inner, whole=True) else []
        if config.count == "once":
            match = first_match(self._pattern, response)
            return [match.span()] if match else []
        each = [match.span() for match in all_matches(self._pattern, response) if match.end() > match.start()]
        return each[:config.most_matches]
