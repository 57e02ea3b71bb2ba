"""Word lists: read from whatever is pasted, checked, applied, and never lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual import events
from textual.app import App, ComposeResult

from rlhf_engine.config.rewards import WordListRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.areas.rewards import word_text
from rlhf_tui.areas.rewards.word_editor import WordEditor
from rlhf_tui.areas.rewards.word_lists import WordListsPane
from rlhf_tui.areas.rewards.word_text import remarks, without_doubles
from rlhf_tui.widgets.inputs import WordsArea
from rlhf_tui.widgets.word_entries import parse_words, words_text


class Host(App[None]):
    """Only the pane, and what it posts."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.pane = WordListsPane()
        self.edits: list[tuple[str, Any]] = []
        self._config = config

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.load(self._config, training=False)
        self.pane.focus()

    def on_word_editor_edited(self, event: WordEditor.Edited) -> None:
        self.edits.append((event.path, event.value))

    def text(self) -> str:
        strips = self.screen._compositor.render_strips()
        return "\n".join("".join(s.text for s in strip if not s.control) for strip in strips)


async def paste(pilot: Any, text: str, *then: str, all: bool = True) -> None:
    area = pilot.app.query_one(WordsArea)
    if all:
        area.select_all()
    area.post_message(events.Paste(text))
    await pilot.pause()
    await pilot.press(*then)
    await pilot.pause()


@pytest.mark.parametrize(("text", "words"), [
    ("fox owl  bear", ["fox", "owl", "bear"]),
    ("fox, polar bear;owl\nhen", ["fox", "polar bear", "owl", "hen"]),
    ("fox\npolar bear\n", ["fox", "polar bear"]),
    ("a b c d e\nf g", ["a", "b", "c", "d", "e", "f", "g"]),
    ('["fox", "owl"]', ["fox", "owl"]),
    ("polar bear,", ["polar bear"]),
    (" , ,\n", []),
    ("猫，狗、北极熊", ["猫", "狗", "北极熊"]),
])
def test_a_list_is_read_as_people_write_it(text: str, words: list[str]) -> None:
    assert parse_words(text) == words


@given(st.lists(st.from_regex(r"[a-z]{1,6}( [a-z]{1,6})?", fullmatch=True), max_size=6))
def test_what_is_shown_for_editing_reads_back(words: list[str]) -> None:
    assert parse_words(words_text(words)) == words


def test_doubles_overlaps_and_words_that_cannot_be_said_are_pointed_out() -> None:
    found = remarks(["fox", "Fox", "girl", "unicorn", "!!"], ["girl"], frozenset({"fox", "girl"}))
    assert [(remark.text, remark.wrong) for remark in found] == [
        ("no letter, digit or emoji, so nothing can match: !!", True),
        ("liked and disliked at once: girl", True),
        ("there twice, counted once: Fox", False),
        ("the storyteller never says unicorn", False),
    ]
    assert without_doubles(["fox", "Fox", "owl"]) == (["fox", "owl"], ["Fox"])


async def test_enter_opens_and_enter_applies(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(36, 12)) as pilot:
        await pilot.press("enter")
        await paste(pilot, "hen  duck hen", "enter")
        assert app.edits == [("rewards.0.liked", ["hen", "duck"])]
        assert app.focused is app.pane
        assert "2 words" in app.text()


async def test_a_pasted_list_joins_the_one_that_is_there(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(36, 12)) as pilot:
        await pilot.press("enter")
        await paste(pilot, "hen duck", "enter", all=False)
        assert app.edits == [("rewards.0.liked", ["fox", "owl", "bear", "rabbit", "hen", "duck"])]


async def test_a_list_that_cannot_be_used_stays_as_written(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(36, 14)) as pilot:
        await pilot.press("enter")
        await paste(pilot, "girl, hen", "enter")
        assert isinstance(app.focused, WordsArea)
        assert "liked and disliked at once" in app.text()
        await pilot.press("tab")
        await pilot.pause()
        assert not app.edits
        assert "not applied" in app.text()
        assert "girl, hen" in app.text()
        # the other list gives way, and the waiting one is used as well
        await pilot.press("down", "enter")
        await paste(pilot, "boy, mom", "enter")
        assert app.edits == [("rewards.0.disliked", ["boy", "mom"]), ("rewards.0.liked", ["girl", "hen"])]


async def test_esc_puts_back_and_undo_brings_it_again(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(36, 12)) as pilot:
        await pilot.press("enter")
        await paste(pilot, "hen, duck", "escape")
        assert not app.edits
        assert "fox, owl" in app.text()
        await pilot.press("enter", "ctrl+z")
        assert app.query_one(WordsArea).text == "hen, duck"


async def test_both_lists_cannot_be_empty(config: RunConfig) -> None:
    app = Host(config)
    async with app.run_test(size=(50, 14)) as pilot:
        await pilot.press("down", "enter")
        await paste(pilot, ",", "enter")
        assert app.edits == [("rewards.0.disliked", [])]
        await pilot.press("up", "enter")
        await paste(pilot, ",", "tab")
        assert len(app.edits) == 1
        assert "both empty" in app.text()


async def test_several_rewards_take_turns(config: RunConfig) -> None:
    second = WordListRewardConfig(name="sea", liked=["whale"], disliked=["storm"])
    app = Host(config.model_copy(update={"rewards": [*config.rewards, second]}))
    async with app.run_test(size=(40, 14)) as pilot:
        await pilot.press("right")
        await pilot.pause()
        assert "sea" in app.text()
        assert "whale" in app.text()
        await pilot.press("enter")
        await paste(pilot, "fish", "enter")
        assert app.edits == [("rewards.1.liked", ["fish"])]


async def test_long_lists_leave_room_for_the_other(config: RunConfig) -> None:
    reward = config.rewards[0].model_copy(update={"liked": [f"word{i}" for i in range(300)]})
    app = Host(config.model_copy(update={"rewards": [reward]}))
    async with app.run_test(size=(36, 12)) as pilot:
        await pilot.pause()
        assert "300 words" in app.text()
        assert "girl, boy, mom" in app.text()


@pytest.mark.parametrize("size", [(20, 5), (30, 8), (300, 100)])
async def test_no_size_is_too_small_or_too_large(config: RunConfig, size: tuple[int, int]) -> None:
    app = Host(config)
    async with app.run_test(size=size) as pilot:
        await pilot.press("enter", *"xyz", "tab", "down", "enter", "escape")
        await pilot.pause()
        assert all(len(line) <= size[0] for line in app.text().split("\n"))


def test_a_long_list_that_is_pasted_is_taken_apart_once() -> None:
    words = [f"word{number}x" for number in range(20_000)]
    word_text._key.cache_clear()
    for _ in range(3):
        remarks(words, ["fox"], frozenset({"fox"}))
    assert word_text._key.cache_info().misses == len(words) + 1
