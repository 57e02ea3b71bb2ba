"""What a source of data holds, for people who look at it before, or without, training on it."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import read_rows
from rlhf_engine.data.tables import only_on_hub


@dataclass(frozen=True)
class ShownRow:
    """One row: its prompt, or its text where it has none, and whether it is held out."""

    text: str
    held_out: bool = False


@dataclass(frozen=True)
class Preview:
    """first: the first rows of the source in its order. rows, held_out: how many there are in all, and how many of
    these are held out. columns: names of the columns that rewards may ask for. sha256: of what was read."""

    source: str
    first: tuple[ShownRow, ...]
    rows: int
    held_out: int
    columns: tuple[str, ...]
    sha256: str


def look_at_source(config: RunConfig, most: int) -> Preview | None:
    """The first `most` rows of `data.source`. None where that could only be had from the hub, which is not asked just
    for a look. Reads all of the source, so it takes a while. Raises ConfigError, one sentence, for what cannot be read.
    """
    data = config.data
    assert data.source is not None
    if only_on_hub(data):
        return None
    found = read_rows(config)
    assert found.sha256 is not None
    out = found.by_share | set(data.held_out)
    first = tuple(ShownRow(key, key in out) for key in found.keys[:most])
    return Preview(data.source, first, len(found.keys), sum(key in out for key in found.keys),
                   tuple(found.rows.columns), found.sha256)
