"""Judgements as plain pairs, as other programs want them: no more than prompt, chosen and rejected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.models.chat import messages_of


def plain_rows(judgements: Iterable[Judgement], *, ties: bool, conversational: bool) -> list[dict[str, Any]]:
    """A row for each pair with a winner, in order; with `ties` also for those without one, and a column `tie`.

    conversational: prompt, chosen and rejected are lists of messages, each with a role and a content, rather than
    texts.
    """
    rows: list[dict[str, Any]] = []
    for judgement in judgements:
        if not (judgement.decided or (ties and judgement.tie)):
            continue
        prompt, texts = judgement.pair.prompt, (judgement.chosen.text, judgement.rejected.text)
        told: dict[str, Any] = {"prompt": prompt, "chosen": texts[0], "rejected": texts[1]}
        if conversational:
            chosen, rejected = ([{"role": "assistant", "content": text}] for text in texts)
            told = {"prompt": messages_of(prompt), "chosen": chosen, "rejected": rejected}
        rows.append(told | {"tie": judgement.tie} if ties else told)
    return rows
