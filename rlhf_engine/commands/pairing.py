"""Make preferences: pairs of sampled responses, judged by rewards, as a file that methods learn from."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from rlhf_engine.commands.console import print_json, say
from rlhf_engine.commands.sampling import Seed
from rlhf_engine.commands.shared import (
    AcceptBase,
    AsJson,
    RunsDir,
    TrustCode,
    TrustRemoteCode,
    base_choice,
    run_if_any,
)
from rlhf_engine.commands.trusting import having_asked
from rlhf_engine.config import presets
from rlhf_engine.config.methods.base import Needs
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import load_data
from rlhf_engine.errors import ConfigError
from rlhf_engine.files.disk import replace_bytes, writing
from rlhf_engine.files.json_text import to_json
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.runs.run_code import require_own_run
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT, RunDir

if TYPE_CHECKING:
    from rlhf_engine.models.policy import Policy


def pairs(
    source: Annotated[str, typer.Argument(
        metavar="RUN|PRESET", help="Whose prompts, model and rewards: a run, or else a preset, or a path ending in "
                                   ".toml.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Where the pairs go.")],
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many pairs.")] = 300,
    responses: Annotated[int, typer.Option(min=2, max=1024, help="Responses to each prompt, of which the best and the "
                                                                 "worst are a pair.")] = 8,
    seed: Seed = 0,
    reference: Annotated[bool, typer.Option("--reference", help="Respond with the untrained model of a run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if there is one.")] = False,
    overrides: Annotated[list[str] | None, typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting of a preset; of a run, where its base model is now."
    )] = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    trust: TrustRemoteCode = None,
    trust_code: TrustCode = None,
    accept_base: AcceptBase = False,
    as_json: AsJson = False,
) -> int:
    """Sample pairs of responses and write them as preferences, for the methods that learn from pairs.

    Each prompt is answered several times, by a run's newest checkpoint or a preset's untrained model, and the rewards
    judge: the best answer is the chosen one, the worst the rejected one. Each line of FILE is a JSON object with
    prompt, chosen and rejected, chosen_score and rejected_score, chosen_finished and rejected_finished (false: cut at
    sampling.max_new_tokens, so that no end token is learnt there). `--set data.source=FILE` trains on it.

    With --json: file, pairs, prompts (how many were answered), chosen_score and rejected_score (means).
    """
    if file.suffix != ".jsonl":
        raise ConfigError(f"{file}: its name must end in .jsonl, for that is what is written, and how it is read")
    if file.exists() and not overwrite:
        raise ConfigError(f"{file} is there already; --overwrite replaces it")
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {file.parent}")
    run_dir = run_if_any(source, runs_dir)
    if run_dir:
        config = run_dir.config()
        require_own_run(run_dir, config)
    else:
        config = presets.load_with_overrides(source, overrides or [])
    if not config.rewards:
        raise ConfigError(f"{source} has no rewards, and nothing else says which response is better")
    rewards = having_asked(lambda: build_rewards(config.rewards))
    rows = load_data(config).train
    policy, config, tuned = _policy(run_dir, config, overrides, accept_base, reference)
    from rlhf_engine.data.prompt_check import cut_prompts
    from rlhf_engine.evaluation.sampled_pairs import sample_pairs

    for text in filter(None, (*policy.notices, cut_prompts(policy, rows.askable, config.sampling))):
        say(text)
    answered = 0

    def tell(found: int, groups: int) -> None:
        nonlocal answered
        answered = groups
        if not as_json:
            say(f"{found}/{count} pairs of {groups} prompts")

    made = list(sample_pairs(policy, config, rows, rewards, tuned=tuned, count=count, responses=responses, seed=seed,
                             tell=tell))
    with writing(file):
        replace_bytes(file, ((to_json(pair.row(), ascii_only=False) + "\n").encode() for pair in made))
    means = {f"{side}_score": fmean(getattr(pair, side).score or 0.0 for pair in made)
             for side in ("chosen", "rejected")}
    if as_json:
        print_json({"file": str(file), "pairs": len(made), "prompts": answered, **means})
    else:
        say(f"{len(made)} pairs in {file}: mean score {means['chosen_score']:+.2f} of chosen, "
            f"{means['rejected_score']:+.2f} of rejected responses")
    return 0


def _policy(
    run_dir: RunDir | None, config: RunConfig, overrides: list[str] | None, accept_base: bool, reference: bool
) -> tuple[Policy, RunConfig, bool]:
    """What answers, under which settings, and whether it was trained."""
    from rlhf_engine.evaluation.generate import load_tuned
    from rlhf_engine.models.policy import Policy

    if run_dir is None:
        return Policy.from_config(config, Needs(adapters=())), config, False
    if not reference:
        config.algorithm.require_answers()
    policy, config, _ = load_tuned(run_dir, base=base_choice(config, overrides, accept_base), tell=say)
    return policy, config, not reference
