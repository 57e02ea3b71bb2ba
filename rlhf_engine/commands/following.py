"""Watch a run that another process drives, line by line."""

from __future__ import annotations

import signal
import time

from rlhf_engine.commands.console import Reporter, say
from rlhf_engine.commands.shared import AsJson, RunOrNewest, RunsDir, run_to_watch
from rlhf_engine.events import RunState, StateChanged
from rlhf_engine.runs.follow import POLL_SECONDS, Follower
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT, RunDir
from rlhf_engine.system.streams import answers, terminal_gone


def attach(run: RunOrNewest = None, runs_dir: RunsDir = DEFAULT_RUNS_ROOT, as_json: AsJson = False) -> int:
    """Watch a run that another process drives, from its first step to its end. --json as for train.

    Where no run is named: the one that is training, or else the newest.

    Leaving it (Ctrl-C) leaves the run alone. The exit code is 0 if the run finished, else 1.
    """
    return print_run(run_to_watch(run, runs_dir), as_json)


def print_run(run_dir: RunDir, as_json: bool) -> int:
    """Prints a run from its first step on as `train` does, until it ends or nobody reads; the run is left alone.

    Returns 0 if it finished, 129 if the terminal has gone away, else 1. Raises RunError when its files cannot be read.
    """
    reporter, follower = Reporter(lambda: None, as_json), Follower(run_dir, samples=False)
    newest: StateChanged | None = None
    # a run that is paused writes nothing, by which to hear that nobody reads
    while not (reporter.failed or (gone := terminal_gone(answers()))):
        for event in follower.poll():
            newest = event if isinstance(event, StateChanged) else newest
            reporter.emit(event)
        if follower.ended:
            break
        if not follower.behind:
            time.sleep(POLL_SECONDS)
    follower.close()
    if gone or reporter.hung_up:
        return 128 + signal.SIGHUP
    state = newest.state if newest else None
    if newest and state is RunState.FAILED and not as_json:  # the reporter leaves this to the command that failed
        say(newest.message)
    return 0 if state is RunState.FINISHED else 1
