"""All pairs of a run, measured before the first step: those that do not fit are left out as pairs, never cut, for a cut
side would be preferred, or not, for where it ends."""

from __future__ import annotations

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PairBatch
from rlhf_engine.data.rows import Rows
from rlhf_engine.errors import ConfigError, PromptError
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.written import written_ids

_AT_ONCE = 1024


def whole_pairs(policy: Policy, config: RunConfig, rows: Rows, *, required: bool = True) -> tuple[Rows, str]:
    """The pairs whose prompt fits with either response into the model's context and `algorithm.max_length`, and have a
    token in both; with them one sentence about the others (empty: there are none).

    Raises ConfigError for what the tokenizer cannot read, and, if some are `required`, where none is left.
    """
    longest = min(config.algorithm.longest_pair or policy.max_positions or 0,
                  policy.max_positions or config.algorithm.longest_pair or 0)
    kept: list[int] = []
    too_long = 0
    for first in range(0, len(rows), _AT_ONCE):
        places = range(first, min(first + _AT_ONCE, len(rows)))
        batch = rows.batch(places)
        assert isinstance(batch, PairBatch)
        ended = [done and appends_end(config) for side in batch.ended for done in side]
        try:
            ids = written_ids(policy, batch.prompts * 2, [*batch.chosen, *batch.rejected], ended)
        except PromptError as error:
            raise ConfigError(f"data: {error}") from None
        for place, one, other in zip(places, ids[:len(places)], ids[len(places):], strict=True):
            lengths = [len(prompt) + len(response) for prompt, response in (one, other)]
            too_long += max(lengths) > longest
            if max(lengths) <= longest and one[1] and other[1]:
                kept.append(place)
    if len(kept) == len(rows):
        return rows, ""
    empty = len(rows) - len(kept) - too_long
    why = [f"{too_long} have more than {longest} tokens with their prompt"] * bool(too_long)
    why += [f"{empty} have a response without any token"] * bool(empty)
    said = f"{len(rows) - len(kept)} of {len(rows)} pairs are left out, whole: {', '.join(why)}"
    if not kept and required:
        raise ConfigError(f"data: {said}; none is left to learn from")
    return rows.take(kept), said


def appends_end(config: RunConfig) -> bool:
    """Whether responses that are all there are end with an end token."""
    return bool(getattr(config.algorithm, "append_end", True))
