"""Between two steps: rewards that learn while they reward, each asked whether it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rlhf_engine.errors import RlhfError
from rlhf_engine.rewards.base import Learnt, NotNowError
from rlhf_engine.rewards.composite import RewardSum


class RewardsLearning:
    """Those of one run."""

    def __init__(
        self, tell: Callable[[str], None], progress: Callable[[str, float], None], ending: Callable[[], bool]
    ) -> None:
        """tell: takes a sentence for the user about what could not be learnt, each once. ending: whether the run is to
        end: then what is being learnt is given up, for a resumed run learns it as well."""
        self._tell, self._progress, self._ending = tell, progress, ending
        self._said: set[str] = set()

    def look(self, rewards: RewardSum, folder: Path, step: int) -> Iterator[tuple[int, Learnt]]:
        """What each reward has become that has learnt, with its place among all. folder: for what they keep; step: the
        one that comes."""
        for index, reward in rewards.learners:
            try:
                learnt = reward.learn_on(folder, step, self._go_on)
            except NotNowError:
                return
            except RlhfError as error:
                if str(error) not in self._said:
                    self._said.add(str(error))
                    self._tell(str(error))
                continue
            if learnt is not None:
                yield index, learnt

    def _go_on(self, fraction: float) -> None:
        self._progress("reward model", fraction)
        if self._ending():
            raise NotNowError
