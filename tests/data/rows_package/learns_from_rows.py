"""Two methods of another package: one learns from texts, the other one from pairs and answers nothing.

Imported wherever presets are read, so without torch; the learning is in `rows_learner`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf_engine.config.methods.base import AlgorithmConfig, Needs
from rlhf_engine.config.section import setting
from rlhf_engine.metrics import Metric, named


class _LearnsFromRows(AlgorithmConfig):
    """Both."""

    implementation: ClassVar = "rows_learner:RowsLearner"
    unused: ClassVar = ("kl.", "rewards.")
    best_metric: ClassVar = None
    metrics: ClassVar = (
        Metric("rows/loss", "loss of rows", "nats", "down", "Mean loss of the step's rows.", "Falls.", "Stays."),
        *named("lr"),
    )
    charts: ClassVar = ("rows/loss", "lr")
    rows: int = setting(2, "rows in one step", ge=1, le=1024)

    @property
    def rows_per_step(self) -> int:
        return self.rows


class TextsConfig(_LearnsFromRows):
    """Make texts likelier."""

    title: ClassVar = "Texts"
    explanation: ClassVar = "Each step makes a few texts likelier."
    needs: ClassVar = Needs(adapters=("actor",), reference=False, batch="texts")
    kind: Literal["from_texts"] = "from_texts"


class JudgeConfig(_LearnsFromRows):
    """Tell the better response of a pair from the other one."""

    title: ClassVar = "Judge"
    explanation: ClassVar = "Each step widens the gap between what a head says of the two responses of a few pairs."
    needs: ClassVar = Needs(adapters=("judge",), heads=(("says", "judge"),), reference=False, batch="pairs")
    kind: Literal["judge"] = "judge"
