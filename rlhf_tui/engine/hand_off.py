"""Leaving a run: a word on where it lies, or a background process that continues it."""

from __future__ import annotations

from contextlib import suppress

from rlhf_engine.commands.console import out, say
from rlhf_engine.errors import OutputError, RlhfError
from rlhf_engine.events import RunState
from rlhf_engine.runs.hand_over import command_for, hand_over
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.terminal.clean_text import clean_line

# until a process that continues a run has imported torch and holds it; a cold disk takes its time
READY_SECONDS = 120.0


def say_where_run_is(bridge: EngineBridge, *, asked: bool) -> None:
    """One sentence about the run that leaving, or a person before, has stopped; nothing of one that has ended.

    asked: by a signal, as one who takes the run over sends.
    """
    bridge.drain()
    if bridge.run_path is not None and bridge.state is RunState.STOPPED:
        command = command_for(RunDir(bridge.run_path), "attach" if asked else "resume")
        does = "asked to leave by another process; this shows its progress" if asked else "this continues it"
        _tell(f"run {clean_line(bridge.view.name)} is saved at step {bridge.view.step} of {bridge.view.total_steps}; "
              f"{does}: {command}")


def hand_off_run(bridge: EngineBridge, *, wait: bool) -> int:
    """Let the run that was just stopped go on in a process of its own, and say how to come back to it.

    wait: until that process drives the run. Returns 0, or 1 when it could not be done, which is said.
    """
    bridge.drain()  # the engine's last words: where the run lies, and how it ended
    if bridge.run_path is None or bridge.state is not RunState.STOPPED:
        say(bridge.view.message or "there is no run that could continue")
        return 0 if bridge.state is RunState.FINISHED else 1
    try:
        run_dir = RunDir.open(bridge.run_path)
        handed = hand_over(run_dir)
        if wait:
            say("saved; waiting for the process that continues it…")
            handed.wait(READY_SECONDS)
    except RlhfError as error:
        say(str(error))
        return 1
    _tell(f"run {run_dir.name} continues in the background: {command_for(run_dir, 'attach')}")
    return 0


def _tell(sentence: str) -> None:
    with suppress(OutputError):  # the terminal may be gone, and the run is saved all the same
        out(sentence)
