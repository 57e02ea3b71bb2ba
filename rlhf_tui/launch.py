"""From the command line into the workbench and out of it: what is done before the screen is there, and after it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.label.label_start import LabelStart
from rlhf_tui.engine.bridge import EngineBridge, SessionFactory, engine_session
from rlhf_tui.widgets.status import Meter

# seconds that the engine may hold the interpreter while a key waits; the default of 5 ms is felt at each of them
SWITCH_SECONDS = 0.001


def run_workbench(
    config: RunConfig, preset: str = "", *, runs_root: Path, start: bool = False, view: RunDir | None = None,
    session_factory: SessionFactory = engine_session, original: RunConfig | None = None, said: str = "",
    label: LabelStart | None = None,
) -> int:
    """Show the workbench until the user leaves; the exit code. However the screen went, the run is saved first.

    original: the preset's own settings, where `config` differs. view: a run to show that is driven elsewhere. said: a
    sentence to begin with. label: the label screen is open from the start.

    Raises RlhfError when the run cannot be read.
    """
    if not all(stream is not None and stream.isatty() for stream in (sys.__stdin__, sys.__stderr__)):
        from rlhf_engine.commands.console import out

        out("the workbench needs a terminal (stdin and stderr); `rlhf-tui train` runs without")
        return 2
    bridge = EngineBridge(runs_root, session_factory)
    if view is not None:
        bridge.watch(view)
    app = WorkbenchApp(bridge, config, preset, start=start, meter=Meter(), original=original, greeting=said,
                       label=label)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        app.run()
    finally:
        bridge.close()
        if not app.leaving.at_once:
            # a run is waited for, however long its step takes; anything else is not worth waiting for
            bridge.join(None if bridge.busy else 1.0)
    # what leaving needs, the first frame need not wait for
    from rlhf_engine.commands.console import say
    from rlhf_tui.engine.hand_off import hand_off_run, say_where_run_is

    if app.preferences.trouble:
        say(app.preferences.trouble)
    code = app.return_code if app.leaving.code is None else app.leaving.code
    if bridge.alive:
        if app.leaving.hands_over:
            say("left at once: the run was not handed over; a resume continues from its last checkpoint")
        # torch may not be torn down while its thread computes: no interpreter shutdown, just go
        os._exit(code or 0)
    if app.leaving.hands_over:
        passed = hand_off_run(bridge, wait=not code)
        code = code or passed
    elif app.leaving.code is not None or not bridge.viewing:
        say_where_run_is(bridge, asked=bool(app.leaving.code))
    return code or 0
