"""The settings screen, what a start finds of the last one, and the hint of the first."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from tui.fake_session import Sessions
from tui.test_hostile_text import is_harmless, shown_lines

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.metrics import REGISTRY
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.charts.lens import SMOOTHINGS as LENS_SMOOTHINGS
from rlhf_tui.areas.preferences.preferences import draws_ascii
from rlhf_tui.areas.preferences.preferences_file import SMOOTHINGS, Settings, load, settings_path
from rlhf_tui.areas.preferences.screen import rows
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.terminal.theme import DARK, LIGHT
from rlhf_tui.widgets.hint import FirstHint

SIZES = [(120, 40), (80, 24)]


def kept() -> dict[str, object]:
    return tomllib.loads(settings_path().read_text())


@pytest.fixture
def start(tmp_path: Path, sessions: Sessions, config: RunConfig) -> Callable[[], WorkbenchApp]:
    """Another start of the workbench by the same user."""
    return lambda: WorkbenchApp(EngineBridge(tmp_path / "runs", sessions), config, "animals")


def row(app: WorkbenchApp, name: str) -> str:
    return next(choice.value for choice in app.screen.query("Choice") if choice.name == name)  # type: ignore[attr-defined]


async def test_a_theme_is_seen_at_once_and_kept_with_enter(start: Callable[[], WorkbenchApp]) -> None:
    app = start()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("comma", "right", "right")
        assert app.theme == LIGHT.name
        await pilot.press("enter")
        assert kept()["theme"] == LIGHT.name
        assert "preferences are kept in" in app.workbench._alarm.text
    assert start().theme == LIGHT.name


async def test_escape_puts_everything_back(app: WorkbenchApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f3", "right", *["down", "right"] * 8)
        assert app.preferences.now != Settings(hint_seen=True)
        await pilot.press("escape")
        assert app.preferences.now == Settings(hint_seen=True)
        assert app.theme == DARK.name
    assert set(kept()) == {"hint_seen", "last_preset"}


async def test_every_row_changes_its_setting(app: WorkbenchApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("comma", *["down", "right"] * 8, "enter")
        now = app.preferences.now
        assert now.redraws_per_second == 0.2
        assert all(chart != default for chart, default in zip(now.charts, Settings().charts, strict=True))
        assert (now.smoothing, now.chart_marks, now.notifications) == (0.0, "braille", "bell")
        assert load(settings_path()).settings == now


def test_no_two_choices_of_a_setting_look_the_same() -> None:
    offered = rows(Settings(redraws_per_second=0.7), ["nord", "ansi-dark"])
    assert all(len(set(item.choices.values())) == len(item.choices) for item in offered)
    charts = next(item for item in offered if item.name == "charts.0")
    assert set(charts.choices.values()) == set(REGISTRY)
    assert "0.7 a second" in next(item for item in offered if item.name == "redraws_per_second").choices


async def test_a_wrong_value_is_said_and_replaced_when_the_user_saves(start: Callable[[], WorkbenchApp]) -> None:
    settings_path().write_text('hint_seen = true\ntheme = "no-such-theme"\nsmoothing = "much"\nsparkles = 1\n')
    app = start()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert '0.6, 0.9 or 0.97; sparkles: no such preference' in app.workbench._alarm.text
        assert app.theme == DARK.name
        await pilot.press("2")
    assert kept()["smoothing"] == "much"  # leaving is not saving
    app = start()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("comma", "right", "enter")
    assert "smoothing" not in kept()
    assert kept()["sparkles"] == 1


async def test_the_pane_the_theme_and_the_preset_are_those_of_last_time(start: Callable[[], WorkbenchApp]) -> None:
    app = start()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("4", "z")
        app.theme = "nord"  # as the palette does
        await pilot.pause()
    assert kept() == {"hint_seen": True, "pane": "samples", "zoomed": True, "theme": "nord", "last_preset": "animals"}
    again = start()
    async with again.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert again.workbench.place == ("samples", True)
        assert again.focused is again.workbench.samples.samples
        assert again.theme == "nord"


async def test_the_preset_of_a_viewed_run_is_not_kept(start: Callable[[], WorkbenchApp]) -> None:
    app = start()
    async with app.run_test():
        app.bridge._viewer = object()  # type: ignore[assignment]
    assert "last_preset" not in kept()
    app.bridge._viewer = None


async def test_the_hint_of_the_first_start_goes_with_the_first_key(start: Callable[[], WorkbenchApp]) -> None:
    settings_path().unlink()
    app = start()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "New here?" in "".join(shown_lines(app))
        await pilot.press("2")
        assert not app.workbench.query(FirstHint)
        assert app.workbench.place[0] == "charts"  # the key did what it does
        assert kept()["hint_seen"] is True
    again = start()
    async with again.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert not again.workbench.query(FirstHint)


async def test_a_folder_that_cannot_be_written_is_a_sentence(app: WorkbenchApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        settings_path().unlink()
        settings_path().parent.rmdir()
        settings_path().parent.write_text("no folder")
        await pilot.press("comma", "right", "right", "enter")
        assert "preferences were not kept" in app.workbench._alarm.text
        assert app.theme == LIGHT.name
    assert "preferences were not kept" in app.preferences.trouble


@pytest.mark.parametrize("size", [(40, 8), (60, 16), (300, 100)])
async def test_every_size_shows_the_setting_in_use(app: WorkbenchApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press("comma", *["down"] * 8)
        await pilot.pause()
        assert app.focused is not None
        assert app.screen.region.contains_region(app.focused.region.intersection(app.screen.region))
        assert any("off" in line for line in shown_lines(app))


async def test_hostile_names_of_metrics_are_only_shown(start: Callable[[], WorkbenchApp]) -> None:
    name = "rewards/[/x]\\u001b]52;c;aGk=\\u0007\\u202e/mean"
    settings_path().write_text(f'hint_seen = true\ncharts = ["lr", "lr", "lr", "{name}"]\nlast_preset = "\\u001b[2J"\n')
    app = start()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("comma", *["down"] * 5)
        await pilot.pause()
        assert "[/x]" in row(app, "charts.3")
        assert all(map(is_harmless, shown_lines(app)))


async def test_the_charts_look_as_the_settings_say(start: Callable[[], WorkbenchApp]) -> None:
    settings_path().write_text('hint_seen = true\nchart_marks = "ascii"\nredraws_per_second = 0.5\nsmoothing = 0.6\n'
                               'charts = ["lr", "kl_coef", "val/ratio", "objective/kl"]\n')
    app = start()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        charts = app.workbench.charts
        assert charts.shown == ("lr", "kl_coef", "val/ratio", "objective/kl")
        assert (charts.ascii, charts.drawing.redraw_seconds, charts.smoothing) == (True, 2.0, 0.6)
        await pilot.press("comma", "down", "left", *["down"] * 6, "left", "enter")
        assert (charts.ascii, charts.drawing.redraw_seconds) == (False, 5.0)
        await pilot.press("2", "s")
        charts.shown = ("lr", "lr", "lr", "lr")
    again = start()
    async with again.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert again.workbench.charts.shown == ("lr", "lr", "lr", "lr")
        assert again.workbench.charts.smoothing == charts.smoothing != 0.6


def test_every_smoothing_that_is_kept_is_one_of_the_charts() -> None:
    assert set(SMOOTHINGS) == set(LENS_SMOOTHINGS)


@pytest.mark.parametrize(("marks", "encoding", "terminal", "expected"), [
    ("auto", "utf-8", "xterm-256color", False), ("auto", "UTF-8", "", False), ("auto", "utf8", "screen", False),
    ("auto", "ISO-8859-1", "xterm", True), ("auto", "ANSI_X3.4-1968", "xterm", True), ("auto", "utf-8", "linux", True),
    ("braille", "ascii", "linux", False), ("ascii", "utf-8", "xterm", True),
])
def test_charts_are_ascii_where_there_is_no_braille(marks: str, encoding: str, terminal: str, expected: bool) -> None:
    assert draws_ascii(marks, encoding, terminal) is expected


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
class TestSnapshots:
    def test_settings(self, snap_compare: Callable[..., bool], app: WorkbenchApp, size: tuple[int, int]) -> None:
        assert snap_compare(app, terminal_size=size, press=["comma", "down", "down"])

    def test_first_start(self, snap_compare: Callable[..., bool], start: Callable[[], WorkbenchApp],
                         size: tuple[int, int]) -> None:
        settings_path().unlink()
        assert snap_compare(start(), terminal_size=size)
