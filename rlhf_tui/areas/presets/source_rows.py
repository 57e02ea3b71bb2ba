"""The rows of a source of data, read beside the screen: its disk may be slow, or never answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from textual.dom import DOMNode

from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.preview import Preview, look_at_source
from rlhf_tui.background import run_in_background

MOST = 500  # rows that are shown


class SourceRows:
    """What the source of a config holds, as far as it is known; `show` is called when more is."""

    def __init__(self, node: DOMNode, show: Callable[[], object]) -> None:
        self._node, self._show = node, show
        self._data: DataConfig | None = None
        self.preview: Preview | None = None
        self.problem = ""
        """In a sentence, why it cannot be read."""
        self.state = ""
        """Where the reading stands, in a few words; empty once there are rows."""

    def read(self, config: RunConfig, *, again: bool = False) -> None:
        """Read what the config names, unless that was read. Rows of the same source stay until they are read anew."""
        if config.data == self._data and not again:
            return
        if self._data is None or self._data.source != config.data.source:
            self.preview = None
        self._data, self.problem, self.state = config.data, "", "reading…"
        run_in_background(self._node, partial(look_at_source, config, MOST), partial(self._found, config.data),
                          partial(self._failed, config.data), "source")

    def _found(self, data: DataConfig, preview: Preview | None) -> None:
        if data == self._data:
            self.preview = preview
            self.state = "" if preview else "a dataset of the hub, which is read when a run starts"
            self._show()

    def _failed(self, data: DataConfig, why: str) -> None:
        if data == self._data:
            self.preview, self.problem, self.state = None, why, "not read"
            self._show()

    def facts(self, data: DataConfig) -> str:
        """Where the rows come from, and what there is to say of them."""
        parts = [f"from data.source {data.source}"]
        if self.preview is not None:
            count, shown = self.preview.rows, len(self.preview.first)
            parts.append(f"the first {shown:,} of {count:,} rows" if shown < count else "all rows")
            if self.preview.columns:
                parts.append(f"other columns: {', '.join(self.preview.columns)}")
        return " · ".join([*parts, *filter(None, [self.state])])

    def warning(self, data: DataConfig) -> str:
        """What stands in the way of a start with these rows; empty if nothing does."""
        if self.problem:
            return self.problem
        if self.preview is not None and data.sha256 not in (None, self.preview.sha256):
            return "it has changed since its SHA-256 was taken: a new run asks for s and Enter, which takes it as it is"
        return ""
