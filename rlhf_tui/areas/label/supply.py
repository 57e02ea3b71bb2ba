"""Sees to it that pairs wait for whoever judges, and knows why none do."""

from __future__ import annotations

from collections.abc import Callable

from textual.dom import DOMNode

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import Event, StepFinished
from rlhf_engine.labels.pair import AskedFor, Pair
from rlhf_engine.requests import Side
from rlhf_tui.areas.label.label_start import LabelStart
from rlhf_tui.areas.label.pair_source import BATCH, PairSource, few
from rlhf_tui.areas.label.sitting import Sitting
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.engine.bridge import EngineBridge

_DRY_BATCHES = 3  # without a new pair until nobody is asked any more


class Supply:
    """Asks a source for more where few wait. `came` is called when there are more; `dry` when none are asked for any
    more, with a sentence to be said or with "" where nobody misses any.

    trouble: why no more pairs are asked for, or none can be judged; "" while all is well.
    """

    def __init__(
        self, node: DOMNode, bridge: EngineBridge, questions: CodeQuestions, config: RunConfig, start: LabelStart, *,
        came: Callable[[], object], dry: Callable[[], object],
    ) -> None:
        self.source = PairSource(node, bridge, questions, config, start, came=self._came, failed=self._none_came)
        self.trouble = ""
        self._tell_came, self._tell_dry = came, dry
        self._sitting: Sitting | None = None
        self._batches_without = 0

    def serve(self, sitting: Sitting) -> None:
        """From here on pairs are for `sitting`."""
        self.source.give_up()
        self._sitting = sitting
        self._begin_anew()
        self.source.begin_at(f"{sitting.file.path.name} {len(sitting.file.judgements)}")

    def fill(self) -> None:
        """Ask for more pairs where few wait."""
        sitting = self._sitting
        if sitting is not None and not self.trouble and few(sitting.queue.waiting, sitting.per_minute):
            self.source.fetch()

    def ask_anew(self, *, ask: AskedFor | None = None, sides: tuple[Side, Side] | None = None) -> None:
        """What waits is of no use any more; ask: how pairs are chosen from now on, sides: of whom they are."""
        self.source.ask, self.source.sides = ask or self.source.ask, sides or self.source.sides
        self.source.give_up()
        self._begin_anew()
        if self._sitting is not None:
            self._sitting.queue.clear()
        self.fill()

    def take(self, event: Event) -> None:
        """Hear the engine."""
        self.source.take(event)
        if isinstance(event, StepFinished) and self.source.recorded and self.trouble and self._sitting is not None:
            self.trouble = ""  # it has recorded others by now
            self.fill()

    def _begin_anew(self) -> None:
        self.trouble, self._batches_without = "", 0

    def _came(self, pairs: list[Pair]) -> None:
        if self._sitting is None:
            return
        new = self._sitting.queue.add(pairs, BATCH)
        self._batches_without = 0 if new else self._batches_without + 1
        if not new and (self.source.recorded or self._batches_without >= _DRY_BATCHES):
            self._none_came("all recorded pairs are judged" if self.source.recorded
                            else "these models gave no pair that you have not judged")
        else:
            self._tell_came()

    def _none_came(self, why: str) -> None:
        self.trouble = f"{why} · r asks again"
        self._tell_dry()
