"""When an app has done all that a key or a change asked of it: found by looking closely instead of for a while."""

from __future__ import annotations

from asyncio import sleep
from time import monotonic, process_time, thread_time
from typing import Any

from moments import until
from textual._context import active_app

_LOOK = 0.001  # seconds between two looks
_QUIET = 0.0004  # seconds of work between two looks that are only the looking itself
_OTHERS = 0.1  # seconds that threads beside the app's may go on working before they are no longer waited for


async def settled(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """What to put in the place of Textual's `wait_for_idle`, in which a test waits after each key.

    Textual sleeps for 20 ms, again and again until the whole process has worked for less than 1 ms of them: 40 ms a key
    at least, and two seconds while an engine trains. Here the screen's thread has to be out of work, which shows in its
    own processor time however busy the machine is, with nothing left to draw; other threads may take a moment. A screen
    that is never out of work is given up once it has worked for `max_sleep`: on a busy machine that is a long while.
    """
    app, began, own_began, quiet = active_app.get(), monotonic(), thread_time(), 0
    while quiet < 2 or monotonic() - began < min_sleep:
        others, own = process_time(), thread_time()
        await sleep(_LOOK)
        worked = thread_time() - own
        others_worked = process_time() - others - worked
        waited = monotonic() - began
        if thread_time() - own_began > max_sleep:
            return
        # Textual follows a terminal's new size a moment later
        sized = not app.screen_stack or app.screen.outer_size == app.size
        if worked < _QUIET and sized and (others_worked < _QUIET or waited > _OTHERS):
            quiet += 1
            if app.screen_stack:
                app.screen._on_timer_update()  # draws what waits for the next frame, as `Pilot.pause` does
        else:
            quiet = 0


async def workers_done(pilot: Any) -> None:
    """Until the app's workers have ended, and those that these began, and the screen shows what they found."""
    app = pilot.app
    while True:
        await until(pilot, lambda: all(worker.is_finished for worker in app.workers))
        await pilot.pause()
        if all(worker.is_finished for worker in app.workers):
            return
