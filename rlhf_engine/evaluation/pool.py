"""Responses of the reference, as many as it takes to hold what was trained against best-of-n."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.comparison import ComparisonModels, LoadedSide, answers_of
from rlhf_engine.evaluation.frontier import Frontier
from rlhf_engine.evaluation.standing import frontier_of, plan_pool
from rlhf_engine.events import Sample
from rlhf_engine.rewards.composite import RewardSum

if TYPE_CHECKING:
    from rlhf_engine.evaluation.compare import Pair, Progress


def draw_frontier(
    bench: ComparisonModels, sides: tuple[LoadedSide, LoadedSide], pairs: Sequence[Pair], settings: RunConfig,
    rewards: RewardSum | None, *, bound: int, seed: int, progress: Progress, cancelled: Callable[[], bool],
) -> Frontier | None:
    """Both sides of the pairs against best-of-n, from at most `bound` responses of the reference; None once cancelled.

    It is the reference of the first side that is trained. Responses of it that are among the pairs are part of the
    pool.
    """
    trained = [side for side in sides if side.tuned]
    if not rewards:
        return Frontier(why="best-of-n: without scores there is no best")
    if not trained:
        return Frontier(why="best-of-n: neither of the two is trained")
    samples = [[pair.reference for pair in pairs], [pair.tuned for pair in pairs]]
    kls = [fmean(math.nan if sample.kl is None else sample.kl for sample in found)
           for found, side in zip(samples, sides, strict=True) if side.tuned]
    plan = plan_pool([sample.prompt for sample in samples[0]], kls, bound)
    pool: dict[str, list[float]] = {prompt: [] for prompt in plan.prompts}

    def take(found: Sequence[Sample]) -> None:
        for sample in found:
            if sample.prompt in pool and sample.score is not None:
                pool[sample.prompt].append(sample.score)

    same = [bench.same_reference(side, trained[0]) for side in sides]
    for side, found, of_it in zip(sides, samples, same, strict=True):
        if of_it and not side.tuned:
            take(found)
    missing = [prompt for prompt, scores in pool.items() for _ in range(plan.each - len(scores))]
    with bench.answering_as(trained[0]) as policy:
        drawn = answers_of(policy, missing, settings, LoadedSide("reference", False, 0), rewards, seed,
                           lambda done: progress(done, len(missing)), cancelled)
    if drawn is None:
        return None
    take(drawn)
    first, second = (found if side.tuned else None for found, side in zip(samples, sides, strict=True))
    labels = (sides[0].label, sides[1].label)
    return frontier_of((first, second), labels, pool, plan.most, (not same[0], not same[1]))
