"""Disk work in background threads, so that neither a key nor quitting waits for it.

A folder may lie on a disk that answers late or never. What waits for such a disk is a daemon thread, which ends with
the program. Textual's workers decide whose answer still counts; its own thread workers are not daemons: the program
could not end before they do.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from textual.dom import DOMNode

from rlhf_engine.errors import RlhfError
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.terminal.crash_log import write_crash_log

T = TypeVar("T")


async def in_background(job: Callable[[], T]) -> T:
    """The result of `job`, run in a daemon thread of its own. Raises what it raises; a cancelled wait lets it run."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(how: Callable[[Any], None], what: object) -> None:
        if not done.done():  # nobody waits any more
            how(what)

    def work() -> None:
        try:
            told: tuple[Callable[[Any], None], object] = done.set_result, job()
        except BaseException as error:
            told = done.set_exception, error
        with suppress(RuntimeError):  # the app has gone
            loop.call_soon_threadsafe(tell, *told)

    threading.Thread(target=work, name="background", daemon=True).start()
    return await done


def run_in_background(
    node: DOMNode, job: Callable[[], T], then: Callable[[T], object], failed: Callable[[str], object],
    group: str = "background",
) -> None:
    """Run `job` in a background thread, then in the screen's own `then` with its result, or `failed` with one clean
    sentence. This cancels a job of the same `node` and `group` that is under way; removing the node cancels all of its.
    """
    async def work() -> None:
        try:
            then(await in_background(job))
        except Exception as error:
            failed(sentence(error))

    # a bug in what is done beside a run is no reason to end the run
    node.run_worker(work, group=group, exclusive=True, exit_on_error=False)  # type: ignore[arg-type]


def sentence(error: Exception) -> str:
    """What went wrong, fit to be shown; of a bug, where its traceback lies."""
    if isinstance(error, RlhfError):
        return clean_line(str(error))
    return clean_line(f"this could not be done ({type(error).__name__}): {error}; details in {write_crash_log(error)}")
