"""Reading and other work for the disk, beside the screen's thread: nobody waits for it, neither a key nor leaving.

A folder may lie on a disk that answers late or never. What waits for such a disk is a daemon thread, which ends with
the program; Textual's own thread workers would have to end before the program could.
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


async def apart(job: Callable[[], T]) -> T:
    """What `job` gives, or raises, done in a thread of its own. Whoever no longer waits lets the thread run."""
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

    threading.Thread(target=work, name="apart", daemon=True).start()
    return await done


def do_apart(
    node: DOMNode, job: Callable[[], T], then: Callable[[T], object], failed: Callable[[str], object],
    group: str = "apart",
) -> None:
    """Do `job` apart, and then what follows in the screen's thread: `then` with what it gave, or `failed` with one
    clean sentence. A job of the same `node` and `group` that is under way is given up; so is one of a screen that goes.
    """
    async def work() -> None:
        try:
            then(await apart(job))
        except Exception as error:
            failed(sentence(error))

    # a bug in what is done beside a run is no reason to end the run
    node.run_worker(work, group=group, exclusive=True, exit_on_error=False)  # type: ignore[arg-type]


def sentence(error: Exception) -> str:
    """What went wrong, fit to be shown; of a bug, where its traceback lies."""
    if isinstance(error, RlhfError):
        return clean_line(str(error))
    return clean_line(f"this could not be done ({type(error).__name__}): {error}; details in {write_crash_log(error)}")
