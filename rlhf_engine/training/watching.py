"""What looks at a run after each step: alarms, held-out rows, the probe, and how much of the machine a step used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rlhf_engine.algorithms.base import StepResult
from rlhf_engine.evaluation.held_out import HeldOutEvaluator
from rlhf_engine.evaluation.probing import Prober
from rlhf_engine.events import Notice
from rlhf_engine.models.policy import Policy
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.course import Course
from rlhf_engine.training.journal import Journal
from rlhf_engine.training.profiling import Utilization
from rlhf_engine.training.sentinel import Sentinel
from rlhf_engine.training.setup import Setup


class Watch:
    """That of one run. Nothing of it changes the run: one that is watched otherwise is the same run."""

    def __init__(self, run_dir: RunDir | None, course: Course, setup: Setup, journal: Journal) -> None:
        self._run_dir, self._course, self._setup, self._journal = run_dir, course, setup, journal
        self._sentinel, self._prober = self._anew()
        self._evaluator = HeldOutEvaluator(journal.emit)
        self._utilization: Utilization | None = None
        self._told_of_peak = False

    def _anew(self) -> tuple[Sentinel, Prober]:
        return Sentinel(self._course.config.sentinel.window), Prober(self._run_dir, self._journal.emit)

    def begin_again(self) -> None:
        """The run stands at a checkpoint, and its files tell nothing that came after that."""
        self._sentinel, self._prober = self._anew()

    def past(self, run_dir: RunDir) -> Iterator[Mapping[str, float]]:
        """The metrics of all steps so far, past the sentinel, which said at its time what it had to say."""
        for line in run_dir.each_step():
            self._sentinel.watch(line.step, line.metrics, self._course.config)
            yield line.metrics

    def measure_peak(self, policy: Policy) -> float:
        """How much arithmetic this machine can do, in operations per second."""
        self._utilization = Utilization(policy)
        return self._utilization.peak

    def add_share(self, result: StepResult, seconds: float) -> None:
        """Put into the metrics of a step, which took so long, which share of that it did."""
        if not (result.operations and self._utilization):
            return
        share, raised = self._utilization.share(result.operations, seconds)
        result.metrics["throughput/matmul_share"] = share
        if raised and not self._told_of_peak:
            self._told_of_peak = True
            self._journal.emit(Notice(
                f"matmul peak is {self._utilization.peak / 1e9:,.0f} GFLOP/s at least, more than was measured at "
                "the start: the MFU of the steps before is too high"))

    def evaluate(self, result: StepResult) -> None:
        """Put into the metrics of a step those of what is held out, if it is time: of answers to the prompts, where the
        method answers any, and what else it measures on the rows."""
        resources, checked = self._setup.resources, self._setup.checked
        if resources and checked:
            result.metrics.update(self._evaluator.look(self._course.step, checked.held_out, resources,
                                                       self._course.config, self._setup.algorithm, result.metrics))

    def look_for_alarms(self, result: StepResult) -> None:
        """Tell of what goes wrong."""
        for alarm in self._sentinel.watch(self._course.step, result.metrics, self._course.config):
            self._journal.alarm(alarm)

    def probe(self) -> None:
        """Answer the probe's prompt if it is time to, and the method answers prompts at all."""
        config, resources, checked = self._course.config, self._setup.resources, self._setup.checked
        prompt = config.probe.prompt
        if prompt is None and checked:
            prompt = next(iter(checked.source.rows.askable), None)
        if resources and prompt is not None and config.algorithm.needs.answers:
            self._prober.look(self._course.step, resources, config, prompt)
