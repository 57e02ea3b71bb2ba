"""SIGTERM and SIGHUP, heard by the app's loop: both save the run first, and after SIGHUP it goes on elsewhere.

Without this a closed terminal ends the process where it stands; no `finally` runs. A terminal may also go away without
a signal, which its driver notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from rlhf_engine.system.streams import hang_up

if TYPE_CHECKING:
    from rlhf_tui.app import WorkbenchApp

TERMINATED = 143
HUNG_UP = 129


def heed_signals(app: WorkbenchApp) -> None:
    """From now on SIGTERM asks `app` to save and leave, a second one to leave at once; SIGHUP leaves the screen,
    and a run that goes on to a process without one. An ignored SIGHUP (nohup) stays ignored.
    """
    loop = asyncio.get_running_loop()
    # where there are no such signals, there is nothing to heed
    with contextlib.suppress(NotImplementedError, RuntimeError, AttributeError):
        loop.add_signal_handler(signal.SIGTERM, terminated, app)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, hung_up, app)


def terminated(app: WorkbenchApp) -> None:
    """Finish the step, save, exit 143; asked a second time, exit 143 now."""
    if app.leave_code is not None:
        app.leave_at_once()
        return
    app.say("asked to leave: finishing the step, saving…", "warning")
    app.leave(TERMINATED)


def hung_up(app: WorkbenchApp) -> None:
    """The terminal has gone away: hand the run over, exit 129. Told again, as by a signal and the driver, does nothing.
    """
    if app.leave_code == HUNG_UP:
        return
    # the shell may send a second one while we save
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    hang_up()
    if app.leave_code is None:
        # whoever leaves a run paused, or has stopped it, did not mean it to go on
        app.hands_over = app.bridge.is_training
    app.leave(HUNG_UP)
    app.exit(return_code=HUNG_UP)
