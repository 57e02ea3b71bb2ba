"""The prompts of a config as lines of a list, and what a change of one line changes in the settings. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.preview import ShownRow
from rlhf_engine.data.rows import read_rows

Changes = dict[str, Any]
"""path -> value"""


@dataclass(frozen=True)
class PromptLine:
    """One prompt. place: where it stands, from 0, in `data.prompts` or the source; None: in `data.held_out` alone.
    held_out: by which setting, if at all."""

    text: str
    place: int | None
    held_out: Literal["", "listed", "share"] = ""


def lines_of_lists(config: RunConfig) -> list[PromptLine]:
    """The prompts of the settings, and below them those that are held out and stand nowhere else."""
    by_share = read_rows(config).by_share if config.data.held_out_share else frozenset()
    return _lines(config.data.prompts, by_share, config.data)


def lines_of_rows(rows: Sequence[ShownRow], data: DataConfig) -> list[PromptLine]:
    """The first rows of a source, and below them the prompts that `data.held_out` names besides."""
    return _lines([row.text for row in rows], {row.text for row in rows if row.by_share}, data)


def _lines(texts: Sequence[str], by_share: Collection[str], data: DataConfig) -> list[PromptLine]:
    listed, there = set(data.held_out), set(texts)

    def mark(text: str) -> Literal["", "listed", "share"]:
        return "listed" if text in listed else "share" if text in by_share else ""

    alone = [text for text in dict.fromkeys(data.held_out) if text not in there]
    return [*(PromptLine(text, place, mark(text)) for place, text in enumerate(texts)),
            *(PromptLine(text, None, "listed") for text in alone)]


# --- what a change of one line changes ---


def rewritten(data: DataConfig, line: PromptLine, text: str) -> Changes:
    """The line says `text`; what is held out stays so. One whose place is behind the last is a new one."""
    changes: Changes = {}
    prompts = data.prompts
    if line.place is not None:
        prompts = [*prompts[:line.place], text, *prompts[line.place + 1:]]
        changes["data.prompts"] = prompts
    if line.held_out == "listed":
        changes["data.held_out"] = ([*data.held_out, text] if line.text in prompts else
                                    [text if held == line.text else held for held in data.held_out])
    return changes


def removed(data: DataConfig, line: PromptLine) -> Changes:
    """The line is gone, with the responses of its pair."""
    changes: Changes = {}
    prompts = data.prompts
    if line.place is not None:
        for name in ("prompts", "chosen", "rejected"):
            if texts := getattr(data, name):
                changes[f"data.{name}"] = [*texts[:line.place], *texts[line.place + 1:]]
        prompts = changes["data.prompts"]
    if line.held_out == "listed" and line.text not in prompts:
        changes |= _not_listed(data, line)
    return changes


def held_out(data: DataConfig, line: PromptLine) -> Changes:
    """The prompt is held out."""
    return {"data.held_out": [*data.held_out, line.text]}


def trained_on(data: DataConfig, line: PromptLine) -> Changes:
    """The prompt is held out no more; one that stands in no list is one of the prompts then, if those are learnt from.
    """
    if line.place is None and data.source is None:
        return {**_not_listed(data, line), "data.prompts": [*data.prompts, line.text]}
    return _not_listed(data, line)


def _not_listed(data: DataConfig, line: PromptLine) -> Changes:
    return {"data.held_out": [text for text in data.held_out if text != line.text]}


def of_source(data: DataConfig, source: str | None) -> Changes:
    """Rows come from there; None: from the lists. What a run wrote down about another source, or about this one as it
    was, does not count any more."""
    changes: Changes = {"data.source": source, "data.sha256": None}
    if source != data.source:
        changes["data.revision"] = None
    return changes
