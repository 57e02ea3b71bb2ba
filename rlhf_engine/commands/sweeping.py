"""A grid of runs, and what they have come to: the command `sweep`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlhf_engine.commands.console import out, print_json, say, stopped_by_signals
from rlhf_engine.commands.shared import AsJson, RunsDir, TrustCode, TrustRemoteCode, wrong_usage
from rlhf_engine.commands.sweep_report import Picture, SweepReporter, result_json, result_lines
from rlhf_engine.commands.trusting import having_asked
from rlhf_engine.errors import ConfigError
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT
from rlhf_engine.runs.sweep_dir import MOST_JOBS, SweepDir
from rlhf_engine.sweeping.cells import DIVERGED, FAILED, FINISHED, CellStatus
from rlhf_engine.sweeping.drive import Drive, summary
from rlhf_engine.sweeping.prepare import POOL, RESPONSES, Prepared, SweepRequest, prepare, prepare_again
from rlhf_engine.sweeping.results import Answers, results_of
from rlhf_engine.system.streams import lead_to


def sweep_command(picture: Picture | None = None) -> Callable[..., int]:
    """The command. picture: draws score against KL, where there is something to draw with."""

    def sweep(
        preset: Annotated[str | None, typer.Argument(
            metavar="PRESET", help="A preset's name, or a path ending in .toml.", show_default=False)] = None,
        overrides: Annotated[list[str] | None, typer.Option(
            "--set", metavar="KEY=VALUE[,VALUE...]", help="Change a setting; with several values, run each of them; "
                                                          "repeatable.")] = None,
        seeds: Annotated[str | None, typer.Option(
            metavar="N|SEED,SEED,...", help="How many seeds, from train.seed on, or which. 1 if omitted.",
            show_default=False)] = None,
        jobs: Annotated[int | None, typer.Option(
            min=1, max=MOST_JOBS, metavar="N", help="Runs at once, which share the CPU's threads. 1 if omitted.",
            show_default=False)] = None,
        name: Annotated[str | None, typer.Option(
            help="What the sweep is called; after the preset and what varies if omitted.", show_default=False)] = None,
        resume: Annotated[str | None, typer.Option(
            "--resume", metavar="NAME", help="Go on with the sweep of that name, as the same command does.",
            show_default=False)] = None,
        responses: Annotated[int | None, typer.Option(
            min=2, max=100_000, help=f"Fresh responses of each final policy. {RESPONSES} if omitted.",
            show_default=False)] = None,
        pool: Annotated[int | None, typer.Option(
            min=0, max=10_000_000, metavar="N", help="Most responses of the reference, in all, to hold runs against "
                                                     f"best-of-n; 0 for none. {POOL} if omitted.",
            show_default=False)] = None,
        runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
        trust: TrustRemoteCode = None,
        trust_code: TrustCode = None,
        as_json: AsJson = False,
    ) -> int:
        """Train a grid of runs, and tell what they came to, with intervals over seeds.

        `--set algorithm.kind=ppo,grpo --set kl.target=2,4 --seeds 3` is 12 runs: each of the four combinations with
        the preset's train.seed and the two after it. Commas in brackets or quotes part nothing. All runs are checked
        before the first one begins. Each is a run like any other, named after what differs.

        Ctrl-C stops the runs, with checkpoints. The same command goes on: what is finished stays, what was stopped or
        killed is resumed, what failed is tried again, and more values or seeds are added.

        When all have ended, each final policy answers the preset's prompts (those that are held out, if it has some)
        from the same random numbers, and is held against best-of-n of its reference, as `compare` does. Tables give
        means and 95 % confidence intervals over seeds (Student's t).

        With --json: an object each time a run has come further (event "run": run, state, step, total_steps, message,
        seconds, metrics) and one at the end (event "end": sweep, path, state, runs, points, models). runs: each with
        run, path, values, seed, state, step, total_steps, message, measures (score, share, kl, distinct_1, distinct_2,
        mean_length, seconds, responses, peak_memory, peak_cuda), final (metrics of its last step) and best_of_n (as
        in `compare`). points: each with values, model (if there are several), runs, measured (how many of them),
        measures and final, each value with value, low and high (null: one run has no interval). models: each with
        model, reference (its measures) and best_of_n (responses_per_prompt, prompts and curve, or why).
        """
        prepared = having_asked(lambda: _prepared(preset, overrides or [], seeds, jobs, name, resume, responses, pool,
                                                  runs_dir))
        with wrong_usage():
            sweep = prepared.keep(runs_dir)
        with sweep.driven.lock():
            return _run(sweep, prepared, as_json, picture)

    return sweep


def _prepared(
    preset: str | None, settings: list[str], seeds: str | None, jobs: int | None, name: str | None, resume: str | None,
    responses: int | None, pool: int | None, runs_dir: Path,
) -> Prepared:
    if resume is not None:
        given = {"PRESET": preset, "--set": settings, "--seeds": seeds, "--name": name}
        if extra := [option for option, value in given.items() if value]:
            raise ConfigError(f"--resume goes on with a sweep as it is, without {' and '.join(extra)}")
        return prepare_again(resume, runs_dir, jobs, responses, pool)
    if preset is None:
        raise ConfigError("sweep: which preset? `rlhf-tui sweep PRESET --set KEY=VALUE,VALUE`, or --resume NAME")
    asked = SweepRequest(preset, tuple(settings), "1" if seeds is None else seeds, name, responses, pool)
    return prepare(asked, runs_dir, jobs or 1)


def _run(sweep: SweepDir, prepared: Prepared, as_json: bool, picture: Picture | None) -> int:
    totals = {run: config.train.steps for run, config in prepared.configs.items()}
    drive = Drive(sweep, prepared.plan, totals, told=lambda status: None)
    reporter = SweepReporter(drive, prepared, as_json, drive.stop, partial(_into_log, sweep))
    drive.told = reporter.told
    reporter.begin([*prepared.plan.grid.notes(), *_about_jobs(prepared)])
    # a terminal that has gone takes nothing with it: the rest is told in the sweep's log
    with stopped_by_signals(drive.stop, leave=drive.stop, hung_up=partial(_into_log, sweep)) as signals:
        statuses = drive.run()
        stopped = signals.received is not None or reporter.failed
        answers: list[Answers] | None = []
        problems: list[str] = []
        if not stopped and any(status.state == FINISHED for status in statuses):
            answers = _measured(sweep, prepared, statuses, reporter, problems, lambda: signals.received is not None)
        stopped = stopped or answers is None
    result = results_of(statuses, prepared.configs, answers or [])
    state = "stopped" if stopped else "finished" if all(one.state == FINISHED for one in statuses) else "incomplete"
    told = {"sweep": sweep.name, "path": str(sweep.path), "state": state, **result_json(result)}
    if answers:
        sweep.write_result(told)
    if as_json:
        print_json({"event": "end", **told})
    elif answers:
        out(*result_lines(result, picture))
    if not as_json or state != "finished":
        say(*_ending(sweep, statuses, state))
    return signals.exit_code or (0 if state == "finished" and not problems else 1)


def _into_log(sweep: SweepDir) -> None:
    log = sweep.driven.open_log()
    lead_to(log)
    os.close(log)


def _measured(
    sweep: SweepDir, prepared: Prepared, statuses: Sequence[CellStatus], reporter: SweepReporter, problems: list[str],
    cancelled: Callable[[], bool],
) -> list[Answers] | None:
    from rlhf_engine.sweeping.measure import Measurement

    def problem(text: str) -> None:
        problems.append(text)
        say(f"warning: {text}")

    measurement = Measurement(sweep, prepared.plan, prepared.measured_by, reporter.sentence, problem, cancelled)
    found = measurement.run(statuses)
    if measurement.no_scores:
        problem(measurement.no_scores)
    return found


def _ending(sweep: SweepDir, statuses: Sequence[CellStatus], state: str) -> list[str]:
    lines = [f"{status.cell.run}: {status.message or status.state}" for status in statuses
             if status.state in (FAILED, DIVERGED)]
    lines.append(f"sweep {sweep.name}: {summary(statuses)}")
    if state != "finished":
        here = sweep.root.resolve() == DEFAULT_RUNS_ROOT.resolve()
        where = "" if here else f" --runs-dir {shlex.quote(str(sweep.root))}"
        lines.append(f"rlhf-tui sweep --resume {sweep.name}{where} goes on; {sweep.path / 'logs'} holds what the runs "
                     "printed")
    return lines


def _about_jobs(prepared: Prepared) -> list[str]:
    """What running several at once means here."""
    if (jobs := prepared.plan.jobs) == 1:
        return []
    devices = {config.model.device for config in prepared.configs.values()}
    if "cuda" in devices or ("auto" in devices and os.path.exists("/dev/nvidiactl")):
        return [f"{jobs} runs at once share one GPU: each holds the base model in its memory, and they take turns "
                "computing; one that does not fit fails, and the others go on"]
    if threads := prepared.plan.threads:
        return [f"{jobs} runs at once, each with {threads} CPU thread{'s' * (threads != 1)} (train.threads)"]
    return []
