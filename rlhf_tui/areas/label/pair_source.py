"""Where pairs come from: sampled by the engine, between two steps of a run, or recorded by one that is only viewed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

from textual.dom import DOMNode

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.events import Event, PairsSampled, RunState
from rlhf_engine.labels.pair import AskedFor, Pair
from rlhf_engine.labels.recorded import Recorded, pairs_of_samples
from rlhf_engine.requests import REFERENCE, TUNED, Cancel, SamplePairs, Side
from rlhf_engine.runs.reward_scale import recorded_log_odds
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.areas.compare.side import scored_by
from rlhf_tui.areas.label.label_start import LabelStart
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.background import run_in_background
from rlhf_tui.engine.bridge import EngineBridge

ASKS: tuple[AskedFor, ...] = ("random", "unsure", "gap")
ASK_TITLES: dict[AskedFor, str] = {"random": "random", "unsure": "least sure", "gap": "largest gap"}
ASK_HELP: dict[AskedFor, str] = {
    "random": "pairs come at random",
    "unsure": "of several responses to a prompt, the two come that score most alike",
    "gap": "of several responses to a prompt, the best and the worst come",
}
FIRST, BATCH = 8, 16
"""Pairs that are asked for at once: the first time, so that one is there soon, and then. A run waits while they are
sampled."""
_MOST = 64  # that wait
_AHEAD_SECONDS = 20.0  # for so long they are to last
_RECORDED = 20_000  # samples of a run, the newest


def few(waiting: int, per_minute: float | None) -> bool:
    """Whether more pairs are to be asked for while so many wait for somebody who judges so many a minute.

    Not more than will be judged soon: those that wait are of the model as it was.
    """
    ahead = max(BATCH, min(_MOST, round((per_minute or 0.0) / 60 * _AHEAD_SECONDS)))
    return waiting <= ahead - BATCH // 2


class PairSource:
    """Asks for pairs, one batch at a time. `came` is called with each batch, `failed` with a sentence where there is
    none."""

    def __init__(
        self, node: DOMNode, bridge: EngineBridge, questions: CodeQuestions, config: RunConfig, start: LabelStart, *,
        came: Callable[[list[Pair]], object], failed: Callable[[str], object],
    ) -> None:
        """node: its removal gives up what is read in the background. config: the settings that
        hold where no run goes on."""
        self.sides = start.sides
        """Who answers, where somebody chose."""
        self.ask: AskedFor = start.ask
        self._begun = start
        self._node, self._bridge, self._questions, self._config = node, bridge, questions, config
        self._came, self._failed = came, failed
        self._request: int | None = None
        self._reading = False
        self._batch = 0
        self._start = ""

    @property
    def asking(self) -> bool:
        """Whether a batch is under way."""
        return self._request is not None or self._reading

    @property
    def recorded(self) -> bool:
        """Whether pairs are those that a viewed run has recorded."""
        return self._bridge.viewing and self.sides is None

    @property
    def who(self) -> tuple[Side, Side]:
        """The two that answer when the engine is asked."""
        return self.sides or ((REFERENCE, REFERENCE) if self._bridge.state is None else (TUNED, TUNED))

    def begin_at(self, start: str) -> None:
        """From here on batches are those of `start`: equal ones ask for equal pairs, others for others."""
        self._start, self._batch = start, 0

    def fetch(self) -> None:
        """Ask for a batch, unless one is under way."""
        if self.asking:
            return
        if self.recorded:
            run = self._bridge.watched
            assert run is not None
            self._reading = True
            run_in_background(self._node, partial(_recorded, RunDir(run)), self._read, self._not_read, "pairs")
            return
        config, run_dir = scored_by(*self.who, self._config, busy=self._bridge.busy)
        if config is None:
            self._send()
        else:
            # without scores pairs have no guess, and can be judged all the same
            self._questions.settle(config, lambda _: self._send(), of=run_dir, needed=False)

    def give_up(self) -> None:
        """What is under way is of no use any more."""
        if self._request is not None:
            self._bridge.ask(Cancel(self._request))
            self._request = None

    def take(self, event: Event) -> None:
        """Hear the answer."""
        if isinstance(event, PairsSampled) and event.request_id == self._request:
            self._request = None
            if event.pairs:
                self._came(list(event.pairs))
            else:
                self._failed(event.error or "no pair was sampled")

    def where(self) -> str:
        """What is being waited for."""
        view = self._bridge.view
        if self.recorded:
            return "the run's recorded samples are read"
        if self._bridge.busy and view.state not in (RunState.PAUSED, RunState.LOADING):
            return f"waiting for step {min(view.step + 1, view.total_steps)} to end: pairs are sampled between steps"
        first = view.state is None and self._batch <= 1
        return "waiting for the first pairs; the model is loaded first" if first else "pairs are sampled"

    def _send(self) -> None:
        if not self._node.is_attached or self._request is not None:
            return
        count = BATCH if self._batch else FIRST
        self._request, self._batch = self._bridge.new_id(), self._batch + 1
        digest = hashlib.sha256(f"{self._begun.seed} {self._start} {self._batch}".encode()).digest()
        seed = int.from_bytes(digest[:6])  # with room to count up from it
        run = self._bridge.run_path.name if self._bridge.run_path else ""
        self._bridge.ask(SamplePairs(self._request, self._config, count, seed, *self.who, self.ask,
                                     self._begun.responses, run, self._begun.accept_base, self._begun.moves))

    def _read(self, pairs: list[Pair]) -> None:
        self._reading = False
        self._came(pairs)

    def _not_read(self, why: str) -> None:
        self._reading = False
        self._failed(why)


def _recorded(run: RunDir) -> list[Pair]:
    """Raises RlhfError."""
    config = run.config()
    found = pairs_of_samples(Recorded(run.samples()[-_RECORDED:], config.model.name, run.path.name,
                                      recorded_log_odds(run)))
    if not found:
        raise ConfigError(f"{run.path.name} has no two recorded responses to one prompt yet; 1 and 2 choose "
                          "checkpoints to sample from")
    return found
