"""Which stretch of a response each of its tokens stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

Decode = Callable[[Sequence[int]], str]
"""ids -> text"""

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_LONGEST_SPELLING = 4  # bytes of one character in UTF-8


def token_texts(ids: Sequence[int], response: str, decode: Decode) -> tuple[str, ...]:
    """What each token adds to the text; joined they are `response`, which must be `decode(ids)`.

    Special tokens add nothing. The bytes of one character can be spread over several tokens: it stands with the last.
    """
    alone = [decode([token]) for token in ids]
    if "".join(alone) == response:
        return tuple(alone)
    # slices of the response, so that they join to it whatever a tokenizer does at its seams
    ends = [min(end, len(response)) for end in accumulate(map(len, _additions(ids, decode)))]
    ends[-1:] = [len(response)] * bool(ends)
    return tuple(response[start:end] for start, end in pairwise([0, *ends]))


def _additions(ids: Sequence[int], decode: Decode) -> list[str]:
    """Each token's addition, decoded behind the tokens of the addition before it: many tokenizers drop a space in front
    of the first word they are given."""
    added: list[str] = []
    before = start = 0
    for end in range(1, len(ids) + 1):
        known, text = decode(list(ids[before:start])), decode(list(ids[before:end]))
        spelt_out = not text.endswith(_INCOMPLETE) or end - start >= _LONGEST_SPELLING
        if len(text) > len(known) and spelt_out:
            added.append(text[len(known):])
            before, start = start, end
        else:
            added.append("")
    return added
