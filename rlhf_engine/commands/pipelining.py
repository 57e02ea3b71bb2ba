"""The whole loop as one command: sample, label, learn a reward model, optimize it, sample again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from rlhf_engine.commands.console import out, print_json, say, stopped_by_signals
from rlhf_engine.commands.sampling import Seed
from rlhf_engine.commands.shared import AsJson, Overrides, Preset, RunsDir, TrustCode, TrustRemoteCode, wrong_usage
from rlhf_engine.commands.trusting import having_asked
from rlhf_engine.config import presets
from rlhf_engine.data.rows import prompts_to_ask
from rlhf_engine.errors import ConfigError
from rlhf_engine.pipelining.stages import REWARD_PRESET, policy_config, reward_settings
from rlhf_engine.runs.pipeline_dir import PipelineDir, PipelinePlan
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT


def pipeline(
    preset: Preset,
    rater: Annotated[str | None, typer.Option(metavar="PRESET", help="Let the rewards of a preset judge in a person's "
                                                                     "place.", show_default=False)] = None,
    error: Annotated[float, typer.Option(min=0, max=0.5, help="Share of its judgements that are turned round.")] = 0.0,
    temperature: Annotated[float, typer.Option(min=0, max=1000, help="0: the higher score wins; above: with "
                                                                     "probability sigmoid(gap / temperature).")] = 0.0,
    labels: Annotated[int, typer.Option(min=1, max=1_000_000, help="Judgements in each round.")] = 300,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often: later rounds judge what the policy before "
                                                             "answers.")] = 1,
    responses: Annotated[int, typer.Option(min=2, max=1_000_000, help="Fresh responses that each round is measured by."
                                           )] = 200,
    seed: Seed = 0,
    name: Annotated[str | None, typer.Option(help="The pipeline's name; that of the preset if omitted.",
                                             show_default=False)] = None,
    overrides: Overrides = None,
    reward_model: Annotated[str, typer.Option("--reward-model", metavar="PRESET", help="The preset of the reward "
                                                                                       "model.")] = REWARD_PRESET,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    trust: TrustRemoteCode = None,
    trust_code: TrustCode = None,
    as_json: AsJson = False,
) -> int:
    """Learn from preferences, from the first label to the tuned policy.

    Each round samples pairs and has them judged, trains a reward model on all judgements so far and a policy on what
    the reward model says (--set algorithm.kind chooses the method; DPO learns from the pairs themselves), and samples
    again. Each stage is an ordinary run beside the pipeline's folder, .pipelines/NAME; what is done stays: the same
    command goes on after Ctrl-C, a kill or a crash. Without --rater a person judges: it says how, and goes on then.

    With --json one line at the end: labels, reward_model.accuracy (against the rater without its errors, on fresh
    pairs), hidden_score.reference and hidden_score.tuned (by the rater's rewards, null without one), kl (nats per
    response) and seconds (of this start).
    """
    began = time.monotonic()
    plan = PipelinePlan(_whole(preset), _whole(reward_model), tuple(overrides or ()), _whole(rater) if rater else "",
                        error, temperature, labels, rounds, responses, seed)
    root, called = runs_dir.resolve(), Path(preset).stem if name is None else name
    with wrong_usage():
        having_asked(lambda: _require_sound(PipelineDir.named(root, called), plan))
        made = PipelineDir.begin(root, called, plan)
    from rlhf_engine.pipelining.drive import PipelineDrive, Stopped

    with made.driven.lock():
        drive = PipelineDrive(made, made.plan(), say)
        with stopped_by_signals(drive.stop, leave=drive.stop) as signals:
            try:
                found = drive.run()
            except Stopped:
                say(f"pipeline {made.name} stopped; the same command goes on")
                return signals.exit_code or 1
    found = {**found, "seconds": round(time.monotonic() - began, 1)}
    if as_json:
        print_json(found)
    else:
        out(*(f"{key}: {_shown(value)}" for key, value in found.items()))
    return 0


def _require_sound(pipeline: PipelineDir, plan: PipelinePlan) -> None:
    """Raises ConfigError or RunError for a plan with a stage that could not be begun: before any is, and before the
    plan is kept, since a pipeline that is there goes on with no other."""
    config = policy_config(pipeline, plan, 1)
    config.algorithm.require_answers()
    if plan.rater and not presets.load(plan.rater).rewards:
        raise ConfigError(f"--rater: the preset {plan.rater} has no rewards, by which it could judge")
    learnt = presets.load_with_overrides(plan.reward_preset, reward_settings(pipeline.labels, plan)).algorithm
    if not learnt.scores_texts:
        raise ConfigError(f"--reward-model: the preset {plan.reward_preset} trains by {learnt.title}, and no reward "
                          "model")
    if config.algorithm.needs.batch == "prompts":
        prompts_to_ask(config)


def _whole(preset: str) -> str:
    """The name of a preset, which must exist, or its whole path: stages run elsewhere. Raises ConfigError."""
    found = presets.find(preset)
    return str(found.resolve()) if preset.endswith(".toml") else preset


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "not known" if value is None else str(value)
