"""Look at what was learnt: compare, generate, score."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rlhf_engine.commands.console import out, print_json, print_table, say
from rlhf_engine.commands.rows_out import require_new, write_rows
from rlhf_engine.commands.shared import (
    AcceptBase,
    AsJson,
    AtStep,
    BaseMoved,
    Overrides,
    Preset,
    RunsDir,
    TrustCode,
    TrustRemoteCode,
    base_choice,
    run_at_step,
    run_if_any,
    run_or_newest,
)
from rlhf_engine.commands.trusting import ask_for_scores, having_asked
from rlhf_engine.config import presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import prompts_to_ask
from rlhf_engine.errors import ConfigError, ModelError, PromptError, short
from rlhf_engine.evaluation.frontier import POOL
from rlhf_engine.events import Sample
from rlhf_engine.requests import Side
from rlhf_engine.rewards.build import build_rewards, rewards_of
from rlhf_engine.runs.base_model import AS_IT_WAS
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT, RunDir

# a comparison counts up from its seed, and torch takes 64 bits
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="The same seed gives the same texts.")]

_TOLD_EVERY = 256  # responses of a pool

if TYPE_CHECKING:
    from rlhf_engine.evaluation.compare import Comparison, Row
    from rlhf_engine.maths.statistics import Estimate


def compare(
    source: AtStep = None,
    other: Annotated[str | None, typer.Argument(metavar="[RUN2[@STEP]]", help="What to compare it with; the reference "
                                                                              "if omitted.")] = None,
    responses: Annotated[int, typer.Option(min=2, help="Responses of each of the two.")] = 200,
    seed: Seed = 0,
    pool: Annotated[int, typer.Option(min=0, metavar="N", help="Most responses of the reference, in all, to hold both "
                                      "against best-of-n; 0 for none.")] = POOL,
    moved: BaseMoved = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    trust: TrustRemoteCode = None,
    trust_code: TrustCode = None,
    accept_base: AcceptBase = False,
    as_json: AsJson = False,
) -> int:
    """Compare reference and tuned on paired samples, or any two checkpoints.

    Differences come with 95 % confidence intervals (CI). Two checkpoints respond to the prompts of the first one's
    run and are scored by its rewards.

    Whatever is trained is held against best-of-n: the reference, with the best of n of its responses kept, where that
    has the same KL. The share of its gain says what training made of its KL. More KL takes a larger pool.

    With --json: run, step (null: the newest), responses and seed, and reference, tuned and difference, each with
    liked_share, disliked_share, mean_score, score/REWARD and score/REWARD/PART (what each adds to the score),
    kl_nats_per_response, distinct_1, distinct_2 and mean_length, each with value, low and high. With two checkpoints:
    first and second (in place of reference and tuned), sides (what they are) and settings_of. Where the rewards cannot
    be had: no_scores, which says why, and neither shares nor scores. With a pool: best_of_n, with
    responses_per_prompt, prompts, curve (of points with n, kl and score), and for each side (null: the reference) kl,
    score, n (the best of how many scores the same), n_at_kl (the best of how many has its KL) and share (of the gain
    of best-of-n at its KL; null where that cannot be told: why says the reason); or why alone.
    """
    run_dir, step = run_at_step(source, runs_dir)
    second = run_at_step(other, runs_dir) if other else None
    base = base_choice(run_dir.config(), moved, accept_base)
    ask_for_scores(run_dir, step)
    from rlhf_engine.evaluation.compare import compare as compare_sides
    from rlhf_engine.evaluation.compare import compare_run

    def progress(done: int, total: int) -> None:
        if not as_json:
            say(f"{done}/{total} pairs")

    def pooled(done: int, total: int) -> None:
        if not as_json and (done == total or done % _TOLD_EVERY == 0):
            say(f"{done}/{total} responses of the reference, for best-of-n")

    if second is None:
        result = compare_run(run_dir, step, responses=responses, seed=seed, base=base, pool=pool, progress=progress,
                             pooled=pooled, tell=say)
    else:
        sides = (Side("checkpoint", run_dir.path, step), Side("checkpoint", second[0].path, second[1]))
        result = compare_sides(None, None, responses=responses, seed=seed, sides=sides, base=base, pool=pool,
                               progress=progress, pooled=pooled, tell=say)
    if result is None:  # only a cancelled comparison has no result, and nothing cancels this one
        return 130
    if as_json:
        about: dict[str, Any] = {"run": run_dir.name, "step": step, "responses": responses, "seed": seed}
        if second is not None:
            about |= {"sides": list(result.labels), "settings_of": result.settings_of}
        if result.no_scores:
            about |= {"no_scores": result.no_scores}
        print_json({**about, **_comparison_json(result, ("reference", "tuned") if second is None
                                                else ("first", "second"))})
    else:
        if result.settings_of:
            what = "prompts and sampling" if result.no_scores else "prompts, sampling and rewards"
            say(f"{what} of {result.settings_of}")
        if result.no_scores:
            say(result.no_scores)
        rows = [_comparison_row(row) for row in result.rows if not row.idle]
        print_table(["", *result.labels, "difference (95 % CI)"], rows)
        if result.frontier and not result.no_scores:
            out(*result.frontier.sentences())
            if result.frontier.curve:
                say(f"best-of-n from {result.frontier.source}")
    return 0


def generate(
    source: Annotated[str | None, typer.Argument(
        metavar="[RUN|MODEL|PRESET]", help="A run, or a model as in model.name; with --best-of a run or a preset. The "
                                           "newest run if omitted.",
        show_default=False)] = None,
    prompt: Annotated[list[str] | None, typer.Option(
        help="A prompt to continue; repeatable. If omitted the run's first; with --best-of all of them.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Above 0; the run's if omitted.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, max=8192, help="Longest; the run's if omitted.")] = None,
    seed: Seed = 0,
    count: Annotated[int, typer.Option(min=1, help="Responses to each prompt.")] = 1,
    best_of: Annotated[int | None, typer.Option(
        "--best-of", min=1, max=65536, metavar="N", help="Sample N for each response, and keep the one that scores "
                                                         "highest by the rewards.")] = None,
    rows_file: Annotated[Path | None, typer.Option(
        "--out", metavar="FILE.jsonl", help="Write rows of prompt, response and score, to learn from as "
                                            "data.source.")] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Respond with the untrained model.")] = False,
    moved: BaseMoved = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    trust: TrustRemoteCode = None,
    trust_code: TrustCode = None,
    accept_base: AcceptBase = False,
    as_json: AsJson = False,
) -> int:
    """Continue prompts with a run or a model.

    Of a run, its newest checkpoint responds. With --best-of, of a preset, its untrained model, under settings that
    --set may change; what --out then writes is learned by SFT: `train sft --set data.source=FILE.jsonl`.

    With --json: source, tuned and samples, each with prompt, response, score, parts, kl_nats (the log-ratio:
    log π − log π_ref, summed over the response), tokens and finished.
    Where the run's rewards cannot be had, its responses have a score of null, and no_scores says why.
    """
    if temperature is not None and not 0 < temperature <= 10:
        raise ConfigError(f"--temperature: {temperature} is not a number above 0 and up to 10")
    if rows_file is not None:
        require_new(rows_file)
    if source is None:
        source = str(run_or_newest(None, runs_dir).path)
    run_dir = run_if_any(source, runs_dir)
    tuned = run_dir is not None and not reference
    given = _Given(prompt, temperature, max_new_tokens, seed, count, tuned)
    if best_of is not None:
        samples, no_scores = _chosen(run_dir, source, given, best_of, moved or [], accept_base, quiet=as_json), ""
    else:
        samples, no_scores = _sampled(run_dir, source, given, moved or [], accept_base, runs_dir)
    if rows_file is not None:
        write_rows(rows_file, samples)
        say(f"{len(samples)} rows written to {rows_file}")
        if not as_json:
            return 0
    if as_json:
        rows = [{"prompt": s.prompt, "response": s.response, "score": s.score,
                 "parts": dict(s.parts), "kl_nats": s.kl, "tokens": s.tokens, "finished": s.finished} for s in samples]
        why = {"no_scores": no_scores} if no_scores else {}
        print_json({"source": source, "tuned": tuned, **why, "samples": rows})
    else:
        if no_scores:
            say(no_scores)
        out(*"\n\n".join(sample.prompt + sample.response for sample in samples).split("\n"))
    return 0


class _Given(NamedTuple):
    """What the command line says about responses."""

    prompts: list[str] | None
    temperature: float | None
    max_new_tokens: int | None
    seed: int
    each: int
    tuned: bool


def _sampled(
    run_dir: RunDir | None, source: str, given: _Given, moved: list[str], accept_base: bool, runs_dir: Path
) -> tuple[list[Sample], str]:
    """Responses of a run or a model, and why they have no scores; see `generate_texts`."""
    config = run_dir.config() if run_dir else None
    if config is None and moved:
        raise ConfigError("--set: only a run has a base model that may have moved; a model is named itself")
    base = base_choice(config, moved, accept_base) if config else AS_IT_WAS
    prompts = given.prompts or (prompts_to_ask(config)[:1] if config else None)
    if not prompts:
        raise ConfigError("--prompt: a model needs at least one prompt; an empty one starts a text from nothing")
    if run_dir:
        ask_for_scores(run_dir)
    from rlhf_engine.evaluation.generate import generate_texts

    try:
        return generate_texts(
            run_dir or source, prompts=[text for text in prompts for _ in range(given.each)], tuned=given.tuned,
            seed=given.seed, temperature=given.temperature, max_new_tokens=given.max_new_tokens, base=base, tell=say)
    except ModelError as error:
        if run_dir or isinstance(error, PromptError):
            raise
        reason = str(error).rstrip(".")
        raise ModelError(f"{reason}; nor is there a run {source!r} under {runs_dir}.") from error


def _chosen(
    run_dir: RunDir | None, source: str, given: _Given, n: int, overrides: list[str], accept_base: bool, *, quiet: bool
) -> list[Sample]:
    """The best of `n` for each response; see `evaluation.best_of`."""
    base, preset = AS_IT_WAS, None
    if run_dir:
        base = base_choice(run_dir.config(), overrides, accept_base)
        ask_for_scores(run_dir)
    else:
        preset = presets.load_with_overrides(source, overrides)
        if preset.rewards:
            having_asked(lambda: build_rewards(preset.rewards))
    from rlhf_engine.evaluation.best_of import best_of

    def progress(done: int, total: int) -> None:
        if not quiet:
            say(f"{done}/{total} responses")

    asked: RunDir | RunConfig | None = run_dir or preset
    assert asked is not None
    return best_of(asked, n=n, count=given.each, prompts=given.prompts, tuned=given.tuned,
                   temperature=given.temperature, max_new_tokens=given.max_new_tokens, seed=given.seed, base=base,
                   progress=progress, tell=say)


def score(
    preset: Preset,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Texts to score.")],
    prompt: Annotated[str | None, typer.Option(
        help="The prompt that they respond to; rewards see the columns of the row of the data that has it.")] = None,
    column: Annotated[list[str] | None, typer.Option(
        metavar="NAME=VALUE", help="A column that rewards see, such as the right answer; repeatable.")] = None,
    overrides: Overrides = None,
    trust_code: TrustCode = None,
    as_json: AsJson = False,
) -> int:
    """Score texts with a preset's rewards.

    With --json: preset and scores, each with text, total, parts and not_applied (names of the rewards that do not apply
    to it, for want of a column, say).
    """
    config = presets.load_with_overrides(preset, overrides or [])
    given = _columns(column or [])
    lookup = prompt is not None and not given
    rewards = having_asked(lambda: rewards_of(config) if lookup else build_rewards(config.rewards))
    columns = {name: [value] * len(texts) for name, value in given.items()} or None
    batch = rewards.score([prompt or ""] * len(texts), texts, columns)
    idle = [[name for name, totals in batch.by_reward.items() if totals[at] is None] for at in range(len(texts))]
    if as_json:
        rows = [{"text": text, "total": found.total, "parts": dict(found.parts), "not_applied": names}
                for text, found, names in zip(texts, batch.scores, idle, strict=True)]
        print_json({"preset": preset, "scores": rows})
        return 0
    for text, found, names in zip(texts, batch.scores, idle, strict=True):
        parts = [f"{name} {value:+.2f}" for name, value in found.parts.items() if value]
        parts += [f"{name} does not apply" for name in names]
        out(f"{found.total:+.2f}  {text}" + (f"  ({', '.join(parts)})" if parts else ""))
    return 0


def _columns(given: list[str]) -> dict[str, str]:
    columns = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise ConfigError(f"--column: {short(repr(one))} is not of the form NAME=VALUE")
        columns[name] = value
    return columns


def _comparison_json(result: Comparison, names: tuple[str, str]) -> dict[str, dict[str, Any]]:
    fields = {names[0]: "reference", names[1]: "tuned", "difference": "difference"}
    found: dict[str, dict[str, Any]] = {
        name: {row.key: asdict(getattr(row, side)) for row in result.rows} for name, side in fields.items()}
    frontier = result.frontier
    if frontier is None:
        return found
    if frontier.why:
        return {**found, "best_of_n": {"why": frontier.why}}
    sides = {name: standing and asdict(standing) for name, standing in zip(names, frontier.standings, strict=True)}
    return {**found, "best_of_n": {"responses_per_prompt": frontier.responses, "prompts": frontier.prompts,
                                   "curve": [asdict(point) for point in frontier.curve], **sides}}


def _comparison_row(row: Row) -> list[str]:
    from rlhf_engine.evaluation.compare import SHARES

    share = row.key in SHARES

    def shown(estimate: Estimate) -> str:
        return f"{100 * estimate.value:.1f} %" if share else f"{estimate.value:.3f}"

    low, high = (100 * x if share else x for x in (row.difference.low, row.difference.high))
    return [row.label, shown(row.reference), shown(row.tuned), f"{shown(row.difference)}  ({low:+.3g} to {high:+.3g})"]
