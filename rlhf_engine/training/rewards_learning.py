"""Between two steps: rewards that learn while they reward, each asked whether it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rlhf_engine.errors import RlhfError
from rlhf_engine.rewards.base import Learnt
from rlhf_engine.rewards.composite import RewardSum


class RewardsLearning:
    """Those of one run."""

    def __init__(self, tell: Callable[[str], None], progress: Callable[[str, float], None]) -> None:
        """tell: takes a sentence for the user about what could not be learnt, each once."""
        self._tell, self._progress = tell, progress
        self._said: set[str] = set()

    def look(self, rewards: RewardSum, folder: Path, step: int) -> Iterator[tuple[int, Learnt]]:
        """What each reward has become that has learnt, with its place among all. folder: for what they keep; step: the
        one that comes."""
        for index, reward in rewards.learners:
            try:
                learnt = reward.learn_on(folder, step, lambda fraction: self._progress("reward model", fraction))
            except RlhfError as error:
                if str(error) not in self._said:
                    self._said.add(str(error))
                    self._tell(str(error))
                continue
            if learnt is not None:
                yield index, learnt
