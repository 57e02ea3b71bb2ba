"""Between two steps: rewards that learn while they reward, each asked whether it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rlhf_engine.algorithms.base import Algorithm
from rlhf_engine.config.fields import replace
from rlhf_engine.errors import RlhfError
from rlhf_engine.events import Notice
from rlhf_engine.rewards.base import Learnt, NotNowError
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs.reward_versions import versions_folder
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.course import Course
from rlhf_engine.training.journal import Journal
from rlhf_engine.training.setup import Setup


class RewardsLearning:
    """Those of one run, which has a directory for what they keep."""

    def __init__(
        self, run_dir: RunDir, course: Course, setup: Setup, journal: Journal, ending: Callable[[], bool]
    ) -> None:
        """ending: whether the run is to end: then what is being learnt is given up, for a resumed run learns it as
        well."""
        self._folder, self._course, self._setup = versions_folder(run_dir), course, setup
        self._journal, self._ending = journal, ending
        self._said: set[str] = set()

    def look(self, algorithm: Algorithm) -> None:
        """Let them learn before the step that comes, and go on with what they have become, made from its settings as a
        resumed run makes it. What could not be learnt is told, each once."""
        if self._setup.resources is None or self._setup.resources.rewards is None:
            return
        for index, learnt in self._learnt(self._setup.resources.rewards, self._folder, self._course.step + 1):
            changes = {f"rewards.{index}.{name}": value for name, value in learnt.settings.items()}
            changed = replace(self._course.config, changes)
            self._setup.reconfigure(changed, algorithm)
            self._course.change_to(changed, next(iter(changes)))
            self._journal.emit(Notice(learnt.text, learnt.level))

    def _learnt(self, rewards: RewardSum, folder: Path, step: int) -> Iterator[tuple[int, Learnt]]:
        """What each reward has become that has learnt, with its place among all."""
        for index, reward in rewards.learners:
            try:
                learnt = reward.learn_on(folder, step, self._go_on)
            except NotNowError:
                return
            except RlhfError as error:
                if str(error) not in self._said:
                    self._said.add(str(error))
                    self._journal.notice(str(error))
                continue
            if learnt is not None:
                yield index, learnt

    def _go_on(self, fraction: float) -> None:
        self._course.tell_progress("reward model", fraction)
        if self._ending():
            raise NotNowError
