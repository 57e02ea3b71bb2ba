"""Best-of-n (rejection sampling): several responses to a prompt, of which the one that scores highest is kept.

What is kept can be learned by SFT, which so learns what the rewards like.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from rlhf_engine.config.methods.base import Needs
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.data.prompt_check import check_prompts
from rlhf_engine.data.rows import load_data, prompts_to_ask
from rlhf_engine.errors import ConfigError
from rlhf_engine.evaluation.generate import answer, load_tuned
from rlhf_engine.events import Sample
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.rewards.build import rewards_if_any
from rlhf_engine.runs.base_model import AS_IT_WAS, BaseChoice
from rlhf_engine.runs.run_dir import RunDir

_AT_ONCE = 64  # responses


def best_of(
    source: RunDir | RunConfig,
    *,
    n: int,
    count: int = 1,
    prompts: list[str] | None = None,
    tuned: bool,
    temperature: float | None = None,
    max_new_tokens: int | None = None,
    seed: int,
    base: BaseChoice = AS_IT_WAS,
    progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Sample]:
    """`count` times to each prompt the best of `n` responses, by a run's newest checkpoint (or its reference), or by
    the untrained model of a preset.

    prompts: all of the run's or the preset's if None. What else is None is as there. progress: takes how many responses
    of how many are sampled. Of responses that score alike the first is kept. Raises ConfigError where there are no
    prompts, or no rewards to choose by, before anything is sampled.
    """
    run_dir = source if isinstance(source, RunDir) else None
    config = run_dir.config() if run_dir else source
    assert isinstance(config, RunConfig)
    if tuned:
        config.algorithm.require_answers()
    rewards, no_scores = rewards_if_any(config, run_dir)
    if rewards is None:
        raise ConfigError(f"--best-of: {no_scores or 'there are no [[rewards]]'}, so nothing tells which is the best")
    step = 0
    if run_dir:
        policy, config, step = load_tuned(run_dir, base=base, tell=tell)
    else:
        policy = Policy.from_config(config, Needs(adapters=()))
    for text in policy.notices:
        tell(text)
    given = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    sampling = config.sampling.model_copy(update={name: value for name, value in given.items() if value is not None})
    config = config.model_copy(update={"sampling": sampling})
    asked = batch_to_answer(policy, config, prompts, tell).repeated(count * n)
    decoder = PreparedDecoder(policy, tell)
    best: list[Sample] = []
    for first in range(0, len(asked.prompts), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        found = answer(policy, asked.prompts[part], sampling, tuned=tuned, seed=(seed + first) % 2**63, rewards=rewards,
                       step=step if tuned else 0, decoder=decoder,
                       columns={name: column[part] for name, column in asked.columns.items()})
        for at, sample in enumerate(found, first):
            if at % n == 0:
                best.append(sample)
            elif _score(sample) > _score(best[-1]):
                best[-1] = sample
        progress(min(first + _AT_ONCE, len(asked.prompts)), len(asked.prompts))
    return best


def batch_to_answer(
    policy: Policy, config: RunConfig, prompts: list[str] | None, tell: Callable[[str], None]
) -> PromptBatch:
    """The prompts to answer, with the columns that rewards see of their rows."""
    columns = {}
    if prompts is None:
        rows = load_data(config).train
        if rows.kind == "prompts":
            prompts, columns = rows.prompts, dict(rows.columns)
        else:
            prompts = list(dict.fromkeys(prompts_to_ask(config)))
    if not prompts:
        raise ConfigError("--prompt: there are no prompts to answer; whole texts have none")
    checked = check_prompts(policy, config, prompts)
    if checked.notice:
        tell(checked.notice)
    return PromptBatch([prompts[at] for at in checked.places],
                       {name: [column[at] for at in checked.places] for name, column in columns.items()})


def _score(sample: Sample) -> float:
    """A reward that is no number is never the best."""
    return sample.score if sample.score is not None and not math.isnan(sample.score) else -math.inf
