"""The stages of a pipeline, one after another: each a process of an ordinary command, or found done already.

Nothing flows through pipes: a stage leaves a label file, a run, or a line of what was measured, and whether it is done
is read from there. So the pipeline may be killed at any moment, and the same command goes on; a process that outlives
it is waited for.
"""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_engine.config.grid import Cell
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.data.pinning import ACCEPT as ACCEPT_DATA
from rlhf_engine.errors import ConfigError, RunError
from rlhf_engine.labels.label_file import LabelFile, read_labels
from rlhf_engine.pipelining.stages import policy_config, reward_settings, settings_of
from rlhf_engine.runs.driven_folder import OwnCommand
from rlhf_engine.runs.pipeline_dir import PipelineDir, PipelinePlan
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.sweeping.cells import DRIVEN, FINISHED, CellStatus, clear_unbegun, status_of

_POLL_SECONDS = 0.2
_OF_ANSWERS = ("model.", "sampling.", "data.")
"""Settings that tell what answers are judged."""


class Stopped(Exception):
    """Somebody asked the pipeline to stop."""


@dataclass
class PipelineDrive:
    """Drives a pipeline whose lock is held. tell: takes a sentence for the user at each stage.

    `stop` ends it: the stage under way saves and leaves.
    """

    pipeline: PipelineDir
    plan: PipelinePlan
    tell: Callable[[str], None]
    _child: OwnCommand | None = field(default=None)
    _stopping: bool = False

    def run(self) -> dict[str, Any]:
        """What the last round came to. Raises Stopped after `stop`, ConfigError where a person has to judge first, and
        RunError where a stage failed."""
        try:
            for round_ in range(1, self.plan.rounds + 1):
                self._label(round_)
                self._train(f"reward-{round_}", "reward model", self._reward_words())
                self.pipeline.write_preset(round_, to_toml(policy_config(self.pipeline, self.plan, round_)))
                self._train(f"policy-{round_}", "policy", ["train", str(self.pipeline.preset_of(round_))])
                self._measure(round_)
        except BaseException:
            self.stop()
            raise
        return self.pipeline.measured(self.plan.rounds)

    def stop(self) -> None:
        """Ask the stage under way to save and leave; called again, to leave at once. May be called in a signal handler.
        """
        self._stopping = True
        if self._child is not None and self._child.process.returncode is None:
            self._child.process.send_signal(signal.SIGTERM)

    # --- stages ---

    def _label(self, round_: int) -> None:
        wanted, rater = self.plan.labels * round_, rater_name(self.plan)
        self._wait_for_labels(f"labels-{round_}")
        missing = wanted - judged(self.pipeline.labels, rater)
        if missing <= 0:
            return
        source = self.plan.preset if round_ == 1 else str(self._run(f"policy-{round_ - 1}").path)
        words = ["label", source, "--out", str(self.pipeline.labels), "--count", str(missing), "--seed",
                 str(self.plan.seed + round_), "--runs-dir", str(self.pipeline.root)]
        if round_ == 1:
            words += [word for text in settings_of(self.plan, _OF_ANSWERS) for word in ("--set", text)]
        if not self.plan.rater:
            raise ConfigError(f"round {round_}: {missing} pairs are to be judged first; `rlhf-tui {shlex.join(words)}` "
                              "opens the screen, and the same pipeline goes on then")
        self.tell(f"round {round_}: {missing} of {wanted} labels, by the rewards of {self.plan.rater}")
        self._process(f"labels-{round_}", [
            *words, "--rater", self.plan.rater, "--error", str(self.plan.error), "--temperature",
            str(self.plan.temperature), "--repeat-every", "0"])
        if judged(self.pipeline.labels, rater) < wanted:
            raise RunError(f"The labels of round {round_} are not all there: {self._said()}.")

    def _wait_for_labels(self, stage: str) -> None:
        told = False
        while self._labels_are_written(stage):
            if not told:
                self.tell(f"waiting for whoever writes to {self.pipeline.labels}")
            told = True
            self._wait()

    def _labels_are_written(self, stage: str) -> bool:
        """Whether somebody judges, or the process goes on that judged for a pipeline that was killed: that one holds no
        file before its first judgement."""
        if self.pipeline.driven.running(stage):
            return True
        if not self.pipeline.labels.exists():
            return False
        try:
            with LabelFile.open(self.pipeline.labels, rater=self.pipeline.name):
                return False
        except RunError:
            return True

    def _train(self, stage: str, what: str, words: list[str]) -> None:
        tried = False
        while True:
            status = self._status(stage)
            if status.state == FINISHED:
                return
            if status.state == DRIVEN:
                self._wait()
                continue
            if tried:
                why = status.message or self._said()
                raise RunError(f"The {what} {self.pipeline.run_name(stage)} did not come to its end: {why}; "
                               f"{self.pipeline.driven.log_of(stage)} holds what it printed.")
            tried = True
            self.tell(f"{stage.replace('-', ', round ', 1)}: training the {what}, run {self.pipeline.run_name(stage)}")
            if status.run is None or clear_unbegun(status.run):
                begin = [*words, "--name", self.pipeline.run_name(stage), "--runs-dir", str(self.pipeline.root)]
                self._process(stage, begin)
            else:
                # a person may have gone on judging into the file that it learns from
                self._process(stage, ["resume", str(status.run.path.resolve()), ACCEPT_DATA])

    def _measure(self, round_: int) -> None:
        if self.pipeline.measured(round_):
            return
        from rlhf_engine.pipelining.measuring import measured

        self.tell(f"round {round_}: sampling again, {self.plan.responses} responses")
        found = measured(self._run(f"policy-{round_}"), self._run(f"reward-{round_}"), self.plan)
        labels = judged(self.pipeline.labels, rater_name(self.plan))
        self.pipeline.write_measured(round_, {"labels": labels, **found})

    # --- processes ---

    def _process(self, stage: str, words: list[str]) -> None:
        """Runs a command of ours to its end. Raises Stopped."""
        if self._stopping:
            raise Stopped
        self._child = self.pipeline.driven.start(words, stage)
        while self._child.process.poll() is None:
            time.sleep(_POLL_SECONDS)
        if self._stopping:
            raise Stopped

    def _wait(self) -> None:
        if self._stopping:
            raise Stopped
        time.sleep(_POLL_SECONDS)

    def _said(self) -> str:
        """What the last process said at its end."""
        return ((self._child and self._child.last_error()) or "it printed nothing").rstrip(".")

    # --- runs ---

    def _run(self, stage: str) -> RunDir:
        return RunDir(self.pipeline.root / self.pipeline.run_name(stage))

    def _status(self, stage: str) -> CellStatus:
        return status_of(self.pipeline.root, Cell(self.pipeline.run_name(stage), (), 0),
                         at_work=self.pipeline.driven.running(stage))

    def _reward_words(self) -> list[str]:
        sets = reward_settings(self.pipeline.labels, self.plan)
        return ["train", self.plan.reward_preset, *(word for text in sets for word in ("--set", text))]


def rater_name(plan: PipelinePlan) -> str | None:
    """Whose judgements count; None where a person judges, for everybody's."""
    return f"simulated:{plan.rater}" if plan.rater else None


def judged(labels: Path, rater: str | None = None) -> int:
    """How many pairs `rater` has judged, or anybody where that is None, but for those skipped. Raises ConfigError for
    what is no label file."""
    if not labels.exists():
        return 0
    return len({judgement.pair.id for judgement in read_labels(labels)
                if rater in (None, judgement.rater) and judgement.verdict != "skip"})
