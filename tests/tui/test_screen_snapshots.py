"""Pictures of the form, the word lists and the screens. After a change that is meant: pytest --snapshot-update here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from tui.fake_session import Sessions, story_sample
from tui.test_compare import comparison, frontier

from rlhf_engine.config import presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import ComparisonFinished, Event, GenerationFinished, GenerationToken
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.widgets.inputs import WordsArea

SIZES = [(120, 40), (80, 24)]
SnapCompare = Callable[..., bool]
Before = Callable[[Pilot[Any]], Awaitable[None]]


def after(*keys: str, told: list[Event] | None = None, sessions: Sessions | None = None) -> Before:
    """Press `keys`, then let the engine tell its events."""

    async def run(pilot: Pilot[Any]) -> None:
        await pilot.press(*keys)
        for event in told or ():
            assert sessions is not None
            sessions.last.emit(event)
        pilot.app.show_events(pilot.app.bridge.drain())
        await pilot.pause()
        await pilot.pause()

    return run


def answers() -> list[Event]:
    first, second = story_sample(1, 0), story_sample(1, 1)
    spans = tuple(replace(span, start=span.start + 1, end=span.end + 1) for span in first.spans)
    done = GenerationFinished(1, f" {first.response}", first.score, first.parts, spans, first.kl, first.tokens)
    return [done, GenerationToken(2, f" {second.response[:30]}")]


@pytest.fixture
def _two_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: RunConfig) -> None:
    monkeypatch.setattr(presets, "shipped_folder", lambda: tmp_path / "none")
    monkeypatch.setattr(presets, "user_folder", lambda: tmp_path)
    presets.save("animals", config)
    presets.save("sea", config.model_copy(update={"description": "stories at sea"}))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_a_setting_that_is_not_allowed(
        self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]
    ) -> None:
        keys = ("1", "down", "enter", *"9", "enter", "1", "down", "down", "enter", *"abc")
        assert snap_compare(app, terminal_size=size, run_before=after(*keys))

    def test_settings_while_training(
        self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]
    ) -> None:
        async def locked(pilot: Pilot[Any]) -> None:
            app.workbench.hyperparameters.load(app.edited.config, training=True)
            app.workbench.hyperparameters.show_path("algorithm.minibatch_size")
            await pilot.pause()
            await pilot.pause()

        assert snap_compare(app, terminal_size=size, run_before=locked)

    def test_words_being_edited(self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]) -> None:
        async def edit(pilot: Pilot[Any]) -> None:
            await pilot.press("3", "enter")
            app.screen.query_one(WordsArea).post_message(events.Paste("girl hen unicorn fox"))
            await pilot.pause()
            await pilot.pause()

        assert snap_compare(app, terminal_size=size, run_before=edit)

    def test_words(self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]) -> None:
        assert snap_compare(app, terminal_size=size, run_before=after("3", "down"))

    def test_generate(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        keys = ("g", "tab", "tab", "tab", "tab", "left", "left", "shift+tab", "enter")
        assert snap_compare(app, terminal_size=size, run_before=after(*keys, told=answers(), sessions=sessions))

    def test_compare(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        told: list[Event] = [ComparisonFinished(1, comparison(100))]
        assert snap_compare(app, terminal_size=size, run_before=after("c", told=told, sessions=sessions))

    def test_compare_pairs(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        async def pairs(pilot: Pilot[Any]) -> None:
            await after("c", told=[ComparisonFinished(1, comparison(100))], sessions=sessions)(pilot)
            await pilot.press("2", "right")
            await pilot.pause()

        assert snap_compare(app, terminal_size=size, run_before=pairs)

    def test_compare_with_best_of_n(
        self, snap_compare: SnapCompare, app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
    ) -> None:
        told: list[Event] = [ComparisonFinished(1, replace(comparison(100), frontier=frontier()))]
        assert snap_compare(app, terminal_size=size, run_before=after("c", "f", told=told, sessions=sessions))

    @pytest.mark.usefixtures("_two_presets")
    def test_presets(self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]) -> None:
        assert snap_compare(app, terminal_size=size, run_before=after("p", "down"))

    @pytest.mark.usefixtures("_two_presets")
    def test_save_preset(self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]) -> None:
        assert snap_compare(app, terminal_size=size, run_before=after("f2", *"sea", "enter"))

    def test_help(self, snap_compare: SnapCompare, app: WorkbenchApp, size: tuple[int, int]) -> None:
        assert snap_compare(app, terminal_size=size, run_before=after("question_mark"))
