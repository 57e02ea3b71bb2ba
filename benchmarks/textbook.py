"""The textbook loop with a clock and a count of its arithmetic: what the engine is measured against."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rlhf_engine.algorithms.textbook import Judged, Response, TextbookPPO
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.models.flops import ModelSize


@dataclass
class Seconds:
    """Where the time went."""

    rollout: float = 0.0
    score: float = 0.0
    update: float = 0.0


class TimedTextbook:
    """Learns like `TextbookPPO`, and keeps `seconds` and `operations` (by the formula of `models.flops`)."""

    def __init__(self, folder: str, config: RunConfig) -> None:
        self.loop = TextbookPPO(folder, config)
        self.size = ModelSize.of_model(self.loop.reference)
        self.seconds, self.operations = Seconds(), 0.0

    def learn_from(self, prompt: str) -> int:
        """Sample, judge, update. Returns the tokens of the response."""
        response: Response = self._timed("rollout", self.loop.sample, prompt)
        judged: Judged = self._timed("score", self.loop.judge, prompt, response)
        self._timed("update", self.loop.update, response, judged)
        whole = response.ids.shape[1]
        self.operations += self._operations(response.prompt_width, whole)
        return whole - response.prompt_width

    def _timed(self, phase: str, work: Any, *arguments: Any) -> Any:
        started = time.perf_counter()
        found = work(*arguments)
        setattr(self.seconds, phase, getattr(self.seconds, phase) + time.perf_counter() - started)
        return found

    def _operations(self, prompt: int, whole: int) -> float:
        """With the head over all tokens, as all passes but those of sampling take it."""
        pairs, head = whole * (whole + 1) / 2, 2.0 * self.size.head
        forward, backward = self.size.forward(whole, pairs), self.size.backward(whole, pairs)
        sampling = forward + head * (whole - prompt)
        updates = self.loop.settings.epochs * (2 * (forward + backward) + 3 * head * whole)
        return sampling + 3 * (forward + head * whole) + updates
