"""What the machine and the engine are doing: F4. Read once a second while it is seen, and not at all else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.events import ModelLoaded
from rlhf_tui.areas.system.machine import SECONDS, Gpu, Probe, Reading, Watch
from rlhf_tui.engine.run_view import RunView
from rlhf_tui.widgets.figures import progress_bar
from rlhf_tui.widgets.screen import BaseDialog

PHASES = ("rollout", "score", "update")
NAME_WIDTH = 9


def report(reading: Reading | None, view: RunView, width: int) -> Content:
    """All lines, those about the engine first."""
    lines = [*_engine(view.metrics, view.model), *(_machine(reading, width) if reading else [Content("reading…")])]
    return Content("\n").join(lines)


def memory_size(count: int) -> str:
    """Bytes in G, or in M below one."""
    return f"{count / 2**30:.1f} G" if count >= 2**30 else f"{count / 2**20:.0f} M"


def _share(part_and_whole: tuple[int, int]) -> str:
    return " of ".join(map(memory_size, part_and_whole))


def _line(name: str, *facts: str) -> Content:
    return Content.assemble((f"{name:<{NAME_WIDTH}}", "$primary bold"), "  ".join(filter(None, facts)))


def _engine(metrics: Mapping[str, float], model: ModelLoaded | None) -> Iterator[Content]:
    if model is not None:
        threads = f"{model.threads} thread{'s' if model.threads != 1 else ''}"
        yield _line("Model", model.name, f"on {model.device}, {model.dtype}, {threads}",
                    f"matmul peak {model.matmul_peak / 1e9:,.0f} GFLOP/s")
    speed, share = metrics.get("throughput/responses_per_s"), metrics.get("throughput/matmul_share")
    if speed is not None:
        yield _line("Engine", f"{speed:.{0 if speed >= 10 else 1}f} responses/s",
                    f"FLOP/s utilization (MFU) {share:.0%}" if share is not None else "")
    seconds = {phase: metrics[f"time/{phase}"] for phase in PHASES if f"time/{phase}" in metrics}
    if total := sum(seconds.values()):
        yield _line("Step", f"{total:.2f} s", *(f"{phase} {part / total:.0%}" for phase, part in seconds.items()))
    if metrics or model:
        yield Content("")


def _machine(reading: Reading, width: int) -> Iterator[Content]:
    process = f"cpu {reading.process:.0%}" if reading.process is not None else ""
    threads = f"{reading.threads} threads" if reading.threads is not None else ""
    yield _line("Process", process, f"{memory_size(reading.resident)} resident" if reading.resident else "", threads)
    yield from _cores(reading.cores, width)
    if reading.memory:
        swap = f"swap {_share(reading.swap)}" if reading.swap and reading.swap[1] else "no swap"
        yield _line("Memory", _share(reading.memory), swap if reading.swap else "")
    if reading.disk:
        yield _line("Disk", f"{memory_size(reading.disk[0])} free of {memory_size(reading.disk[1])} (runs folder)")
    if reading.celsius is not None:
        yield _line("Sensors", f"{reading.celsius:.0f} °C at the warmest")
    for index, gpu in enumerate(reading.gpus):
        yield _line(f"GPU {index}", *_gpu(gpu))
    if not reading.gpus:
        yield _line("GPU", "none found by NVIDIA's library")


def _cores(cores: tuple[float, ...], width: int) -> Iterator[Content]:
    """Bars side by side, as many as fit."""
    digits, bar = len(str(len(cores))), 8
    bars = [f"{index:>{digits}} {progress_bar(share, bar)}{share:>5.0%}" for index, share in enumerate(cores, 1)]
    beside = max(1, (width - NAME_WIDTH) // (digits + bar + 8))
    for first in range(0, len(bars), beside):
        yield _line("Cores" if not first else "", *bars[first:first + beside])


def _gpu(gpu: Gpu) -> Iterator[str]:
    yield gpu.name
    if gpu.use is not None:
        yield f"use {gpu.use:.0%}"
    if gpu.used is not None and gpu.total:
        yield f"{memory_size(gpu.used)} of {memory_size(gpu.total)}"
    if gpu.celsius is not None:
        yield f"{gpu.celsius:.0f} °C"


class SystemScreen(BaseDialog[None]):
    """Reads; closing it ends the readings."""

    DEFAULT_CSS = """
    SystemScreen { align: center middle; background: $background 60%; }
    SystemScreen > VerticalScroll {
        width: 92%; max-width: 110; height: auto; max-height: 92%;
        border: round $border; background: $surface; padding: 0 1; scrollbar-size-vertical: 1;
    }
    SystemScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f4,enter", "dismiss", "Close", id="system.close"),
        Binding("question_mark,f1", "app.help", "Help", show=False),
    ]

    def __init__(self, view: RunView, probe: Callable[[], Probe]) -> None:
        super().__init__()
        self._view, self._probe = view, probe
        self._watch: Watch | None = None
        self._shown = Content("")
        self._text = Static("", markup=False)

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = Content("System")
            box.border_subtitle = Content("once a second · Esc close")
            yield self._text

    def on_mount(self) -> None:
        self.set_interval(SECONDS, self._show)
        self.call_after_refresh(self._show)

    def on_screen_resume(self) -> None:
        self._watch = Watch(self._probe)

    def on_screen_suspend(self) -> None:
        self._end()

    def on_unmount(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _show(self) -> None:
        width = self.query_one(VerticalScroll).scrollable_content_region.width
        shown = report(self._watch.latest if self._watch else None, self._view, width)
        if shown != self._shown:
            self._shown = shown
            self._text.update(shown)
