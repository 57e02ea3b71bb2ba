"""Comparing any two: choosing the sides, and their names wherever the two are told apart."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot
from tui.fake_session import Sessions
from tui.test_compare import asked, comparison
from tui.test_generate import shown, tell
from tui.test_hostile_text import is_harmless, shown_lines
from tui.test_runs_screen import WIDE, make_run, press, settle, three

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import ComparisonFinished
from rlhf_engine.requests import REFERENCE, TUNED, Side
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.compare.comparison_table import comparison_table
from rlhf_tui.areas.compare.screen import CompareScreen
from rlhf_tui.areas.compare.side import SideScreen

__all__ = ["three"]  # the fixture
SIZES = [(120, 40), (80, 24)]
NAMED = replace(comparison(12), labels=("amber@5", "calm@9"), settings_of="amber@5")


async def test_each_side_is_chosen_from_a_list_and_compared_at_once(
    app: WorkbenchApp, sessions: Sessions, three: list[RunDir]
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "c", "b")
        assert isinstance(app.screen, SideScreen)
        for part in ("reference", "tuned", "the model as it stands now", "amber@5", "amber@0", "calm@9"):
            assert part in shown(app)
        await press(pilot, *"calm", "enter")
        assert (asked(sessions)[-1].first, asked(sessions)[-1].second) == (
            REFERENCE, Side("checkpoint", three[2].path, 9))
        assert "Reference against calm@9" in shown(app)
        await press(pilot, "a", "down", "enter")
        assert asked(sessions)[-1].first == TUNED
        await press(pilot, "a", "escape")
        assert isinstance(app.screen, CompareScreen)
        assert len(asked(sessions)) == 3


async def test_the_names_of_the_two_stand_in_table_pairs_and_histogram(
    app: WorkbenchApp, sessions: Sessions, three: list[RunDir]
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "m", "end", "c")
        request = asked(sessions)[-1]
        assert (request.first, request.second) == tuple(Side("checkpoint", three[i].path) for i in (0, 2))
        await tell(pilot, sessions, ComparisonFinished(request.id, NAMED))
        for part, times in (("1 amber@5 against calm@9", 1), ("calm@9", 4), ("██ calm@9", 1), ("reference", 0),
                            ("prompts and rewards of amber@5", 1)):
            assert shown(app).count(part) == times, part


async def test_while_viewing_only_what_is_on_the_disk_can_be_chosen(
    app: WorkbenchApp, sessions: Sessions, three: list[RunDir]
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "r", "enter", "r", "m", "end", "c", "a")
        assert "amber@5" in shown(app)
        assert "the model as it stands" not in shown(app)


async def test_nothing_to_choose_and_folders_that_cannot_be_read(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "c", "a", *"zzz", "enter")
        assert "nothing matches" in shown(app)
        await press(pilot, "escape", "escape")
        assert isinstance(app.screen, CompareScreen)


async def test_hostile_names_of_sides_are_only_shown(
    app: WorkbenchApp, sessions: Sessions, config: RunConfig
) -> None:
    names = [b"\x1b[2J[x]", b"[@click=app.quit]q[]\xff", "\u202eabc\n".encode()]
    for number, name in enumerate(names):
        make_run(app.bridge.runs_root, config, f"r{number}").path.rename(app.bridge.runs_root / os.fsdecode(name))
    async with app.run_test(size=WIDE) as pilot:
        await press(pilot, "c", "b")
        assert all(map(is_harmless, shown_lines(app)))
        for _ in range(2 + 2 * len(names)):
            await press(pilot, "down")
            assert all(map(is_harmless, shown_lines(app)))
        await press(pilot, "enter")
        request = asked(sessions)[-1]
        assert request.second.run is not None
        hostile = replace(NAMED, labels=("\x1b[2J", "[/x]\u202e"), settings_of="\x9b31m[/]")
        await tell(pilot, sessions, ComparisonFinished(request.id, hostile))
        assert all(map(is_harmless, shown_lines(app)))


def test_long_names_leave_room_for_the_numbers() -> None:
    table = comparison_table(NAMED.rows, 80, ("a" * 60, "b" * 60)).plain
    assert max(map(len, table.split("\n"))) <= 80
    assert "+3.75" in table


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_choosing_a_side(
        self, snap_compare: Callable[..., bool], app: WorkbenchApp, three: list[RunDir], size: tuple[int, int]
    ) -> None:
        async def before(pilot: Pilot[Any]) -> None:
            await press(pilot, "c", "b", "down", "down")

        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_two_runs_compared(
        self, snap_compare: Callable[..., bool], app: WorkbenchApp, sessions: Sessions, three: list[RunDir],
        size: tuple[int, int],
    ) -> None:
        async def before(pilot: Pilot[Any]) -> None:
            await press(pilot, "r", "m", "end", "c")
            await tell(pilot, sessions, ComparisonFinished(asked(sessions)[-1].id, NAMED))
            await settle(pilot)

        assert snap_compare(app, terminal_size=size, run_before=before)
