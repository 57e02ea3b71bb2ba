"""Labelling: one key judges the pair in view, which is on the disk before the next one shows."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loop_runs import held_out, judgement, policy_config, reward_model_config, write_labels, write_run
from moments import PATIENCE, until
from textual.events import Paste
from textual.geometry import Region
from textual.pilot import Pilot
from tui.fake_session import Sessions, story_pairs
from tui.test_generate import shown, tell
from tui.test_hostile_text import is_harmless, shown_lines
from tui.test_runs_screen import make_run

from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import PairsSampled, Sample
from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.label_file import LabelFile, read_labels
from rlhf_engine.labels.pair import Pair, shown_swapped
from rlhf_engine.requests import REFERENCE, TUNED, Cancel, SamplePairs, Side
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.label.last_pair import LastPairScreen
from rlhf_tui.areas.label.options import LabelOptionsScreen
from rlhf_tui.areas.label.screen import LabelScreen
from rlhf_tui.areas.label.statistics_screen import LabelStatisticsScreen
from rlhf_tui.areas.preferences.preferences_file import load, settings_path
from rlhf_tui.areas.system.output import OutputScreen
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.engine.bridge import EngineBridge

WIDE, SMALL, TINY = (120, 40), (80, 24), (44, 12)


@pytest.fixture(autouse=True)
def _ann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    # a disk that is busy for a second would let the next key find no pair
    monkeypatch.setattr("rlhf_tui.areas.label.judging.PATIENCE_SECONDS", PATIENCE)


@pytest.fixture
def labels(bridge: EngineBridge) -> Path:
    """Where the judgements of preset animals are kept."""
    return bridge.runs_root.parent / "labels" / "animals.jsonl"


def asked(sessions: Sessions) -> list[SamplePairs]:
    return [request for request in sessions.last.asked if isinstance(request, SamplePairs)]


async def opened(pilot: Pilot[Any], sessions: Sessions) -> LabelScreen:
    """The label screen, a pair in view and some behind it."""
    await pilot.press("l")
    screen = pilot.app.screen
    assert isinstance(screen, LabelScreen)
    await until(pilot, lambda: bool(asked(sessions)))
    for _ in range(2):  # the first batch, and the one that its coming asks for
        await tell(pilot, sessions)
    await until(pilot, lambda: "Once upon a time" in shown(pilot.app) and "(0)" in shown(pilot.app))
    return screen


def kept(labels: Path) -> list[Judgement]:
    return read_labels(labels) if labels.exists() else []


def in_view(app: WorkbenchApp) -> int:
    """The number of the story pair on the screen; -1: there is none."""
    text = shown(app)
    return next((number for number in range(500) if f"({number})" in text), -1)


def box(app: WorkbenchApp, side: str) -> Region:
    return app.screen.query_one(f"#{side}-answer").region


# --- judging ---


async def test_a_key_judges_the_pair_in_view_and_the_next_one_is_there(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        for number, (key, left_won) in enumerate((("a", True), ("right", False), ("left", True), ("b", False))):
            await until(pilot, lambda at=number: in_view(app) == at)  # type: ignore[misc]
            await pilot.press(key)
            await until(pilot, lambda at=number: len(kept(labels)) == at + 1)  # type: ignore[misc]
            [*_, last] = kept(labels)
            assert (last.pair.id, last.rater, last.left_won) == (story_pairs(1, number)[0].id, "ann", left_won)
            assert last.swapped == shown_swapped(last.pair, "ann")
        for key, verdict in (("t", "tie"), ("0", "both_bad"), ("x", "skip")):
            await pilot.press(key)
            await until(pilot, lambda said=verdict: kept(labels)[-1].verdict == said)  # type: ignore[misc]
        await until(pilot, lambda: in_view(app) == 7)
        assert "6/100 judged" in shown(app)  # what was skipped was not judged


async def test_the_response_on_the_left_is_the_one_that_left_means(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        sides = set()
        for _ in range(8):
            lines = shown_lines(app)
            texts = {answer.text[:12] for answer in (story_pairs(1, in_view(app))[0].first,
                                                     story_pairs(1, in_view(app))[0].second)}
            at = {text: next(line.index(text) for line in lines if text in line) for text in texts}
            await pilot.press("a")
            [*_, last] = kept(labels)
            assert at[last.chosen.text[:12]] < at[last.rejected.text[:12]]
            sides.add(last.swapped)
        assert sides == {True, False}


async def test_keys_pasted_at_once_judge_one_pair_each_and_no_pair_unseen(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        sessions.last.answers_pairs = False
        there = sessions.last.pairs_sampled
        assert there >= 20
        await pilot.press(*"abt0x" * 4)
        await until(pilot, lambda: len({judgement.key for judgement in kept(labels)}) == 20)
        said = ["left", "right", "tie", "both_bad", "skip"] * 4
        for judgement, word in zip(kept(labels), said, strict=True):
            assert (("left" if judgement.left_won else "right") if judgement.decided else judgement.verdict) == word
        await pilot.press(*"a" * 30)
        await until(pilot, lambda: "no pair to judge" in shown(app))
        first = [judgement for judgement in kept(labels) if not judgement.repeat]
        assert len(first) == there  # all that there were, each once


async def test_a_key_does_nothing_while_no_pair_is_shown(app: WorkbenchApp, sessions: Sessions, labels: Path) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.pause()
        sessions.last.answers_pairs = False
        await pilot.press("l")
        await until(pilot, lambda: bool(asked(sessions)))
        await pilot.press("a", "b", "f", "n", "t")
        await until(pilot, lambda: "no pair to judge" in shown(app))
        await tell(pilot, sessions, PairsSampled(asked(sessions)[-1].id, story_pairs(3)))
        await until(pilot, lambda: "(0)" in shown(app))
        assert kept(labels) == []
        await pilot.press("b")
        await until(pilot, lambda: len(kept(labels)) == 1)


async def test_a_pair_whose_judgement_the_disk_has_not_taken_stays_in_view(
    app: WorkbenchApp, sessions: Sessions, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, add = threading.Event(), LabelFile.add

    def slow(self: LabelFile, judgement: Judgement) -> None:
        gate.wait()
        add(self, judgement)

    monkeypatch.setattr("rlhf_tui.areas.label.judging.PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(LabelFile, "add", slow)
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await pilot.press("a", "a", "u")
        await until(pilot, lambda: "the disk has not taken" in shown(app))
        assert in_view(app) == 0
        gate.set()
        await until(pilot, lambda: in_view(app) == 1)
        assert len(kept(labels)) == 1


async def test_a_full_disk_is_told_and_the_key_tries_again(
    app: WorkbenchApp, sessions: Sessions, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await pilot.press("a")
        with monkeypatch.context() as patch:
            def full(*_: Any) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr("rlhf_engine.labels.label_file.os.write", full)
            await pilot.press("b")
            await until(pilot, lambda: "not kept" in shown(app))
            assert in_view(app) == 1
        await pilot.press("b")
        await until(pilot, lambda: in_view(app) == 2)
        await until(pilot, lambda: [judgement.left_won for judgement in kept(labels)] == [True, False])


async def test_pasted_keys_judge_nothing_and_are_told_of_and_a_note_takes_them(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await opened(pilot, sessions)
        app.post_message(Paste("abt"))
        await until(pilot, lambda: "pasted text judges nothing" in shown(app))
        assert (kept(labels), in_view(app)) == ([], 0)
        await pilot.press("n")
        await until(pilot, lambda: "pasted" not in shown(app))
        app.post_message(Paste("a fox 🦊\nand b"))
        await until(pilot, lambda: "a fox 🦊 and b" in shown(app))
        await pilot.press("enter", "a")
        await until(pilot, lambda: [judgement.note for judgement in kept(labels)] == ["a fox 🦊 and b"])


# --- undo, flags, notes ---


async def test_undo_brings_judgements_back_to_be_judged_anew(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await pilot.press("a", "a", "a", "u")
        await until(pilot, lambda: in_view(app) == 2 and "it was: left better" in shown(app))
        await pilot.press("u")
        await until(pilot, lambda: in_view(app) == 1)
        await pilot.press("b")
        await until(pilot, lambda: in_view(app) == 3)  # back where they were
        assert [judgement.left_won for judgement in kept(labels)] == [True, False, True]
        await pilot.press("u", "escape")  # left as it was
        await until(pilot, lambda: "left as it was" in shown(app) and in_view(app) == 3)
        await pilot.press("u", "t", "escape")
        await until(pilot, lambda: isinstance(app.screen, WorkbenchScreen))
        assert [judgement.verdict for judgement in kept(labels)][-1] == "tie"
        assert len(labels.read_text().splitlines()) == 3  # what was superseded is gone


async def test_ten_can_be_judged_anew_and_no_more(app: WorkbenchApp, sessions: Sessions, labels: Path) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await pilot.press(*"a" * 12)
        await until(pilot, lambda: len(kept(labels)) == 12)
        numbers = [story_pairs(1, number)[0].id for number in range(12)]
        order = [judgement.pair.id for judgement in kept(labels)]
        await pilot.press(*"u" * 10)
        await until(pilot, lambda: story_pairs(1, in_view(app))[0].id == order[-10])
        await pilot.press("u")
        await until(pilot, lambda: "nothing before it" in shown(app))
        assert story_pairs(1, in_view(app))[0].id == order[-10]
        assert set(order) <= set(numbers)


async def test_the_last_judgements_of_the_day_before_can_be_judged_anew(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await pilot.press("a", "a", "escape")
        await until(pilot, lambda: isinstance(app.screen, WorkbenchScreen))
        await pilot.press("l")
        await until(pilot, lambda: "2/100 judged" in shown(app))
        await pilot.press("u")
        await until(pilot, lambda: in_view(app) == 1)
        await pilot.press("b")
        await until(pilot, lambda: [judgement.left_won for judgement in kept(labels)] == [True, False])


async def test_a_flag_and_a_note_are_kept_with_the_judgement(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await pilot.press("f", "n", *"a bit odd", "enter")
        await until(pilot, lambda: "⚑ flagged" in shown(app) and "✎ a bit odd" in shown(app))
        await pilot.press("a")
        await until(pilot, lambda: [(judgement.flag, judgement.note) for judgement in kept(labels)] == [
            (True, "a bit odd")])
        await pilot.press("b", "u", "n", *"really", "escape", "n", *"yes", "enter", "u", "f", "escape")
        await until(pilot, lambda: [(judgement.flag, judgement.note, judgement.left_won) for judgement in kept(labels)]
                    == [(False, "a bit odd", True), (False, "", False)])
        # a note on a pair that is left without a judgement is not lost
        await pilot.press("n", *"both lie", "enter", "escape")
        await until(pilot, lambda: isinstance(app.screen, WorkbenchScreen))
        assert [(judgement.verdict, judgement.note) for judgement in kept(labels)][-1] == ("skip", "both lie")


# --- what is hidden until one has judged ---


async def test_who_answered_and_the_guess_show_once_a_pair_is_judged(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await pilot.press("v")
        for hidden in ("guess left", "guess right", "step 41", "score"):
            assert hidden not in shown(app)
        while story_pairs(1, in_view(app))[0].guess == 0.5:
            await pilot.press("x")
        pair = story_pairs(1, in_view(app))[0]
        left = (pair.guess or 0) > 0.5
        if shown_swapped(pair, "ann"):
            left = not left
        await pilot.press("a" if left else "b")
        await until(pilot, lambda: "✓ agreed" in shown(app))
        assert "tuned step 41" in shown(app)
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, LastPairScreen) and "score" in shown(app))
        styled = {segment.text.strip() for strip in app.screen._compositor.render_strips() for segment in strip
                  if segment.style and segment.style.underline}
        assert styled & {"fox", "bear", "owl", "rabbit"}
        await pilot.press("escape", "u", "b" if left else "a")
        await until(pilot, lambda: "✗ disagreed" in shown(app))


# --- which pairs ---


async def test_without_a_run_the_reference_answers_twice_and_with_one_the_model_in_training(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        assert {(request.first, request.second) for request in asked(sessions)} == {(REFERENCE, REFERENCE)}
        await pilot.press("escape", "f5")
        sessions.last.steps(3)
        await tell(pilot, sessions)
        await pilot.press("l")
        await until(pilot, lambda: asked(sessions)[-1].first == TUNED)
        assert asked(sessions)[-1].second == TUNED
        assert asked(sessions)[-1].run == "brave-otter"
        seeds = [request.seed for request in asked(sessions) if request.first == REFERENCE]
        assert len(set(seeds)) == len(seeds)


async def test_what_is_asked_next_is_chosen_and_logged(app: WorkbenchApp, sessions: Sessions, labels: Path) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        for ask, title in (("unsure", "least sure"), ("gap", "largest gap"), ("random", "random"), ("unsure", "least")):
            await pilot.press("s")
            await tell(pilot, sessions)
            await until(pilot, lambda ask=ask, title=title: (  # type: ignore[misc]
                asked(sessions)[-1].ask == ask and f"next: {title}" in shown(app)))
        await pilot.press("a", "a")
        await until(pilot, lambda: [judgement.pair.asked_for for judgement in kept(labels)] == ["random", "unsure"])


async def test_sides_are_chosen_as_in_compare(app: WorkbenchApp, sessions: Sessions, config: RunConfig) -> None:
    run = make_run(app.bridge.runs_root, config, "amber")
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await pilot.press("2", "down", "enter")
        await tell(pilot, sessions)
        await until(pilot, lambda: (asked(sessions)[-1].first, asked(sessions)[-1].second) == (REFERENCE, TUNED))
        await pilot.press("1")
        await until(pilot, lambda: "amber@" in shown(app))
        await pilot.press(*"amber", "enter")
        await tell(pilot, sessions)
        await until(pilot, lambda: asked(sessions)[-1].first.kind == "checkpoint")
        first = asked(sessions)[-1].first
        assert isinstance(first, Side)
        assert first.run == run.path


async def test_no_pairs_are_told_why_and_r_asks_again(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.pause()
        sessions.last.answers_pairs = False
        await pilot.press("l")
        await until(pilot, lambda: bool(asked(sessions)))
        await tell(pilot, sessions, asked(sessions)[-1].refused("the method answers no prompts"))
        await until(pilot, lambda: "the method answers no prompts" in shown(app))
        assert len(asked(sessions)) == 1
        await pilot.press("r")
        await until(pilot, lambda: len(asked(sessions)) == 2)
        await tell(pilot, sessions, PairsSampled(asked(sessions)[-1].id, story_pairs(3)))
        await until(pilot, lambda: "(0)" in shown(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, WorkbenchScreen))
        assert isinstance(sessions.last.asked[-1], Cancel)


async def test_models_that_only_repeat_themselves_are_not_asked_for_ever(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.pause()
        sessions.last.answers_pairs = False
        await pilot.press("l")
        await until(pilot, lambda: bool(asked(sessions)))
        await tell(pilot, sessions, PairsSampled(asked(sessions)[-1].id, story_pairs(1)))
        while len(asked(sessions)) < 10:
            before = len(asked(sessions))
            await tell(pilot, sessions, PairsSampled(asked(sessions)[-1].id, story_pairs(1)))
            if len(asked(sessions)) == before:
                break
        assert len(asked(sessions)) < 6
        await until(pilot, lambda: "not judged" in shown(app))


async def test_a_run_that_is_only_viewed_is_labelled_by_what_it_recorded(
    app: WorkbenchApp, sessions: Sessions, config: RunConfig, bridge: EngineBridge
) -> None:
    run = make_run(bridge.runs_root, config, "amber")
    run.append_samples([Sample(step, "Once upon a time", f" recorded {step} {at}.", 0.0, {}, None, 3, True)
                        for step in (1, 2) for at in range(4)])
    async with app.run_test(size=WIDE) as pilot:
        bridge.watch(run)
        await until(pilot, lambda: bridge.view.config is not None)
        await pilot.press("l")
        await until(pilot, lambda: "recorded 2 " in shown(app))  # the newest
        await pilot.press(*"a" * 20)
        await until(pilot, lambda: "all recorded pairs are judged" in shown(app))
        assert asked(sessions) == []
        [file] = (bridge.runs_root.parent / "labels").iterdir()
        judged = read_labels(file)
        assert len(judged) == 4
        assert {judgement.pair.first.origin.run for judgement in judged} == {"amber"}
        bridge.unwatch()


async def test_about_one_in_ten_comes_back_with_its_sides_swapped(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        for _ in range(6):
            await pilot.press(*"a" * 8)
            await tell(pilot, sessions)
        again = [judgement for judgement in kept(labels) if judgement.repeat]
        first = {judgement.pair.id: judgement for judgement in kept(labels) if not judgement.repeat}
        assert 3 <= len(again) <= 5
        assert all(first[judgement.pair.id].swapped != judgement.swapped for judgement in again)
        assert "repeat" not in shown(app)  # nobody is to know


async def test_a_second_person_is_asked_about_the_pairs_of_the_first(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await pilot.press(*"a" * 6)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, LabelOptionsScreen))
        await pilot.press(*["backspace"] * 3, *"bob", "enter")
        await until(pilot, lambda: isinstance(app.screen, LabelScreen) and "0/100 judged" in shown(app))
        while len([judgement for judgement in kept(labels) if judgement.rater == "bob"]) < 12:
            await pilot.press("a")  # judges nothing while the screen is still about to show a pair
        of = {rater: {judgement.pair.id for judgement in kept(labels) if judgement.rater == rater}
              for rater in ("ann", "bob")}
        assert of["ann"] < of["bob"]
        assert load(settings_path()).settings.rater == "bob"
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, LabelStatisticsScreen) and "with ann" in shown(app))
        for part in ("Gwet's AC1", "left won", "longer won", "consistency", "guess right", "by chance 50%", "of 6"):
            assert part in shown(app), part


# --- the file ---


@pytest.mark.parametrize(("content", "said"), [
    (b"no labels at all\n", "is not JSON"), (b'{"text": "x"}\n', "chosen"), (b"\xff\xfe\n", "UTF-8")])
async def test_what_is_no_label_file_is_told_and_another_can_be_named(
    app: WorkbenchApp, sessions: Sessions, labels: Path, content: bytes, said: str
) -> None:
    labels.parent.mkdir()
    labels.write_bytes(content)
    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.press("l")
        await until(pilot, lambda: said in shown(app))
        await pilot.press("a")
        assert labels.read_bytes() == content
        other = labels.with_name("mine.jsonl")
        await pilot.press("o", "tab")
        app.screen.query_one("#path").value = str(other)  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LabelScreen) and bool(asked(sessions)))
        await tell(pilot, sessions)
        await until(pilot, lambda: "(0)" in shown(app))
        await pilot.press("a")
        assert len(read_labels(other)) == 1
        assert labels.read_bytes() == content


async def test_a_file_that_another_process_writes_is_told(app: WorkbenchApp, labels: Path) -> None:
    with LabelFile.open(labels, rater="eve") as file:
        file.add(Judgement(story_pairs(1)[0], "eve", "first", False))
        async with app.run_test(size=(160, 40)) as pilot:
            await pilot.press("l")
            await until(pilot, lambda: "another process" in shown(app))
            await pilot.press("a", "u", "v", "i", "f", "escape")
            await until(pilot, lambda: isinstance(app.screen, WorkbenchScreen))
    assert len(kept(labels)) == 1


async def test_a_torn_last_line_is_told_and_judging_goes_on(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    with LabelFile.open(labels, rater="ann") as file:
        file.add(Judgement(story_pairs(1)[0], "ann", "first", False))
    with labels.open("ab") as torn:
        torn.write(b'{"prompt": "Once upon')
    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.press("l")
        await until(pilot, lambda: "within a line" in shown(app))
        await until(pilot, lambda: bool(asked(sessions)))
        await tell(pilot, sessions)
        await until(pilot, lambda: "(1)" in shown(app))  # the first is judged already
        await pilot.press("a")
        await until(pilot, lambda: len(kept(labels)) == 2)


@pytest.mark.parametrize(("fields", "said"), [
    ({"rater": " "}, "needs the name"), ({"path": ""}, "need a file"), ({"wanted": "0"}, "whole number"),
    ({"path": "/dev/null/x.jsonl"}, "x.jsonl")])
async def test_wrong_options_are_told_and_change_nothing(
    app: WorkbenchApp, sessions: Sessions, labels: Path, fields: dict[str, str], said: str
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        await pilot.press("o")
        for name, value in fields.items():
            app.screen.query_one(f"#{name}").value = value  # type: ignore[attr-defined]
        await pilot.press("enter")
        if fields.get("path", "").startswith("/dev"):  # nothing is written before the first judgement
            await until(pilot, lambda: isinstance(app.screen, LabelScreen) or said in shown(app))
            return
        await until(pilot, lambda: said in shown(app))
        await pilot.press("escape", "a")
        await until(pilot, lambda: len(kept(labels)) == 1)


# --- keys, sizes, texts ---


async def test_l_labels_from_everywhere_and_the_log_is_under_its_capital(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("L")
        assert isinstance(app.screen, OutputScreen)
        await pilot.press("L", "c", "l")
        await until(pilot, lambda: isinstance(app.screen, LabelScreen))
        await pilot.press("l")
        assert sum(isinstance(screen, LabelScreen) for screen in app.screen_stack) == 1
        await pilot.press("L")
        assert isinstance(app.screen, OutputScreen)
        await pilot.press("l")  # a label file has one writer
        assert sum(isinstance(screen, LabelScreen) for screen in app.screen_stack) == 1


async def test_what_a_reward_model_waits_for_is_judged_into_its_file(app: WorkbenchApp, tmp_path: Path) -> None:
    ours = PreferenceRewardConfig(model="judge", labels=str(tmp_path / "ours.jsonl"), refit_every=5)
    async with app.run_test(size=WIDE) as pilot:
        app.edited.replace(app.edited.config.model_copy(update={"rewards": [ours]}))
        await pilot.press("l")
        await until(pilot, lambda: isinstance(app.screen, LabelScreen) and "ours.jsonl" in shown(app))


async def test_what_a_policy_of_a_loop_answers_is_judged_into_the_labels_of_that_loop(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    root = app.bridge.runs_root
    loop = write_labels(root.parent / "labels" / "loop.jsonl", [judgement(0)])
    model = write_run(root, reward_model_config(loop), "judge", [held_out(0.9, 0.2)])
    async with app.run_test(size=WIDE) as pilot:
        app.edited.replace(policy_config(model.path))
        await opened(pilot, sessions)
        await pilot.press("a")
        await until(pilot, lambda: len(kept(loop)) == 2)


async def test_side_by_side_where_wide_and_stacked_where_narrow(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, sessions)
        for size in (WIDE, SMALL, TINY, (99, 40), (100, 24), (30, 8)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            left, right = box(app, "left"), box(app, "right")
            assert (left.y == right.y) == (size[0] >= 100), size
            assert min(left.height, right.height) >= 1
            assert right.bottom <= size[1]
            assert "fox" in shown(app)


async def test_long_responses_scroll(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        sessions.last.answers_pairs = False
        await pilot.press("l")
        await until(pilot, lambda: bool(asked(sessions)))
        long = [longer(pair) for pair in story_pairs(3)]
        await tell(pilot, sessions, PairsSampled(asked(sessions)[-1].id, tuple(long)))
        await until(pilot, lambda: "line 0" in shown(app))
        assert "line 59" not in shown(app)
        await pilot.press("end")
        await until(pilot, lambda: "line 59" in shown(app))
        await pilot.press("home", "down", "pagedown")
        await until(pilot, lambda: "line 59" not in shown(app))
        assert "line 0" not in shown(app)
        await pilot.press("a")
        await until(pilot, lambda: "line 0" in shown(app))  # the next one from its beginning


def longer(pair: Pair) -> Pair:
    text = "\n".join(f"line {number}" for number in range(60))
    return replace(pair, first=replace(pair.first, text=f"{text} {pair.first.text}"),
                   second=replace(pair.second, text=f"{text} {pair.second.text}"))


async def test_hostile_texts_and_names_are_only_shown(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.pause()
        sessions.last.answers_pairs = False
        await pilot.press("l")
        await until(pilot, lambda: bool(asked(sessions)))
        texts = ["\x1b[2J[/x]", "[@click=app.quit]q[]", "\u202eabc", "\ud800x", "", "  "]
        pairs = [replace(pair, prompt=text + "p", first=replace(pair.first, text=text, origin=replace(
            pair.first.origin, run=text, model=text)), second=replace(pair.second, text=text + "second"))
            for pair, text in zip(story_pairs(len(texts)), texts, strict=True)]
        await tell(pilot, sessions, PairsSampled(asked(sessions)[-1].id, tuple(pairs)))
        for _ in texts:
            assert all(map(is_harmless, shown_lines(app)))
            await pilot.press("a", "v")
            assert all(map(is_harmless, shown_lines(app)))
            await pilot.press("escape")
        await until(pilot, lambda: {judgement.pair.id for judgement in kept(labels)} == {pair.id for pair in pairs})


async def test_when_all_are_judged_it_says_what_to_do_with_them(
    app: WorkbenchApp, sessions: Sessions, labels: Path
) -> None:
    async with app.run_test(size=(200, 40)) as pilot:
        await opened(pilot, sessions)
        await pilot.press("o")
        app.screen.query_one("#wanted").value = "2"  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LabelScreen) and "0/2 judged" in shown(app))
        await pilot.press("a", "a")
        await until(pilot, lambda: "H: a reward model" in shown(app))
        await pilot.press("a")  # and one may go on
        await until(pilot, lambda: "3/2 judged" in shown(app))


async def test_judging_while_a_run_trains_and_ends(app: WorkbenchApp, sessions: Sessions, labels: Path) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.steps(2)
        await tell(pilot, sessions)
        sessions.last.answers_pairs = False
        await pilot.press("l")
        await until(pilot, lambda: "waiting for step 3" in shown(app))
        sessions.last.steps(1)
        await tell(pilot, sessions, PairsSampled(asked(sessions)[-1].id, story_pairs(4)))
        await until(pilot, lambda: "(0)" in shown(app))
        await pilot.press("a")
        sessions.last.release()  # the engine's thread ends: what it did not answer is refused
        await until(pilot, lambda: not app.bridge.alive)
        await tell(pilot, sessions)
        await pilot.press("a")
        await until(pilot, lambda: len(kept(labels)) == 2)
