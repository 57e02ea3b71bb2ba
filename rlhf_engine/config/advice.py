"""Settings that are allowed together but do nothing, or not what they seem to: said once, in a sentence each."""

from __future__ import annotations

from rlhf_engine.config.run_config import RunConfig


def advice(config: RunConfig) -> list[str]:
    """One sentence for each such combination of settings; empty for a run that does what it says."""
    train, optimizer = config.train, config.optimizer
    found = []
    if optimizer.warmup_steps > train.steps:
        share = train.steps / optimizer.warmup_steps
        found.append(
            f"optimizer.warmup_steps {optimizer.warmup_steps} is more than train.steps {train.steps}: the learning "
            f"rates only reach {100 * share:.0f} % of what is set"
        )
    if train.max_rollbacks and train.rollback_factor == 1:
        found.append(
            "train.rollback_factor 1 repeats the same steps after a roll-back; below 1 the learning rates get lower"
        )
    if unused := config.data.unused_lists:
        found.append(
            f"data.source gives the rows: {' and '.join(f'data.{name}' for name in unused)} in the settings "
            f"{'is' if len(unused) == 1 else 'are'} not learnt from; data.source = none takes the list"
        )
    return [*found, *config.algorithm.advice(config)]
