"""The system screen: what can be read is shown, what fails is left out, and nothing is read while nobody looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from moments import until, wait_until
from textual.pilot import Pilot
from textual.widgets import Static
from tui.fake_session import Sessions
from tui.test_generate import shown
from tui.test_hostile_text import is_harmless, shown_lines

from rlhf_engine.events import ModelLoaded
from rlhf_engine.system.processes import resident_bytes
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.system import machine as system
from rlhf_tui.areas.system.machine import Gpu, Probe, Reading, Watch
from rlhf_tui.areas.system.screen import SystemScreen, memory_size, report
from rlhf_tui.engine.run_view import RunView

GIB = 2**30
READING = Reading(cores=(0.96, 0.31, 0.0, 1.0), process=1.27, resident=651 * 2**20, threads=14,
                  memory=(6 * GIB, 16 * GIB), swap=(GIB // 2, 2 * GIB), disk=(78 * GIB, 250 * GIB), celsius=61.0,
                  gpus=(Gpu("NVIDIA H100 80GB HBM3", 0.34, 12 * GIB, 80 * GIB, 54.0), Gpu("old card")))


class FakeNvml:
    """Two cards; the second lacks every counter but its name."""

    NVML_TEMPERATURE_GPU = 0
    closed = False

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> Any:
        return b"NVIDIA \x1b[2J" if handle == 0 else "old card"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=self._only_first(handle, 34))

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=self._only_first(handle, 3 * GIB), total=80 * GIB)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return self._only_first(handle, 54 + sensor)

    def nvmlShutdown(self) -> None:
        self.closed = True

    def _only_first(self, handle: int, value: int) -> int:
        if handle:
            raise RuntimeError("Not Supported")
        return value


class Broken:
    """A library of which nothing works."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"{name} failed")


def test_every_gpu_is_read_and_a_counter_that_fails_is_left_out(tmp_path: Path) -> None:
    nvml = FakeNvml()
    probe = Probe(tmp_path, nvml=lambda: nvml)
    first, second = probe.read().gpus
    assert first == Gpu("NVIDIA ␛[2J", 0.34, 3 * GIB, 80 * GIB, 54)
    assert (second.name, second.use, second.used, second.celsius) == ("old card", None, None, None)
    probe.close()
    assert nvml.closed


@pytest.mark.parametrize("library", [lambda: None, Broken])
def test_without_libraries_what_the_system_itself_tells_is_there(tmp_path: Path, library: Callable[[], Any]) -> None:
    probe = Probe(tmp_path / "not" / "yet", psutil=library, nvml=library)
    reading = probe.read()
    probe.close()
    assert reading.gpus == ()
    assert (reading.cores, reading.process, reading.memory) == ((), None, None)
    assert reading.resident > 2**20
    assert reading.disk is not None
    assert "Disk" in str(report(reading, RunView(), 80))


def test_this_machine_is_read(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    probe = Probe(tmp_path, nvml=lambda: None)
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    reading = probe.read()
    assert len(reading.cores) == psutil.cpu_count()
    assert reading.process is not None
    assert reading.process > 0
    assert reading.memory is not None
    assert 0 < reading.memory[0] <= reading.memory[1]
    assert abs(resident_bytes() - psutil.Process().memory_info().rss) < 2**24


@pytest.mark.parametrize(("count", "shown"), [
    (0, "0 M"), (2**20, "1 M"), (2**30 - 1, "1024 M"), (2**30, "1.0 G"), (80 * GIB, "80.0 G")])
def test_sizes(count: int, shown: str) -> None:
    assert memory_size(count) == shown


def test_the_report_says_where_the_time_of_a_step_went() -> None:
    view = RunView(metrics={"throughput/responses_per_s": 92.4, "throughput/matmul_share": 0.236, "time/rollout": 0.42,
                            "time/score": 0.07, "time/update": 0.21},
                   model=ModelLoaded("storyteller", 1, 1, "cpu", "float32", 2, 2e11, 0.5))
    lines = str(report(READING, view, 80)).split("\n")
    assert lines[:3] == ["Model    storyteller  on cpu, float32, 2 threads  matmul peak 200 GFLOP/s",
                         "Engine   92 responses/s  FLOP/s utilization (MFU) 24%",
                         "Step     0.70 s  rollout 60%  score 10%  update 30%"]
    assert "GPU 0    NVIDIA H100 80GB HBM3  use 34%  12.0 G of 80.0 G  54 °C" in lines
    assert "GPU 1    old card" in lines
    assert "Memory   6.0 G of 16.0 G  swap 512 M of 2.0 G" in lines


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine stands still, and is known at once."""
    monkeypatch.setattr(Probe, "__init__", lambda self, *_: None)
    monkeypatch.setattr(Probe, "read", lambda self: READING)
    monkeypatch.setattr(Probe, "close", lambda self: None)
    monkeypatch.setattr(system, "SECONDS", 0.02)


def watchers() -> int:
    return sum(thread.name == "system" for thread in threading.enumerate())


async def settled(pilot: Pilot[Any]) -> None:
    screen = pilot.app.screen
    assert isinstance(screen, SystemScreen)
    await until(pilot, lambda: screen._watch is not None and screen._watch.latest is not None)
    screen._show()
    await pilot.pause()


@pytest.mark.usefixtures("known")
async def test_nothing_is_read_while_nobody_looks(app: WorkbenchApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert watchers() == 0
        await pilot.press("f4")
        await settled(pilot)
        assert watchers() == 1
        assert "H100" in str(app.screen.query_one(Static).content)
        await pilot.press("question_mark")
        await until(pilot, lambda: watchers() == 0)
        await pilot.press("escape")
        await settled(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: watchers() == 0)


def test_a_driver_that_sleeps_is_waited_for_in_the_thread_alone() -> None:
    awake = threading.Event()

    def slow() -> Any:
        awake.wait()
        return SimpleNamespace(read=lambda: READING, close=lambda: None)

    watch = Watch(slow)
    assert watch.latest is None
    awake.set()
    wait_until(lambda: watch.latest is not None)
    watch.stop()
    assert watch.latest == READING


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("size", [(20, 5), (60, 16), (300, 100)])
async def test_no_size_is_too_small_or_too_large(app: WorkbenchApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press("f4")
        await settled(pilot)
        lines = shown_lines(app)
        assert all(len(line) <= size[0] for line in lines)
        assert all(map(is_harmless, lines))


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_snapshot(
    snap_compare: Callable[..., bool], app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
) -> None:
    async def run(pilot: Pilot[Any]) -> None:
        await pilot.press("f5")
        sessions.last.steps(9)
        app.show_events(app.bridge.drain())
        await until(pilot, lambda: "step 9/100" in shown(app))  # it is seen behind the screen that opens over it
        await pilot.press("f4")
        await settled(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run)
