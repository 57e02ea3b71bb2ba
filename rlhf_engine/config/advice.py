"""Settings that are allowed together but do nothing, or not what they seem to: said once, in a sentence each."""

from __future__ import annotations

import math

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.maths.estimators import kl_horizon

_LITTLE = 1.5  # a factor that the KL coefficient should be able to move by within a run


def advice(config: RunConfig) -> list[str]:
    """One sentence for each such combination of settings; empty for a run that does what it says."""
    train, ppo, optimizer = config.train, config.ppo, config.optimizer
    found = []
    if train.critic_warmup_steps >= train.steps:
        found.append(
            f"train.critic_warmup_steps {train.critic_warmup_steps} is not below train.steps {train.steps}: the critic "
            "trains alone to the end, and the actor never learns"
        )
    if optimizer.warmup_steps > train.steps:
        share = train.steps / optimizer.warmup_steps
        found.append(
            f"optimizer.warmup_steps {optimizer.warmup_steps} is more than train.steps {train.steps}: the learning "
            f"rates only reach {100 * share:.0f} % of what is set"
        )
    minibatches = math.ceil(ppo.responses_per_step / ppo.minibatch_size)
    if ppo.target_kl is not None and ppo.epochs * minibatches == 1:
        found.append(
            "ppo.target_kl stops nothing: with one epoch of one minibatch a step has a single optimizer step, which "
            "is always taken"
        )
    if rest := ppo.responses_per_step % ppo.minibatch_size:
        found.append(
            f"ppo.responses_per_step {ppo.responses_per_step} is no multiple of ppo.minibatch_size "
            f"{ppo.minibatch_size}: the last minibatch of each epoch has {rest} and counts as much as the others"
        )
    if train.max_rollbacks and train.rollback_factor == 1:
        found.append(
            "train.rollback_factor 1 repeats the same steps after a roll-back; below 1 the learning rates get lower"
        )
    horizon = kl_horizon(config.kl.horizon, responses=ppo.responses_per_step, steps=train.steps)
    reach = math.exp(train.steps * math.log1p(0.2 * ppo.responses_per_step / horizon))
    if config.kl.controller == "adaptive" and train.steps > 1 and reach < _LITTLE:
        found.append(
            f"kl.horizon {horizon:g} is long for {train.steps} steps of {ppo.responses_per_step} responses: "
            f"kl.coef can rise by {100 * (reach - 1):.0f} % at most in the whole run; none chooses one that fits"
        )
    return found
