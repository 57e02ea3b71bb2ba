"""How far a run should have gone: its score and gold over √KL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlhf_engine.commands.console import out, print_json, print_table, say
from rlhf_engine.commands.sampling import Seed
from rlhf_engine.commands.shared import (
    AsJson,
    Overrides,
    RunsDir,
    TrustCode,
    TrustRemoteCode,
    run_if_any,
    run_or_newest,
)
from rlhf_engine.commands.trusting import having_asked
from rlhf_engine.config import presets
from rlhf_engine.errors import ConfigError
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT
from rlhf_engine.runs.run_settings import settings_now

if TYPE_CHECKING:
    from rlhf_engine.evaluation.over_optimization import OverOptimization
    from rlhf_engine.maths.over_optimization import Fit

_LINES = 16  # of the table that people read
_TOLD_EVERY = 512  # responses


def overoptimization(
    source: Annotated[str | None, typer.Argument(
        metavar="[RUN|PRESET]", help="A run; with --best-of a run or a preset. The newest run if omitted.",
        show_default=False)] = None,
    best_of: Annotated[int | None, typer.Option(
        "--best-of", min=1, max=65536, metavar="N",
        help="No training: choose the best of up to N responses of the reference to each prompt by the score, and "
             "judge that.")] = None,
    seed: Seed = 0,
    overrides: Overrides = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    trust: TrustRemoteCode = None,
    trust_code: TrustCode = None,
    as_json: AsJson = False,
) -> int:
    """Hold a run's score against a gold reward over √KL, and say which step to go back to.

    Gold is a reward of weight 0, which is scored and not learnt from (sentinel.gold names another one); without one,
    the score less the deviation of the ensemble that gave it. Both get the fits of Gao et al. (2022), by least squares:
    for a run start + d (alpha − beta ln d), for best-of-n start + d (alpha − beta d), d = √KL. Where the fit of gold is
    highest the run should have stopped.

    With --json: source, form ("rl" or "best_of_n"), gold (null: the ensemble), points, each with step (or n), kl
    (nats), score and gold; score_fit and gold_fit, each with start, alpha, beta, deviation (of the points), and peak
    (√KL; value, low and high, null: none); stop (null: nowhere) with step (or n), kl, lost (how far gold fell since)
    and checkpoint (the nearest that is kept); why (there is no fit, or nowhere to stop), and score_length_corr.
    """
    if best_of is None and overrides:
        raise ConfigError("--set: the settings of a run are taken as they are; --best-of takes changes of a preset")
    found, name = _of_run(source, runs_dir) if best_of is None else _of_pool(
        source, runs_dir, best_of, seed, overrides or [], quiet=as_json)
    if as_json:
        print_json({"source": name, **_as_json(found)})
        return 0
    _print_table(found)
    out(*found.sentences())
    return 0


def _of_run(source: str | None, runs_dir: Any) -> tuple[OverOptimization, str]:
    from rlhf_engine.evaluation.over_optimization import of_run

    run_dir = run_if_any(source, runs_dir) if source is not None else run_or_newest(None, runs_dir)
    if run_dir is None:
        raise ConfigError(f"there is no run {source!r} under {runs_dir}; --best-of takes a preset, too")
    if settings_now(run_dir).algorithm.scores_texts:
        raise ConfigError(f"{run_dir.name} trains a reward model, which has no score to over-optimize: name a run that "
                          "is rewarded by it. How far its own probabilities hold, K shows in the list of runs.")
    return of_run(run_dir), run_dir.name


def _of_pool(
    source: str | None, runs_dir: Any, n: int, seed: int, overrides: list[str], *, quiet: bool
) -> tuple[OverOptimization, str]:
    if source is None:
        raise ConfigError("--best-of takes the responses of a run's reference, or of a preset's: name it")
    run_dir = run_if_any(source, runs_dir)
    if run_dir is not None and overrides:
        raise ConfigError("--set: the settings of a run are taken as they are")
    config = presets.load_with_overrides(source, overrides) if run_dir is None else None
    from rlhf_engine.evaluation.proxy_pool import over_optimize_best_of_n

    def progress(done: int, total: int) -> None:
        if not quiet and (done == total or done % _TOLD_EVERY == 0):
            say(f"{done}/{total} responses")

    asked = run_dir if run_dir is not None else config
    assert asked is not None
    return having_asked(lambda: over_optimize_best_of_n(asked, n=n, seed=seed, progress=progress, tell=say)), source


def _print_table(found: OverOptimization) -> None:
    from rlhf_engine.evaluation.over_optimization import thinned

    if not found.points:
        return
    judge, first = found.judge.name or "lower bound", "n" if found.form == "best_of_n" else "step"
    rows = []
    for point in thinned(found.points, _LINES):
        fits = [f"{fit.at(point.distance):.2f}" for fit in (found.proxy_fit, found.judge_fit) if fit]
        row = [str(point.step), f"{point.kl:.2f}", f"{point.distance:.2f}", f"{point.proxy:.2f}", f"{point.judge:.2f}"]
        rows.append([*row, *fits])
    head = [first, "KL", "√KL", "score", judge]
    print_table([*head, "score, fitted", f"{judge}, fitted"] if found.proxy_fit else head, rows)
    for what, fit in (("score", found.proxy_fit), (judge, found.judge_fit)):
        if fit is not None:
            second = "ln d" if fit.form == "rl" else "d"
            out(f"{what} ≈ {fit.start:.3g} + d ({fit.alpha:.3g} − {fit.beta:.3g} {second}), d = √KL"
                .replace("− -", "+ "))


def _as_json(found: OverOptimization) -> dict[str, Any]:
    stop = found.stop
    step = "n" if found.form == "best_of_n" else "step"
    return {
        "form": found.form, "gold": found.judge.name or None,
        "points": [{step: point.step, "kl": point.kl, "score": point.proxy, "gold": point.judge}
                   for point in found.points],
        "score_fit": _fit_json(found.proxy_fit), "gold_fit": _fit_json(found.judge_fit),
        "stop": stop and {step: stop.step, "kl": stop.kl, "lost": stop.lost, "checkpoint": stop.checkpoint},
        "why": found.why, "score_length_corr": found.length_corr,
    }


def _fit_json(fit: Fit | None) -> dict[str, Any] | None:
    if fit is None:
        return None
    return {"start": fit.start, "alpha": fit.alpha, "beta": fit.beta, "deviation": fit.deviation,
            "peak": fit.peak and {"value": fit.peak.value, "low": fit.peak.low, "high": fit.peak.high}}
