"""Answers to prompts outside training: sampled, scored, and measured against the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rlhf_engine.algorithms.learners import load_adapters
from rlhf_engine.algorithms.report import samples_of
from rlhf_engine.config.methods.base import Needs
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import LoraConfig, ModelConfig, SamplingConfig
from rlhf_engine.data.prompt_check import cut_prompts
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.events import Sample
from rlhf_engine.maths.estimators import kl_k1, summed
from rlhf_engine.models.decoding.plain import Decoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import OnToken, Rollout, sample
from rlhf_engine.rewards.base import Columns
from rlhf_engine.rewards.build import rewards_if_any
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.base_model import AS_IT_WAS, BaseChoice, base_fingerprint
from rlhf_engine.runs.run_dir import RunDir


def answer(
    policy: Policy,
    prompts: list[str],
    sampling: SamplingConfig,
    *,
    tuned: bool,
    seed: int,
    rewards: RewardSum | None = None,
    step: int = 0,
    decoder: Decoder | None = None,
    on_token: OnToken | None = None,
    columns: Columns | None = None,
) -> list[Sample]:
    """One sample for each prompt, by the actor (`tuned`) or the reference, from the same noise for the same seed.

    `kl` is 0 for the reference's own answers. Without rewards there are no scores. decoder: see `sample`; one that
    holds the actor's weights cannot answer as the reference. columns: what rewards see of the rows that the prompts are
    from.
    """
    if rewards:
        rewards.use_policy(policy)
    generator = torch.Generator(policy.device).manual_seed(seed)
    with policy.as_role("actor" if tuned else "reference"):
        rollout = sample(policy, prompts, sampling, generator, decoder=decoder, on_token=on_token)
    kl = _response_kl(policy, rollout, sampling.temperature) if tuned else [0.0] * len(prompts)
    # a reward may draw random numbers: not those of a run that goes on after this
    with torch.random.fork_rng(devices=[policy.device] if policy.device.type == "cuda" else []):
        scores = rewards.score(prompts, rollout.responses, columns).scores if rewards else None
    return list(samples_of(rollout, scores, kl, step))


@dataclass(frozen=True)
class LoadedRun:
    """A run as of one of its checkpoints. numbers: what its method had counted by then (`Algorithm.state`)."""

    policy: Policy
    config: RunConfig
    step: int
    numbers: Mapping[str, Any]


def load_run(
    run_dir: RunDir, step: int | None = None, *, base: BaseChoice = AS_IT_WAS,
    tell: Callable[[str], None] = lambda text: None,
) -> LoadedRun:
    """The policy of a run's checkpoint of `step` (None: the newest), with the config as edited by then.

    tell: takes sentences about newer checkpoints that are damaged. Raises CheckpointError, BaseChangedError when the
    base model is another one now, and ModelError.
    """
    state = checkpoint.state_at(run_dir, step, tell)
    config = base.placed(state.config)
    base.check(run_dir.name, state.base, base_fingerprint(config.model), config.model)
    policy = Policy.from_config(config)
    base.check(run_dir.name, state.base, policy.fingerprint, config.model)  # a hub model may have come with it
    load_adapters(policy, state.tensors)
    return LoadedRun(policy, config, state.step, state.numbers)


def load_tuned(
    run_dir: RunDir, step: int | None = None, *, base: BaseChoice = AS_IT_WAS,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Policy, RunConfig, int]:
    """`load_run` for what needs no more than the policy, the config and the step."""
    loaded = load_run(run_dir, step, base=base, tell=tell)
    return loaded.policy, loaded.config, loaded.step


def generate_texts(
    source: RunDir | str,
    *,
    prompts: list[str],
    tuned: bool,
    temperature: float | None = None,
    max_new_tokens: int | None = None,
    seed: int,
    base: BaseChoice = AS_IT_WAS,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[list[Sample], str]:
    """Answers by a run's newest checkpoint (or its reference), or by a plain model named as in `model.name`.

    What is None is as in the run by then, else the default. With them comes why they have no scores, if a run's rewards
    cannot be had; a plain model has none. tell: takes sentences about damaged checkpoints, the
    model's tokens, and prompts that are cut.
    """
    given = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    changes = {name: value for name, value in given.items() if value is not None}
    if isinstance(source, RunDir):
        if tuned:
            source.config().algorithm.require_answers()  # before its model is loaded for nothing
        policy, config, step = load_tuned(source, base=base, tell=tell)
        sampling = config.sampling.model_copy(update=changes)
        rewards, no_scores = rewards_if_any(config, source)
        for text in filter(None, (*policy.notices, cut_prompts(policy, prompts, sampling))):
            tell(text)
        return answer(policy, prompts, sampling, tuned=tuned, seed=seed, rewards=rewards, step=step), no_scores
    policy = Policy.load(ModelConfig(name=source), LoraConfig(), Needs(adapters=()), seed=0)
    for text in policy.notices:
        tell(text)
    return answer(policy, prompts, SamplingConfig().model_copy(update=changes), tuned=False, seed=seed), ""


@torch.no_grad()
def _response_kl(policy: Policy, rollout: Rollout, temperature: float) -> list[float]:
    ids, mask, response_mask = rollout.batch(torch.arange(len(rollout)))
    width = response_mask.shape[1]
    actor = policy.log_probs("actor", ids, mask, width, temperature).log_probs
    reference = policy.log_probs("reference", ids, mask, width, temperature).log_probs
    kl = summed(kl_k1(actor, reference), response_mask)
    if not kl.isfinite().all():
        raise NonFiniteError("log-probabilities of the responses are not finite")
    return [float(value) for value in kl]
