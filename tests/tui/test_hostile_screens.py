"""What a preset, a paste or a model brings is only shown, on every screen that shows text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from scale import few_or_many
from textual import events
from tui.fake_session import Sessions
from tui.test_compare import ROWS
from tui.test_generate import tell
from tui.test_hostile_text import hostile, is_harmless, shown_lines

from rlhf_engine.config import presets
from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.evaluation.compare import Comparison, Pair
from rlhf_engine.events import ComparisonFinished, GenerationFinished, GenerationToken, Sample, Span
from rlhf_engine.requests import Compare
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.engine.bridge import EngineBridge


def texts(number: int) -> list[str]:
    """What hypothesis thinks of; one app takes it all in, since a new one for each would take minutes."""
    found: list[str] = []

    @settings(max_examples=few_or_many(number, 10 * number), database=None, derandomize=True)
    @given(hostile)
    def collect(text: str) -> None:
        found.append(text)

    collect()
    return [*found, "[/x]", "\x1b]52;c;aGk=\x07", "\u202eabc", "[@click=app.quit]q[/]"]


def check(app: WorkbenchApp) -> None:
    assert all(map(is_harmless, shown_lines(app)))


def hostile_config(config: RunConfig, text: str) -> RunConfig:
    text = text.encode("utf-8", "replace").decode()  # a config holds no lone surrogates
    reward = config.rewards[0].model_copy(update={"liked": [text, "fox"], "disliked": [f"x{text}"]})
    return config.model_copy(update={"data": DataConfig(prompts=[text, f"a{text}"]), "description": text,
                                     "rewards": [reward],
                                     "model": ModelConfig(name=text or "x")})


pytestmark = pytest.mark.scaled


async def test_panes_show_any_config(tmp_path: Path, config: RunConfig) -> None:
    app = WorkbenchApp(EngineBridge(tmp_path, Sessions()), config)
    async with app.run_test(size=(120, 40)) as pilot:
        for text in texts(15):
            for pane in (app.workbench.hyperparameters, app.workbench.words):
                pane.load(hostile_config(config, text), training=False)
            app.workbench.hyperparameters.show_path("model.name")
            await pilot.pause()
            check(app)


async def test_fields_take_any_paste(tmp_path: Path, config: RunConfig) -> None:
    app = WorkbenchApp(EngineBridge(tmp_path, Sessions()), config)
    async with app.run_test(size=(120, 40)) as pilot:
        for key in ("1", "3"):
            await pilot.press(key, "enter")
            for text in texts(15):
                assert app.focused is not None
                app.focused.post_message(events.Paste(text))
                await pilot.pause()
                check(app)
            await pilot.press("escape")


async def test_screens_show_any_answer(tmp_path: Path, config: RunConfig, sessions: Sessions) -> None:
    app = WorkbenchApp(EngineBridge(tmp_path, sessions), hostile_config(config, "\x1b[2J[/x]"))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("g")
        for number, text in enumerate(texts(8), 1):
            await pilot.press("enter")
            spans = (Span(0, len(text), "liked"),)
            await tell(pilot, sessions, GenerationToken(number, text))
            check(app)
            await tell(pilot, sessions, GenerationFinished(number, text, 1.0, {text: 1.0}, spans, error=text[:3]))
            check(app)
        await pilot.press("escape", "c")
        (asked,) = [request for request in sessions.last.asked if isinstance(request, Compare)]
        await tell(pilot, sessions, ComparisonFinished(asked.id, Comparison(ROWS, tuple(map(pair, texts(15))))))
        for _ in range(15):
            await pilot.press("right")
            await pilot.pause()
            check(app)


async def test_the_picker_shows_any_preset(tmp_path: Path, config: RunConfig, monkeypatch: Any) -> None:
    monkeypatch.setattr(presets, "user_folder", lambda: tmp_path)
    for number, text in enumerate(texts(10)):
        presets.save(f"p{number}", hostile_config(config, text or "x"))
    app = WorkbenchApp(EngineBridge(tmp_path, Sessions()), config)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("p")
        for _ in range(16):
            await pilot.press("down")
            await pilot.pause()
            check(app)


def pair(text: str) -> Pair:
    sample = Sample(1, text, text, 1.0, {text: 1.0}, 0.5, 3, False, (Span(0, len(text), "disliked"),))
    return Pair(sample, sample)
