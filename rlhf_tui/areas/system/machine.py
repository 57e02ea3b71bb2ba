"""What the machine is doing: processor, memory, disk, GPUs. Plain values, read in a thread of their own.

Nothing here is needed: what cannot be read (no psutil, no driver, a sensor that fails) is left out.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rlhf_engine.system.processes import resident_bytes
from rlhf_tui.terminal.clean_text import clean_line

SECONDS = 1.0


@dataclass(frozen=True)
class Gpu:
    """One GPU. Shares 0 to 1, bytes, degrees Celsius; None for what the driver does not tell."""

    name: str
    use: float | None = None
    used: int | None = None
    total: int | None = None
    celsius: float | None = None


@dataclass(frozen=True)
class Reading:
    """The machine at one moment. Shares 0 to 1 (of one core), bytes; empty or None for what is not known."""

    cores: tuple[float, ...] = ()
    process: float | None = None
    resident: int = 0
    threads: int | None = None
    memory: tuple[int, int] | None = None
    """Used and total; the same for swap."""
    swap: tuple[int, int] | None = None
    disk: tuple[int, int] | None = None
    """Free and total where the runs lie."""
    celsius: float | None = None
    gpus: tuple[Gpu, ...] = ()


def load_psutil() -> ModuleType | None:
    """psutil, if it is installed."""
    try:
        import psutil
    except ImportError:
        return None
    module: ModuleType = psutil
    return module


def load_nvml() -> ModuleType | None:
    """NVIDIA's management library, started; None without it, or without a driver."""
    try:
        import pynvml  # type: ignore[import-untyped, unused-ignore]

        pynvml.nvmlInit()
    except Exception:  # a driver can fail in more ways than it has names for
        return None
    module: ModuleType = pynvml
    return module


class Probe:
    """Reads the machine; the first look may take a second, while the GPU's driver wakes. `close` lets go of it."""

    def __init__(self, runs_root: Path, psutil: Callable[[], Any] = load_psutil,
                 nvml: Callable[[], Any] = load_nvml) -> None:
        self._runs_root = runs_root
        self._psutil, self._nvml = psutil(), nvml()
        self._process: Any = None
        if self._psutil is not None:
            with suppress(Exception):
                self._process = self._psutil.Process()
                self._process.cpu_percent()  # shares are of the time since the call before
                self._psutil.cpu_percent(percpu=True)

    def read(self) -> Reading:
        """What there is to know now."""
        return Reading(resident=resident_bytes(), disk=self._disk(), gpus=self._gpus(), **self._machine())

    def close(self) -> None:
        """Let go of the driver."""
        if self._nvml is not None:
            with suppress(Exception):
                self._nvml.nvmlShutdown()

    def _disk(self) -> tuple[int, int] | None:
        for folder in (self._runs_root.absolute(), *self._runs_root.absolute().parents):  # it may not exist yet
            with suppress(OSError):
                usage = shutil.disk_usage(folder)
                return usage.free, usage.total
        return None

    def _machine(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._psutil is None or self._process is None:
            return found
        looks: dict[str, Callable[[], Any]] = {
            "cores": lambda: tuple(share / 100 for share in self._psutil.cpu_percent(percpu=True)),
            "process": lambda: self._process.cpu_percent() / 100,
            "threads": lambda: self._process.num_threads(),
            "memory": lambda: _used(self._psutil.virtual_memory()),
            "swap": lambda: _used(self._psutil.swap_memory()),
            "celsius": lambda: max((sensor.current for group in self._psutil.sensors_temperatures().values()
                                    for sensor in group if sensor.current), default=None),
        }
        for name, look in looks.items():
            with suppress(Exception):  # sensors, containers and other systems each lack something
                found[name] = look()
        return found

    def _gpus(self) -> tuple[Gpu, ...]:
        if self._nvml is None:
            return ()
        found: list[Gpu] = []
        with suppress(Exception):
            found += [self._gpu(self._nvml.nvmlDeviceGetHandleByIndex(index))
                      for index in range(self._nvml.nvmlDeviceGetCount())]
        return tuple(found)

    def _gpu(self, handle: Any) -> Gpu:
        nvml, found = self._nvml, {}
        looks: dict[str, Callable[[], Any]] = {
            "use": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "used": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "total": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total,
            "celsius": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        }
        for name, look in looks.items():
            with suppress(Exception):  # not every card has every counter
                found[name] = look()
        name = "GPU"
        with suppress(Exception):
            told = nvml.nvmlDeviceGetName(handle)
            name = clean_line(told.decode(errors="replace") if isinstance(told, bytes) else str(told))
        return Gpu(name, **found)


def _used(memory: Any) -> tuple[int, int]:
    # what the kernel would give back when asked is not in use
    return memory.total - getattr(memory, "available", memory.free), memory.total


class Watch:
    """A thread that reads once a second until it is stopped. `latest` is None before the first reading."""

    def __init__(self, probe: Callable[[], Probe]) -> None:
        self.latest: Reading | None = None
        self._probe = probe
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        probe = self._probe()
        while not self._stop.wait(SECONDS if self.latest else SECONDS / 4):
            self.latest = probe.read()
        probe.close()

    def stop(self) -> None:
        """End it; it is not waited for."""
        self._stop.set()
