"""Generating: before, during and after a run; both models from one seed; given up with Esc."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from moments import until
from tui.fake_session import Sessions
from tui.test_hostile_text import shown_lines

from rlhf_engine.config import fields
from rlhf_engine.data import tables
from rlhf_engine.events import GenerationFinished, GenerationToken, Span
from rlhf_engine.requests import Cancel, Generate
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.generate.screen import GenerateScreen
from rlhf_tui.areas.workbench.screen import WorkbenchScreen


def asked(sessions: Sessions) -> list[Generate]:
    return [request for request in sessions.last.asked if isinstance(request, Generate)]


def shown(app: WorkbenchApp) -> str:
    return "\n".join(shown_lines(app))


async def tell(pilot: Any, sessions: Sessions, *events: Any) -> None:
    for event in events:
        sessions.last.emit(event)
    pilot.app.show_events(pilot.app.bridge.drain())
    await pilot.pause()


PARTS = {"words/liked": 1.2, "words/disliked": -0.8, "words/short": 0.0}
ANSWER = GenerationFinished(1, " a fox met a girl.", 0.4, PARTS,
                            (Span(3, 6, "liked"), Span(13, 17, "disliked")), 3.25, 7)


async def test_before_any_run_the_reference_answers(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("g", "enter")
        [request] = asked(sessions)
        assert request == Generate(1, app.edited.config, "Once upon a time", False, 1.0, 60, 0)
        assert "the model is loaded first" in shown(app)
        await tell(pilot, sessions, GenerationToken(1, " a fox"))
        assert "Once upon a time a fox▌" in shown(app)
        await tell(pilot, sessions, ANSWER)
        for text in ("Once upon a time a fox met a girl.", "score +0.40", "words/liked +1.20", "words/disliked −0.80",
                     "log-ratio 3.25 nats", "7 tokens"):
            assert text in shown(app)
        assert "words/short" not in shown(app)


async def test_an_answer_that_goes_on_with_the_last_word_is_not_shown_as_a_new_one(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("g", "enter")
        await tell(pilot, sessions, GenerationFinished(1, "s and times."))
        assert "Once upon a times and times." in shown(app)


async def test_while_training_it_says_for_what_it_waits(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f5")
        sessions.last.steps(11)
        await tell(pilot, sessions)
        await pilot.press("g", "enter")
        await pilot.pause()
        assert "waiting for step 12 to end" in shown(app)
        # both, one after the other, from one seed
        assert [(r.tuned, r.seed) for r in asked(sessions)] == [(False, 0), (True, 0)]


async def test_esc_gives_up_first_and_then_leaves(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("g", "enter", "escape")
        assert Cancel(1) in sessions.last.asked
        assert isinstance(app.screen, GenerateScreen)
        await tell(pilot, sessions, ANSWER)
        assert "a fox met" not in shown(app)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)


async def test_letters_typed_into_the_prompt_are_text(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("g", *"qcg", "space", "z", "1", "question_mark", "enter")
        assert [r.prompt for r in asked(sessions)] == ["qcg z1?"]


async def test_the_presets_prompts_are_offered(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("g", "down", "enter")
        assert [r.prompt for r in asked(sessions)] == ["One day"]


async def test_what_is_not_allowed_is_not_asked(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("g", "tab", *"99", "enter")
        await pilot.pause()
        assert asked(sessions) == []
        assert "temperature is a number from 0.01 to 10" in shown(app)


async def test_an_answer_without_a_score_says_why(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("g", "enter")
        await tell(pilot, sessions, GenerationFinished(1, "a fox.", kl=1.5, no_scores="no scores: own.py [/x] is gone"))
        assert "no scores: own.py [/x] is gone" in shown(app)
        assert "log-ratio 1.50 nats" in shown(app)
        assert "score +" not in shown(app)


async def test_two_answers_that_are_the_same_are_said_to_be(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f5")
        await tell(pilot, sessions)
        await pilot.press("g", "enter")
        await tell(pilot, sessions, GenerationFinished(1, "a fox."), GenerationFinished(2, "a fox."))
        assert "both wrote the same, from one seed · ↑ ↓ in seed gives another answer" in shown(app)
        await pilot.press("enter")
        await tell(pilot, sessions, GenerationFinished(3, "a fox."), GenerationFinished(4, "an owl."))
        assert "done · Enter asks again" in shown(app)


async def test_a_number_that_rounds_to_zero_has_no_minus(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("g", "enter")
        await tell(pilot, sessions, GenerationFinished(1, "a fox.", -0.001, {}, (), -0.004, 3))
        assert "log-ratio 0.00 nats" in shown(app)
        assert "score +0.00" in shown(app)


async def test_an_error_is_said_in_the_box(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("g", "enter")
        await tell(pilot, sessions, GenerationFinished(1, "", error="no [/x] model"))
        assert "✗ no [/x] model" in shown(app)


@pytest.mark.parametrize("size", [(20, 5), (60, 16), (80, 24), (300, 100)])
async def test_no_size_is_too_small_or_too_large(
    app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press("g", "enter")
        await tell(pilot, sessions, ANSWER)
        assert all(len(line) <= size[0] for line in shown_lines(app))


async def test_in_the_smallest_terminal_the_form_leaves_room_and_whoever_writes_is_in_sight(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    story = " ".join(["a fox met a hen and an owl."] * 8)
    async with app.run_test(size=(60, 16)) as pilot:
        await pilot.press("g", "tab", "tab", "tab", "tab", "right")
        await pilot.pause()
        before = shown(app)
        for text in ("prompt Once", "temperature 1", "tokens 60", "seed 0", "from ‹", "Enter Generate"):
            assert text in before
        assert "╭─ reference" in "\n".join(before.split("\n")[:6])
        await pilot.press("enter")
        await tell(pilot, sessions, GenerationToken(1, story), GenerationFinished(1, story, 0.4, PARTS, (), 1.0, 60))
        await tell(pilot, sessions, GenerationToken(2, "this is tuned"))
        await pilot.pause()
        assert "this is tuned▌" in shown(app)
        await tell(pilot, sessions, GenerationFinished(2, story, 0.4, PARTS, (), 2.5, 60))
        await pilot.press("pagedown", "pagedown", "pagedown")  # from the field in which the cursor is
        await pilot.pause()
        assert "log-ratio 2.50 nats" in shown(app)
        await pilot.press("pageup", "pageup", "pageup")
        await pilot.pause()
        assert "prompt Once" in shown(app)


# --- prompts of a source ---


@pytest.fixture
def sourced(app: WorkbenchApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkbenchApp:
    """A workbench whose prompts are lines of a file, beside one in the settings that is held out."""
    monkeypatch.chdir(tmp_path)  # a long path would be cut where it is told
    Path("lines.txt").write_text("First line\nSecond line\nThird line\n")
    app.edited.config = fields.replace(app.edited.config, {
        "data.source": "lines.txt", "data.held_out": ["Never seen"]})
    return app


async def test_prompts_of_a_source_are_offered_once_they_are_read(sourced: WorkbenchApp, sessions: Sessions) -> None:
    async with sourced.run_test(size=(120, 40)) as pilot:
        await pilot.press("g")
        await until(pilot, lambda: "/4 ↑↓" in shown(sourced))
        prompts = []
        for _ in range(4):
            await pilot.press("enter", "escape", "down")
            prompts.append(asked(sessions)[-1].prompt)
        assert prompts == ["First line", "Second line", "Third line", "Never seen"]


async def test_what_was_typed_before_the_source_was_read_stays(
    sourced: WorkbenchApp, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, read = threading.Event(), tables.read_bytes
    monkeypatch.setattr(tables, "read_bytes", lambda *some, **more: go_on.wait() and read(*some, **more))
    try:
        async with sourced.run_test(size=(120, 40)) as pilot:
            await pilot.press("g", *"mine")
            assert "reading" in shown(sourced)
            go_on.set()
            await until(pilot, lambda: "/4 ↑↓" in shown(sourced))
            await pilot.press("enter")
            assert asked(sessions)[-1].prompt == "mine"
    finally:
        go_on.set()


async def test_a_source_that_cannot_be_read_is_said_and_prompts_are_typed_all_the_same(
    sourced: WorkbenchApp, sessions: Sessions
) -> None:
    Path(str(sourced.edited.config.data.source)).unlink()
    async with sourced.run_test(size=(120, 40)) as pilot:
        await pilot.press("g")
        await until(pilot, lambda: "could not be read" in shown(sourced))
        await pilot.press("ctrl+a", "ctrl+k", *"mine", "enter")
        assert asked(sessions)[-1].prompt == "mine"
