"""Where the time of a step goes: by part of the algorithm, and by tensor operator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile

from rlhf_engine.events import Profiled, StartProfiled, TimeSpent
from rlhf_engine.models.flops import matmul_peak
from rlhf_engine.models.known_peak import known_peak, raise_peak
from rlhf_engine.models.policy import Policy
from rlhf_engine.system.processes import age_of_this_process

_PARTS = ("rollout: ", "score: ", "update: ")  # how the engine names what it does, by record_function
_OPERATORS = 12


class StepProfiler:
    """Watches the second step of a run: the first one also starts threads and prepares the decoding."""

    def __init__(self) -> None:
        self.result: Profiled | None = None
        self._steps = 0

    @contextmanager
    def watch(self, step: int) -> Iterator[None]:
        """Wraps each step; `result` is there after the one that was watched."""
        self._steps += 1
        if self._steps != 2:
            yield
            return
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        with profile(activities=activities, acc_events=True) as watched:
            started = time.perf_counter()
            yield
            seconds = time.perf_counter() - started
        events = watched.key_averages()
        # a part is listed twice where there is a GPU: as the processor saw it, and again as the GPU did
        parts = [TimeSpent(event.key, event.cpu_time_total / 1e6, event.count) for event in events
                 if event.key.startswith(_PARTS) and event.cpu_time_total]
        on_device = any(event.self_device_time_total for event in events)
        operators = [
            TimeSpent(event.key, (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6,
                      event.count)
            for event in events if event.key.startswith("aten::")
        ]
        operators.sort(key=lambda spent: -spent.seconds)
        parts.sort(key=lambda spent: (_order(spent.name), -spent.seconds))
        self.result = Profiled(step, seconds, tuple(parts), tuple(operators[:_OPERATORS]))


def _order(name: str) -> int:
    return next(index for index, part in enumerate(_PARTS) if name.startswith(part))


class StartProfiler:
    """Tells the parts of a start apart, one after another, until the first step is done."""

    def __init__(self) -> None:
        """What the process did until now is the first part."""
        before = age_of_this_process()
        self._parts = {"Python and its libraries": before}
        self._since = self._began = time.perf_counter()
        self._began -= before

    def lap(self, part: str, seconds: float | None = None) -> None:
        """All since the last lap was `part`; or of it `seconds`, and the next lap takes what is left."""
        now = time.perf_counter() if seconds is None else self._since + seconds
        self._parts[part] = self._parts.get(part, 0.0) + now - self._since
        self._since = now

    def result(self) -> StartProfiled:
        """The parts so far."""
        parts = tuple(TimeSpent(part, seconds, 1) for part, seconds in self._parts.items())
        return StartProfiled(time.perf_counter() - self._began, parts)


class Utilization:
    """Which share of the arithmetic that this machine can do a step did (model FLOP/s utilization, MFU)."""

    def __init__(self, policy: Policy) -> None:
        """The peak is measured in the first starts on a machine, a fifth of a second each, and known in those after."""
        self._policy = policy
        self.peak = known_peak(policy.dtype, policy.device, matmul_peak)

    def share(self, operations: float, seconds: float) -> tuple[float, bool]:
        """operations / seconds over the peak, and whether that peak was raised just now.

        A step that was faster shows that others had the machine while the peak was measured: then it is measured again,
        and raised to the step's speed if need be.
        """
        speed = operations / seconds
        raised = speed > self.peak
        if raised:
            dtype, device = self._policy.dtype, self._policy.device
            self.peak = max(speed, matmul_peak(dtype, device))
            raise_peak(dtype, device, self.peak)
        return speed / self.peak, raised
