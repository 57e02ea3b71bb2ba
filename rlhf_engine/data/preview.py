"""What a source of data holds, for people who look at it before, or without, training on it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import read_rows
from rlhf_engine.data.tables import only_on_hub
from rlhf_engine.errors import ConfigError


@dataclass(frozen=True)
class ShownRow:
    """One row: its prompt, or its text where it has none. by_share: it is held out by `data.held_out_share`."""

    text: str
    by_share: bool = False


@dataclass(frozen=True)
class Preview:
    """first: the first rows of the source in its order. rows: how many there are in all. held_out: how many rows are
    held out, and prompts besides. columns: names of those that rewards may ask for. sha256: of what was read. missing:
    how many of the texts that were looked for are none of the rows."""

    first: tuple[ShownRow, ...]
    rows: int
    held_out: int
    columns: tuple[str, ...]
    sha256: str
    missing: int = 0


def look_at_source(config: RunConfig, most: int, look_for: Collection[str] = ()) -> Preview | None:
    """The first `most` rows of `data.source`, and whether the texts to `look_for` are among all of them. None where
    that could only be had from the hub, which is not asked just for a look. Reads all of the source, so it takes a
    while. Raises ConfigError, one sentence, for what cannot be read."""
    if only_on_hub(config.data):
        return None
    found = read_rows(config)
    assert found.sha256 is not None
    listed, there = set(config.data.held_out), set(found.keys)
    held_out = sum(key in found.by_share or key in listed for key in found.keys) + len(listed - there)
    first = tuple(ShownRow(key, key in found.by_share) for key in found.keys[:most])
    return Preview(first, len(found.keys), held_out, tuple(found.rows.columns), found.sha256,
                   len(set(look_for) - there))


def lists_of_source(config: RunConfig) -> dict[str, list[str]]:
    """The texts of `data.source` as the lists of settings that hold the same, by path; other columns have no place in
    lists. Reads all of it. Raises ConfigError, one sentence, for what cannot be read, or be lists."""
    rows = read_rows(config).rows
    if rows.kind != "texts":
        return {f"data.{name}": texts for name, texts in rows.texts.items()}
    if any(rows.prompts):
        raise ConfigError("data.source: its rows are prompts with responses, and lists in the settings hold whole "
                          "texts alone")
    return {"data.texts": rows.texts["responses"]}
