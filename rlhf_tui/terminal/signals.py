"""SIGTERM and SIGHUP, heard by the app's loop.

Without this a closed terminal ends the process where it stands; no `finally` runs. A terminal may also go away without
a signal, which its driver notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

from rlhf_engine.system.streams import hang_up

TERMINATED = 143
HUNG_UP = 129


def install_signal_handlers(*, terminated: Callable[[], object], hung_up: Callable[[], object]) -> None:
    """From now on SIGTERM calls `terminated` and SIGHUP `hung_up`, in the running loop. An ignored SIGHUP (nohup) stays
    ignored."""
    loop = asyncio.get_running_loop()
    # where there are no such signals, there is nothing to handle
    with contextlib.suppress(NotImplementedError, RuntimeError, AttributeError):
        loop.add_signal_handler(signal.SIGTERM, terminated)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, hung_up)


def ignore_hang_up() -> None:
    """The terminal has gone: another SIGHUP does nothing, and what is written to the terminal is lost."""
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    hang_up()
