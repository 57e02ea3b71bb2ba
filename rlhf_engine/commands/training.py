"""Train and resume, with a line of progress a step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlhf_engine.commands.console import Reporter, say, stopped_by_signals
from rlhf_engine.commands.shared import (
    AcceptBase,
    AsJson,
    AtStep,
    Overrides,
    Preset,
    RunOrNewest,
    RunsDir,
    TrustCode,
    TrustRemoteCode,
    run_at_step,
    run_to_resume,
    wrong_usage,
)
from rlhf_engine.commands.trusting import accepted, accepted_code, asked_to_trust, having_asked
from rlhf_engine.config import fields, presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.pinning import ACCEPT as ACCEPT_DATA
from rlhf_engine.data.pinning import pinned_data
from rlhf_engine.errors import BaseChangedError, CodeChangedError, ConfigError, DataChangedError
from rlhf_engine.events import RunState
from rlhf_engine.requests import Edit, RequestQueue, Stop
from rlhf_engine.rewards.function import pinned
from rlhf_engine.runs.base_model import MOVES, BaseChoice, pinned_base
from rlhf_engine.runs.hand_over import hand_over
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT, RunDir
from rlhf_engine.runs.trust import UntrustedCodeError
from rlhf_engine.system.garbage import importing

if TYPE_CHECKING:
    from rlhf_engine.training.trainer import Trainer


def train(
    preset: Preset,
    overrides: Overrides = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    name: Annotated[str | None, typer.Option(help="Name of the new run; generated if omitted.")] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Report where the time of the start and of the second step went.")
    ] = False,
    trust: TrustRemoteCode = None,
    trust_code: TrustCode = None,
    as_json: AsJson = False,
) -> int:
    """Train a preset. Ctrl-C stops after the step, with a checkpoint; `resume` continues from there.

    With --json: one object a step (event "step": step, total_steps, seconds, metrics), one an alarm (event "alarm":
    step, kind, text), one a roll-back (event "rolled_back": step, text), with --profile one on
    the start (event "start": seconds, parts) and one after a profiled step (event "profile": step, seconds, parts,
    operators), and one at the end (event "end": run, path, state, step, total_steps, message,
    checkpoint).
    """
    config = presets.load_with_overrides(preset, overrides or [])
    if profile:  # read when torch is imported: its profiler would announce itself on stderr
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    return train_config(config, preset, runs_dir, name, as_json, profile)


def train_config(
    config: RunConfig,
    preset: str,
    runs_dir: Path,
    name: str | None = None,
    as_json: bool = False,
    profile: bool = False,
) -> int:
    """Trains in a new run directory, with progress on stdout. Returns the exit code."""
    config = having_asked(lambda: pinned(pinned_base(pinned_data(config))))
    with wrong_usage():
        run_dir = RunDir.create(runs_dir, config, name=name, preset=preset)

    def trainer(requests: RequestQueue, reporter: Reporter) -> Trainer:
        from rlhf_engine.training.trainer import Trainer

        return Trainer(config, run_dir=run_dir, requests=requests, emit=reporter.emit, profile=profile)

    return _drive(trainer, run_dir, as_json)


def resume(
    run: RunOrNewest = None,
    overrides: Overrides = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    trust: TrustRemoteCode = None,
    trust_code: TrustCode = None,
    accept_code: Annotated[bool, typer.Option(
        "--accept-changed-code", help="Resume although the file of a reward function has changed.")] = False,
    accept_base: AcceptBase = False,
    accept_data: Annotated[bool, typer.Option(
        ACCEPT_DATA, help="Resume although the file or dataset that the run learns from has changed.")] = False,
    as_json: AsJson = False,
) -> int:
    """Resume a run from its newest checkpoint. --json as for train.

    Where no run is named: the newest that no process drives.

    --set changes settings that may change while training, train.steps (to train longer) among them; it is recorded as
    an edit of the run. --set model.name says where the same base model is now, if it has moved.
    """
    run_dir = run_to_resume(run, runs_dir)

    def trainer(requests: RequestQueue, reporter: Reporter) -> Trainer:
        from rlhf_engine.runs.checkpoint import newest_config
        from rlhf_engine.training.trainer import Trainer

        config = newest_config(run_dir)
        changes = presets.parse_overrides(config, overrides or [])
        moves = {path: changes.pop(path) for path in MOVES if path in changes}
        if fixed := [path for path in changes if not fields.setting_at(config, path).live]:
            raise ConfigError([f"--set {path}: cannot change within a run; start a new one with it" for path in fixed])
        code, base, data = accept_code, accept_base, accept_data
        while True:
            try:
                trainer = Trainer.resume(run_dir, requests=requests, emit=reporter.emit, accept_code=code,
                                         accept_data=data, base=BaseChoice(base, moves))
                break
            except DataChangedError as error:
                if not accepted(error):
                    raise ConfigError(f"{error} {ACCEPT_DATA} resumes with what it is now.") from None
                data = True
            except BaseChangedError as error:
                if not accepted(error):
                    raise
                base = True
            except UntrustedCodeError as error:
                if not asked_to_trust(error.code):
                    raise
            except CodeChangedError as error:
                if not accepted_code(error):
                    raise ConfigError(f"{error} --accept-changed-code resumes with the changed file.") from None
                code = True
        for path, value in changes.items():
            requests.ask(Edit(path, value))
        return trainer

    return _drive(trainer, run_dir, as_json)


def fork(
    source: AtStep = None,
    overrides: Overrides = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    name: Annotated[str | None, typer.Option(help="Name of the new run; generated if omitted.")] = None,
    preset: Annotated[str | None, typer.Option(help="Go on under this preset, in place of the run's settings.")] = None,
    trust: TrustRemoteCode = None,
    trust_code: TrustCode = None,
    accept_base: AcceptBase = False,
    as_json: AsJson = False,
) -> int:
    """Start a new run from a checkpoint of another one. --json as for train.

    --set changes any setting that keeps the model and the shape of its adapters. The other run is left as it is.

    With another method (--set algorithm.kind=ppo) or --preset the new run takes over the actor, what was trained to
    answer, and begins anew with all else, at step 0.
    """
    parent, step = run_at_step(source, runs_dir)
    from rlhf_engine.runs.checkpoint import state_at
    from rlhf_engine.training.fork import fork

    state = state_at(parent, step, say)
    under = presets.load(preset) if preset else state.config
    step, changes = state.step, presets.parse_overrides(under, overrides or [])
    del state  # as large as the adapters and both optimisers
    with wrong_usage():
        child = having_asked(lambda: fork(parent, step=step, changes=changes, root=runs_dir, name=name,
                                          preset=(preset, under) if preset else None, accept_base=accept_base,
                                          tell=say))

    def trainer(requests: RequestQueue, reporter: Reporter) -> Trainer:
        from rlhf_engine.training.trainer import Trainer

        return Trainer.resume(child, requests=requests, emit=reporter.emit, base=BaseChoice(accept_base), new=True)

    return _drive(trainer, child, as_json)


def _drive(make: Callable[[RequestQueue, Reporter], Trainer], run_dir: RunDir, as_json: bool) -> int:
    requests = RequestQueue()
    stop = partial(requests.ask, Stop())
    reporter = Reporter(stop, as_json)
    with stopped_by_signals(stop) as signals:
        with importing():
            import rlhf_engine.training.trainer  # noqa: F401
        state = make(requests, reporter).run()
    hung_up = reporter.hung_up and not signals.received  # no signal tells of it where it is not this process's own
    if (hung_up or signals.received is signal.SIGHUP) and state is RunState.STOPPED:
        hand_over(run_dir)  # the terminal is gone: there is nobody to tell
    if state is RunState.FINISHED:
        return 1 if reporter.failed else 0
    return signals.exit_code or (128 + signal.SIGHUP if hung_up else 1)
