"""A run's metrics from its file as the charts keep them. Takes a second for 100,000 steps: not for the screen's thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from rlhf_engine.errors import RunError
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.runs.run_columns import Columns, read_columns
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import METRICS
from rlhf_tui.engine.metrics_history import MetricsHistory
from rlhf_tui.terminal.clean_text import clean_line

OF_REWARDS = "rewards/"
"""Metrics of single rewards: no number there says that none of the step's responses is one for that reward."""
_BREATH_SECONDS = 0.0005  # between two portions: whoever waits for Python meanwhile gets it at once


class Past:
    """Gathers metrics under names that may be shown, and lets the screen's thread have its turn now and then."""

    def __init__(self) -> None:
        self.history = MetricsHistory()

    def extend(self, columns: Columns) -> None:
        """Take in many steps."""
        self.history.extend(clean_columns(columns))
        time.sleep(_BREATH_SECONDS)


def read_history(run_dir: RunDir, last: int | None = None) -> MetricsHistory:
    """The metrics of a run, up to the step `last` if one is given. Raises RunError when they cannot be read."""
    past = Past()
    try:
        for columns in read_columns(run_dir.path / METRICS):
            past.extend(columns if last is None else columns.until(last))
    except OSError as error:
        raise RunError(f"{run_dir.path / METRICS} could not be read: {os_error_reason(error)}.") from error
    return past.history


def clean_columns(columns: Columns) -> Columns:
    """The columns under names that may be shown."""
    return replace(columns, values={clean_name(name): values for name, values in columns.values.items()},
                   not_finite={clean_name(name): step for name, step in columns.not_finite.items()
                               if not name.startswith(OF_REWARDS)})


def clean_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """A step's metrics under names that may be shown."""
    return {clean_name(name): float(value) for name, value in metrics.items()
            if not (name.startswith(OF_REWARDS) and math.isnan(value))}


@lru_cache(maxsize=1024)
def clean_name(name: str) -> str:
    """The name of a metric, fit to be shown."""
    return clean_line(name)
