"""The samples pane: orders, favourites that outlive the run, and a memory that has an end."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tui.fake_session import Sessions, story_sample, story_trace
from tui.test_hostile_screens import texts
from tui.test_hostile_text import is_harmless, shown_lines

from rlhf_engine.errors import RunError
from rlhf_engine.events import RunStarted, Sample, StepFinished
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.inspect.screen import InspectScreen
from rlhf_tui.areas.samples.favourites import MOST, Favourite, Favourites
from rlhf_tui.engine import sample_store
from rlhf_tui.engine.sample_store import KEPT_SAMPLES, ORDERS, SampleStore, listed
from rlhf_tui.terminal.clean_text import clean_sample


def sample(step: int, score: float = 0.0, kl: float = 0.0, text: str = "a fox") -> Sample:
    return Sample(step, "Once", text, score, {}, kl, 3, True)


def shown(app: WorkbenchApp) -> str:
    return "\n".join(shown_lines(app))


async def running(app: WorkbenchApp, pilot: Any, sessions: Sessions, steps: int) -> None:
    if not sessions or not sessions.last.busy:
        await pilot.press("f5", "4")
    sessions.last.steps(steps)
    app.show_events(app.bridge.drain())
    await pilot.pause()


async def test_samples_that_can_be_inspected_are_marked_where_others_cannot(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    def marks() -> list[str]:
        return [line.text[6] for line in (samples.render_line(y) for y in range(len(samples.shown)))]

    bare = [sample(1), sample(2)]
    traced = [replace(known, step=known.step + 2, trace=story_trace(known)) for known in bare]
    async with app.run_test(size=(120, 40)) as pilot:
        samples = app.workbench.samples.samples
        for told, seen in ((bare, [" ", " "]), (traced, ["i", "i", " ", " "])):
            samples.add(told)
            await pilot.pause()
            assert marks() == seen
        samples.clear()
        samples.add(traced)  # all of them can: nothing to tell apart
        await pilot.pause()
        assert marks() == [" ", " "]


# --- orders and memory ---


def test_orders_sort_and_put_what_is_no_number_last() -> None:
    given_samples = [sample(4, 1.0, 3.0), sample(3, math.nan, math.nan), sample(2, -2.0, 5.0), sample(1, 1.0, 0.5)]
    order = {name: [found.step for found in listed(given_samples, "", name)] for name in ORDERS}
    assert order == {"newest first": [4, 3, 2, 1], "highest score first": [4, 1, 2, 3],
                     "lowest score first": [2, 4, 1, 3], "highest log-ratio first": [2, 4, 1, 3]}


def test_all_words_of_a_filter_must_be_there_in_any_case() -> None:
    given_samples = [sample(1, text="A Fox ran"), sample(2, text="a fox"), sample(3, text="ran")]
    assert [found.step for found in listed(given_samples, "fox RAN", "newest first")] == [1]
    assert [found.step for found in listed(given_samples, "once", "newest first")] == [1, 2, 3]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
def test_nothing_is_lost_or_doubled_while_samples_wait(batches: list[tuple[int, bool]]) -> None:
    store, number = SampleStore(), 0
    for count, taken in batches:
        store.add([sample(number + index) for index in range(count)])
        number += count
        if taken:
            store.take_waiting()
    assert [found.step for found in [*store.waiting, *store.taken]] == list(range(number))[::-1]


def test_memory_is_bounded_in_samples_and_in_traced_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SampleStore()
    for step in range(KEPT_SAMPLES // 4 + 5):
        store.add([sample(step)] * 5)
        store.take_waiting()
    assert len(store.taken) == KEPT_SAMPLES
    traced = replace(story_sample(1, 0), trace=story_trace(story_sample(1, 0)))
    monkeypatch.setattr(sample_store, "KEPT_TOKENS", 3 * len(traced.trace.texts))  # type: ignore[union-attr]
    store.clear()
    for _ in range(5):
        store.add([traced])
    assert [found.trace is not None for found in store.waiting] == [True, True, True, False, False]
    assert {found.response for found in store.waiting} == {traced.response}


async def test_o_orders_the_list_and_says_so(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await running(app, pilot, sessions, 4)
        samples = app.workbench.samples.samples
        await pilot.press("down", "o")
        scores = [found.score for found in samples.shown]
        assert scores == sorted(scores, reverse=True)
        assert samples.cursor == 0
        assert "highest score first" in shown(app)
        await running(app, pilot, sessions, 2)
        assert len(samples.shown) == 12
        await pilot.press("o", "o", "o")
        assert [found.step for found in samples.shown][:2] == [6, 6]


# --- favourites ---


def test_favourites_are_there_for_the_next_workbench(tmp_path: Path) -> None:
    traced = replace(story_sample(1, 0), trace=story_trace(story_sample(1, 0)))
    path = tmp_path / "data" / "favourites.jsonl"
    first, second = Favourites(path), Favourites(path)
    assert str(path) in first.toggle("otter", traced)
    assert second.toggle("fox", sample(2)).endswith("2 favourites")
    assert [known.run for known in Favourites(path).all] == ["fox", "otter"]
    kept = Favourites(path).all[1].sample
    assert replace(kept, trace=None) == replace(traced, trace=None)
    assert kept.trace is not None
    assert kept.trace.series["advantages"] == pytest.approx(traced.trace.series["advantages"], rel=1e-3)  # type: ignore[union-attr]
    assert first.toggle("fox", sample(2)) == "no favourite any more; 1 favourite left"
    assert [known.run for known in Favourites(path).all] == ["otter"]
    assert Favourites(path).holds("otter", traced)
    assert not Favourites(path).holds("fox", traced)
    assert os.stat(path).st_mode & 0o077 == 0


def test_a_damaged_favourite_costs_only_itself_and_hostile_text_is_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "favourites.jsonl"
    favourites = Favourites(path)
    favourites.toggle("[/x]\x1b", sample(1, text="\x1b]52;c;aGk=\x07"))
    with path.open("a") as file:
        file.write('{"run": 1}\nnonsense\n')
    favourites.toggle("fox", sample(2))
    again = Favourites(path).all
    assert [known.run for known in again] == ["fox", "[/x]␛"]
    assert again[1].sample.response == clean_sample(sample(1, text="\x1b]52;c;aGk=\x07")).response


def test_there_are_only_so_many_favourites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_tui.areas.samples.favourites.MOST", 2)
    favourites = Favourites(tmp_path / "favourites.jsonl")
    for step in (1, 2):
        favourites.toggle("otter", sample(step))
    assert "not marked: there are 2 favourites" in favourites.toggle("otter", sample(3))
    assert len(favourites.all) == 2
    assert MOST > 2


def test_a_disk_that_refuses_is_said_and_nothing_is_marked(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    favourites = Favourites(tmp_path / "data" / "favourites.jsonl")
    assert favourites.all == []
    with pytest.raises(RunError, match=r"favourites\.jsonl"):
        favourites.toggle("otter", sample(1))
    assert favourites.all == []


async def test_asterisk_marks_and_v_lists(app: WorkbenchApp, sessions: Sessions, tmp_path: Path) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("4", "v")
        assert "no favourites yet" in shown(app)
        await pilot.press("escape")
        await running(app, pilot, sessions, 3)
        samples = app.workbench.samples.samples
        await pilot.press("down", "asterisk")
        marked = samples.selected
        assert marked is not None
        assert "    3* " in shown(app)
        assert "favourite, kept in" in app.workbench._alarm.text
        assert (tmp_path / "data" / "rlhf-tui" / "favourites.jsonl").exists()
        sessions.last.emit(RunStarted("calm-fox", "runs/calm-fox", app.edited.config, 0))
        await running(app, pilot, sessions, 1)
        await pilot.press("v")
        assert samples.shown == [marked]
        assert "brave-otter: " in shown(app)
        assert "1 favourite" in str(app.workbench.samples.border_subtitle)
        await running(app, pilot, sessions, 1)
        assert samples.shown == [marked]
        await pilot.press("asterisk")
        assert samples.shown == []
        await pilot.press("v")
        assert [found.step for found in samples.shown] == [5, 5, 4, 4]


async def test_a_favourite_can_still_be_inspected(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await running(app, pilot, sessions, 1)
        traced = replace(story_sample(2, 0), trace=story_trace(story_sample(2, 0)))
        sessions.last.emit(StepFinished(2, 100, {}, (traced,), 1.0))
        await running(app, pilot, sessions, 0)
        await pilot.press("asterisk", "v", "i")
        assert isinstance(app.screen, InspectScreen)
        assert "Advantage, whitened" in shown(app)


async def test_any_favourite_is_only_text(app: WorkbenchApp, tmp_path: Path) -> None:
    favourites = Favourites(tmp_path / "data" / "rlhf-tui" / "favourites.jsonl")
    for step, text in enumerate(texts(12)):
        favourites.toggle(text, sample(step, text=text))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("4", "v", "end", "asterisk", "o")
        assert all(map(is_harmless, shown_lines(app)))
        assert all(isinstance(known, Favourite) for known in favourites.all)
