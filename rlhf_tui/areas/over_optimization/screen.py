"""A run's score and what that is held against over √KL, with the fits of Gao et al. (2022) and where to stop; of a
reward model, which has no score to over-optimize, how far its probabilities can be believed. Read from the run's files,
again and again while it trains."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import ALARMS, METRICS
from rlhf_engine.runs.run_settings import settings_now
from rlhf_tui.areas.over_optimization.curve import CurveView
from rlhf_tui.background import run_in_background
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, StatusLine

if TYPE_CHECKING:
    from rlhf_engine.evaluation.calibration import Calibration
    from rlhf_engine.evaluation.over_optimization import OverOptimization
    from rlhf_engine.maths.over_optimization import Fit

READ_SECONDS = 2.0
_OF_A_FIT = 120  # points of its line
_DIAGONAL = [(50.0 + place / 2, 50.0 + place / 2) for place in range(101)]
"""Where what is predicted is what is observed, both in %."""


class OverOptimizationScreen(BaseScreen[None]):
    """Follows the run in a folder, whoever drives it."""

    DEFAULT_CSS = """
    OverOptimizationScreen #told { height: auto; max-height: 40%; padding: 0 1; }
    OverOptimizationScreen.-tiny #status, OverOptimizationScreen.-tiny #keys,
    OverOptimizationScreen.-tiny #proxy { display: none; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-tiny"), (14, "-roomy")]  # noqa: RUF012 (so the base class declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,K", "dismiss", "Back", tooltip="Back to where one was", id="over_optimization.back"),
    ]

    def __init__(self, bridge: EngineBridge, run: Path) -> None:
        super().__init__()
        self._bridge, self._run = bridge, run
        self._proxy, self._judge = CurveView(id="proxy"), CurveView(id="judge")
        self._told = Static(" reading…", id="told", markup=False)
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")
        self._read_of: object = None

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        yield self._proxy
        yield self._judge
        yield self._told
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self._keys.show([("Esc", "Back", "screen.dismiss"), ("?", "Help", "app.help")])
        self._alarm.say(self._run.name)
        self._read()
        self.set_interval(READ_SECONDS, self._read)

    def on_engine_events(self, _: EngineEvents) -> None:
        self.query_one(StatusLine).refresh()

    @property
    def told(self) -> str:
        """What it comes to, in sentences."""
        return str(self._told.content)

    @property
    def pictures(self) -> tuple[str, str]:
        """Both curves as plain text; of a reward model the second is its calibration."""
        return self._proxy.picture_text, self._judge.picture_text

    def _read(self) -> None:
        run_in_background(self, partial(_read, self._run, self._read_of), self._show, self._failed, "read run")

    def _failed(self, why: str) -> None:
        self._told.update(Content.styled(why, "$text-warning"))

    def _show(self, read: tuple[object, OverOptimization | Calibration] | None) -> None:
        if read is None or not self.is_attached:  # nothing has changed
            return
        from rlhf_engine.evaluation.calibration import Calibration

        self._read_of, found = read
        if isinstance(found, Calibration):
            self._show_calibration(found)
        else:
            self._show_scores(found)
        self._told.update(Content("\n".join(clean_line(line) for line in found.sentences())))

    def _show_calibration(self, found: Calibration) -> None:
        self._proxy.display = False
        self._judge.load("preferred, % of held-out pairs", [(share.middle, share.observed) for share in found.bins],
                         _DIAGONAL, otherwise=found.why, first=_DIAGONAL[0][0], covers=True,
                         intervals=[(share.middle, *share.interval) for share in found.bins if share.interval])
        self._alarm.say(f"{self._run.name} · x: predicted probability, % · o: a bin, dots its 95 % · line: both are "
                        "equal")

    def _show_scores(self, found: OverOptimization) -> None:
        self._alarm.say(f"{self._run.name} · x: √KL to the reference · o: steps · line: fit of Gao et al. (2022)")
        stop = None
        if found.stop is not None:
            stop = (found.stop.distance.value, f"stop: step {found.stop.step}")
        last = max((point.distance for point in found.points), default=0.0)
        judge = found.judge.title
        for view, title, scores, fit in (
            (self._proxy, "score that is learnt from", [point.proxy for point in found.points], found.proxy_fit),
            (self._judge, judge, [point.judge for point in found.points], found.judge_fit),
        ):
            points = [(point.distance, score) for point, score in zip(found.points, scores, strict=True)]
            view.load(title, points, _line(fit, last), stop, found.why)


def _line(fit: Fit | None, last: float) -> list[tuple[float, float]]:
    if fit is None:
        return []
    distances = [last * place / (_OF_A_FIT - 1) for place in range(_OF_A_FIT)]
    return [(distance, fit.at(distance)) for distance in distances]


def _read(run: Path, read_of: object) -> tuple[object, OverOptimization | Calibration] | None:
    """What the files say, with what tells one state of them from another; None where that is `read_of`."""
    from rlhf_engine.evaluation.calibration import calibration_of_run
    from rlhf_engine.evaluation.over_optimization import of_run  # numpy: not before it is looked at

    state = _state(run)
    if state == read_of:
        return None
    run_dir = RunDir.open(run)
    config = settings_now(run_dir)
    return state, calibration_of_run(run_dir, config) if config.algorithm.scores_texts else of_run(run_dir)


def _state(run: Path) -> object:
    found = []
    for name in (METRICS, ALARMS):
        with suppress(OSError):
            told = os.stat(run / name)
            found.append((name, told.st_mtime_ns, told.st_size))
    return found
