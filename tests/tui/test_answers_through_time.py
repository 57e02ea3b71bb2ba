"""The same prompt through time: each answer once, in order, with the words that are new in it marked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tui.fake_session import Sessions, story_probe
from tui.test_hostile_screens import texts
from tui.test_hostile_text import is_harmless, shown_lines

from rlhf_engine.events import Probed, RolledBack, RunStarted, Sample, StepFinished
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.samples.answer_history import KEPT_ANSWERS, NEW, AnswerHistory, ProbeLog, body
from rlhf_tui.areas.samples.answers_screen import AnswersScreen
from rlhf_tui.areas.samples.word_diff import change
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.terminal.clean_text import clean_event


def shown(app: WorkbenchApp) -> str:
    return "\n".join(shown_lines(app))


async def tell(pilot: Any, sessions: Sessions, *steps: int) -> None:
    for step in steps:
        sessions.last.emit(Probed(step, story_probe(step)))
    pilot.app.show_events(pilot.app.bridge.drain())
    await pilot.pause()
    await pilot.pause()


@pytest.mark.parametrize(("before", "after", "new", "added", "dropped"), [
    ("a fox ran", "a fox ran", [], 0, 0),
    ("a fox ran", "a bear ran", ["bear"], 1, 1),
    ("a fox ran", "a big red fox ran", ["big red"], 2, 0),
    ("a fox ran home", "a fox", [], 0, 2),
    ("", "a fox", ["a fox"], 2, 0),
    ("a fox", "", [], 0, 2),
    ("a fox", "a\n fox ", [], 0, 0),
    ("x y z", "x b y c", ["b", "c"], 2, 1),
])
def test_what_is_new_in_a_text(before: str, after: str, new: list[str], added: int, dropped: int) -> None:
    found = change(before, after)
    assert [after[start:end] for start, end in found.new] == new
    assert (found.added, found.dropped, found.words) == (added, dropped, len(after.split()))


def test_what_is_new_is_a_word_in_a_script_without_spaces_too() -> None:
    before, after = "一只猫在睡觉。", "一只狗在睡觉。"
    found = change(before, after)
    assert [after[start:end] for start, end in found.new] == ["狗"]
    assert (found.added, found.dropped, found.words) == (1, 1, 6)


words = st.lists(st.sampled_from(["a", "fox", "owl", "ran.", "café"]), max_size=12).map(" ".join)


@given(words, words)
def test_what_is_not_new_was_there_before(before: str, after: str) -> None:
    found = change(before, after)
    kept, at = [], 0
    for start, end in [*found.new, (len(after), len(after))]:
        assert at <= start <= end
        kept += after[at:start].split()
        at = end
    left = iter(before.split())
    assert all(word in left for word in kept)  # a subsequence of the words before
    assert len(kept) == len(before.split()) - found.dropped == found.words - found.added


def test_new_words_are_marked_beside_liked_ones() -> None:
    sample = story_probe(5)
    styles = {str(span.style): sample.response[span.start:span.end]
              for span in body(sample, change(story_probe(0).response, sample.response)).spans}
    assert styles[NEW] == "fox"
    assert styles["$text-success underline"] == "fox"


def test_the_log_keeps_the_reference_and_the_newest() -> None:
    log = ProbeLog()
    for step in range(0, 5 * (KEPT_ANSWERS + 20), 5):
        log.add(story_probe(step))
    steps = [sample.step for sample in log.answers]
    assert len(steps) == KEPT_ANSWERS + 1
    assert steps[:2] == [0, 100]
    log.add(replace(story_probe(100), response="again"))
    assert log.answers[1].response == "again"
    log.cut(105)
    assert [sample.step for sample in log.answers] == [0, 100, 105]


async def test_h_lists_the_answers_and_follows_the_run(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("h")
        assert "no answers yet" in shown(app)
        await pilot.press("h")
        assert isinstance(app.screen, WorkbenchScreen)
        await pilot.press("f5")
        await tell(pilot, sessions, 0, 5)
        await pilot.press("h")
        assert isinstance(app.screen, AnswersScreen)
        for text in ("reference", "step 5", "1 of 15 words new, 1 gone", "score   +1.20", "Once upon a time"):
            assert text in shown(app)
        history = app.screen.query_one(AnswerHistory)
        assert history.selected == story_probe(5)
        await tell(pilot, sessions, 10)
        assert history.selected == story_probe(10)  # it stays with the newest
        await pilot.press("up")
        await tell(pilot, sessions, 15)
        assert history.selected == story_probe(5)
        sessions.last.emit(RolledBack(5, "back at step 5"))
        await tell(pilot, sessions)
        assert "step 10" not in shown(app)
        await pilot.press("y")
        assert "written to" in shown(app)


async def test_the_scores_of_the_answers_stand_beside_those_of_all_responses(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f5")
        for step, score in ((1, -1.0), (2, 2.0), (3, 6.0)):
            sessions.last.emit(StepFinished(step, 100, {"objective/scores": score}, (), step))
        await tell(pilot, sessions, 0, 5)
        await pilot.press("h")
        await pilot.pause()
        assert "this prompt    ▁█  −0.80 → +1.20" in shown(app)
        assert "all responses  ▁▄█  −1.00 → +6.00" in shown(app)
        sessions.last.emit(StepFinished(4, 100, {"objective/scores": 6.5}, (), 4))
        await tell(pilot, sessions)
        await pilot.pause()
        assert "−1.00 → +6.50" in shown(app)


async def test_v_marks_what_is_new_since_the_reference(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f5")
        await tell(pilot, sessions, 0, 5, 10, 20)
        await pilot.press("h")
        assert "2 of 15 words new" in shown(app)  # step 10: another animal, another place
        assert "new since the answer before" in shown(app)
        await pilot.press("v")
        assert "new since the reference" in shown(app)
        assert "1 of 15 words new, 1 gone" in shown(app)  # step 20 has the reference's animal again


async def test_another_run_begins_with_an_empty_history(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f5")
        await tell(pilot, sessions, 0, 5)
        sessions.last.emit(RunStarted("brave-otter", "runs/brave-otter", app.edited.config, 5))
        await tell(pilot, sessions)
        assert len(app.workbench.samples.probes.answers) == 2  # the same run, resumed
        sessions.last.emit(RunStarted("calm-fox", "runs/calm-fox", app.edited.config, 0))
        await tell(pilot, sessions)
        assert app.workbench.samples.probes.answers == []


async def test_long_histories_scroll_and_any_text_is_only_text(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f5", "h")
        for step, text in enumerate(texts(12)):
            told = clean_event(Probed(step, Sample(step, text, text * 3, 1.0, {}, 0.5, 3, False)))
            app.show_events([told])
            await pilot.pause()
            await pilot.resize_terminal(*((80, 24), (120, 40), (60, 16), (20, 5))[step % 4])
            for key in ("pageup", "end", "home", "pagedown", "v"):
                await pilot.press(key)
            assert all(map(is_harmless, shown_lines(app)))
        assert app.is_running
