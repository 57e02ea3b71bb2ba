"""The reward lab: rewards edited, added and removed, their words counted, texts tried; never in the engine's way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from moments import trusted, until
from textual import events
from textual.pilot import Pilot
from tui.fake_session import Sessions, story_sample
from tui.questions import agree
from tui.test_compare import ROWS
from tui.test_generate import shown, tell
from tui.test_hostile_screens import hostile_config, pair, texts
from tui.test_hostile_text import is_harmless, shown_lines

from rlhf_engine.config import fields, presets
from rlhf_engine.config.fields import validate
from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.compare import Comparison, Pair
from rlhf_engine.events import ComparisonFinished, ComparisonProgress, EditRefused, Sample, Span, StepFinished
from rlhf_engine.requests import Cancel, Compare, Edit
from rlhf_engine.rewards import build
from rlhf_engine.rewards.base import Score
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.rewards.new_reward import NewRewardScreen
from rlhf_tui.areas.rewards.reward_form import RewardForm
from rlhf_tui.areas.rewards.reward_lab import RewardLabScreen
from rlhf_tui.areas.rewards.word_table import WordTable
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.widgets.inputs import WordsArea
from rlhf_tui.widgets.text_pad import TextPad

WIDE = (120, 40)


async def until_shown(pilot: Pilot[Any], text: str) -> None:
    await until(pilot, lambda: text in shown(pilot.app), lambda: shown(pilot.app))


def asked(sessions: Sessions) -> list[Compare]:
    return [request for request in sessions.last.asked if isinstance(request, Compare)]


def pairs(number: int = 8) -> Comparison:
    return Comparison(ROWS, tuple(Pair(story_sample(0, 2), story_sample(0, 3)) for _ in range(number)))


def line_with(app: WorkbenchApp, text: str) -> str:
    return next(line for line in shown(app).split("\n") if text in line)


async def test_a_setting_changes_the_next_run_and_a_saved_preset(
    app: WorkbenchApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "user_folder", lambda: tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "down", "enter", *"2", "enter", "2", "down", "x")
        await pilot.pause()
        assert app.edited.config.rewards[0].weight == 2
        assert app.edited.config.rewards[0].liked == ["owl", "bear", "rabbit"]
        await pilot.press("f2", *"mine", "enter")
        await pilot.pause()
        assert presets.load("mine") == app.edited.config
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)
        assert app.workbench.hyperparameters.config == app.workbench.words.config == app.edited.config


@pytest.mark.parametrize("size", [WIDE, (80, 24)])
async def test_tab_goes_round_the_panes_also_where_one_is_seen_at_a_time(
    app: WorkbenchApp, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press("w")
        went = []
        for key in ("tab", "tab", "tab", "shift+tab", "n", "tab"):
            await pilot.press(key)
            await pilot.pause()
            went.append(app.focused.id if app.focused else None)
    assert [went[0], went[1], went[2], went[3], went[5]] == [
        "lab-words", "lab-try", "lab-rewards", "lab-try", "lab-rewards"]


async def test_what_is_not_allowed_stays_written_on_the_workbench(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        app.workbench.hyperparameters.show_path("kl.coef")
        await pilot.press("1", "enter", *"abc", "tab", "w", "2", "down", "x", "escape")
        await pilot.pause()
        assert "abc" in app.workbench.hyperparameters.form.drafts["kl.coef"][0]
        await pilot.press("w", "down", "enter", *"abc", "tab", "f5")
        await pilot.pause()
        assert "not started" in shown(app)


async def test_live_settings_reach_the_run_and_others_are_locked(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "f5")
        await tell(pilot, sessions)
        assert "fixed during a run" in shown(app)
        await pilot.press("enter", "down", "enter", *"5", "enter")
        await tell(pilot, sessions)
        assert [one for one in sessions.last.asked if isinstance(one, Edit)] == [Edit("rewards.0.weight", 5)]
        assert "from step 1: rewards.0.weight 1 → 5" in shown(app)
        sessions.last.emit(EditRefused("rewards.0.weight", "not [/x] now"))
        app.bridge.view.config = app.edited.config.model_copy(update={"rewards": [
            app.edited.config.rewards[0].model_copy(update={"weight": 1.0})]})
        await tell(pilot, sessions)
        await pilot.pause()
        assert "not [/x] now" in shown(app)
        assert app.screen.query_one(RewardForm).config.rewards[0].weight == 1


async def test_a_reward_is_added_and_removed(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "x")
        await pilot.pause()
        assert "words is the last reward and stays" in shown(app)
        await pilot.press("a", "right", "enter")  # from the kind, which Enter would turn elsewhere
        await pilot.pause()
        assert app.edited.config.rewards[1] == LengthRewardConfig()
        assert "Reward “length” · length" in shown(app)
        await pilot.press("a", "down", "enter")
        await pilot.pause()
        assert isinstance(app.screen, NewRewardScreen)
        assert "both empty" in shown(app)
        await pilot.press("down", *"whale sea lion", "enter")
        await pilot.pause()
        added = app.edited.config.rewards[2]
        assert (added.name, added.liked) == ("words2", ["whale", "sea", "lion"])
        assert "whale" in shown(app)
        # a line moved between the two presses: nothing is removed
        await pilot.press("x", "down", "x", "home", "x")
        assert len(app.edited.config.rewards) == 3
        assert "x once more removes words" in shown(app)
        await pilot.press("x")
        await pilot.pause()
        assert [reward.name for reward in app.edited.config.rewards] == ["length", "words2"]
        await pilot.press("u")
        await pilot.pause()
        assert [reward.name for reward in app.edited.config.rewards] == ["words", "length", "words2"]
        await pilot.press("U")
        await pilot.pause()
        assert [reward.name for reward in app.edited.config.rewards] == ["length", "words2"]


async def test_rewards_come_and_go_between_runs_only(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "w", "a")
        await tell(pilot, sessions)
        assert "between runs" in shown(app)
        assert isinstance(app.screen, RewardLabScreen)


async def test_both_sides_of_each_word(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.steps(30)
        await tell(pilot, sessions)
        await pilot.press("w", "r")
        assert asked(sessions) == [Compare(1, app.edited.config, 64, 0)]
        await tell(pilot, sessions, ComparisonProgress(1, 32, 64))
        assert "32/64" in shown(app)
        # the reference says: the girl waved to her mom from the boat, and the boy waved too.
        await tell(pilot, sessions, ComparisonFinished(1, pairs()))
        await until_shown(pilot, "ref. 8 responses · tuned 60 newest, steps 1–30")
        assert "7.14  1.70 ▼" in line_with(app, "  girl ")
        assert "0.00  4.57 ▲" in line_with(app, "  fox ")
        await pilot.press("escape", "w")
        await until_shown(pilot, "ref. 8 responses")


async def test_reference_responses_can_be_given_up_and_failed(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "n", "up", "enter")
        assert asked(sessions) == [Compare(1, app.edited.config, 96, 0)]
        await pilot.press("escape")
        await pilot.pause()
        assert Cancel(1) in sessions.last.asked
        await pilot.press("r")
        await tell(pilot, sessions, ComparisonFinished(2, None, "no [/x] model"))
        assert "no [/x] model" in shown(app)
        await pilot.press("r", "escape", "escape")
        await pilot.pause()
        assert Cancel(3) in sessions.last.asked
        assert isinstance(app.screen, WorkbenchScreen)
        await pilot.press("w", "n", *"x", "enter")
        await pilot.pause()
        assert "a whole number from 2 to 10000" in shown(app)


async def test_other_prompts_make_the_reference_samples_void(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "r")
        await tell(pilot, sessions, ComparisonFinished(1, pairs()))
        assert app.lab_memory.pairs_of(app.edited.config)
        assert not app.lab_memory.pairs_of(fields.replace(app.edited.config, {"data.prompts": ["Else"]}))


async def test_a_typed_text_is_scored_with_the_settings_as_they_stand(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "3", "enter", *"a fox and a boy")
        await until_shown(pilot, "score +0.90")
        await until_shown(pilot, "words  1 × +0.90 = +0.90   liked +1.20, disliked −0.80, distinct +0.50")
        await pilot.press("escape", "1", "down", "enter", "end", "backspace", *"3", "enter")
        await until_shown(pilot, "score +2.70")
        await pilot.press("escape", "w", "3")
        await until_shown(pilot, "your text · 1 of 1")


async def test_samples_can_be_tried_and_changed(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.steps(2)
        await tell(pilot, sessions)
        await pilot.press("w", "3")
        await until_shown(pilot, "sample of step 2 · 1 of 4")
        await until_shown(pilot, "an owl counted stars")
        await pilot.press("right", "right")
        await until_shown(pilot, "sample of step 1 · 3 of 4")
        sessions.last.steps(1)
        await tell(pilot, sessions)
        await until_shown(pilot, "sample of step 1 · 5 of 6")
        await pilot.press("enter")
        app.screen.query_one(TextPad).post_message(events.Paste(" owl\towl\x1b[2J"))
        await until_shown(pilot, "your text · 1 of 7")
        assert "owl" in app.screen.query_one(TextPad).text


async def test_a_reward_that_breaks_is_one_sentence(app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(configs: object) -> object:
        raise ValueError("no [/x]\x1b[2J")

    monkeypatch.setattr(build, "build_rewards", broken)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "3", "enter", *"fox")
        await until_shown(pilot, "✗ ValueError: no [/x]␛[2J")


async def test_code_runs_only_when_a_person_lets_it(app: WorkbenchApp, tmp_path: Path) -> None:
    file, trace = tmp_path / "score.py", tmp_path / "ran"
    file.write_text(f"def score(prompts, responses):\n    open({str(trace)!r}, 'w').close()\n"
                    "    return [len(text) for text in responses]\n")
    reward = {"kind": "function", "function": f"{file}:score"}
    app.edited.config = validate({"data": {"prompts": ["a"]}, "rewards": [reward]})
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "3", "enter", *"foxes", "escape")
        await until_shown(pilot, "not trusted")
        assert not trace.exists()
        await pilot.press("y")
        await agree(pilot)
        await until_shown(pilot, "score +5.00")
        file.write_text("def score(prompts, responses):\n    return [1 / 0]\n")
        trusted(file)
        await pilot.press("enter", "x")
        await until_shown(pilot, "raised ZeroDivisionError: division by zero")


async def test_words_are_sorted_ordered_and_pasted(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "2", "s")
        assert app.edited.config.rewards[0].liked == ["bear", "fox", "owl", "rabbit"]
        await pilot.press("enter")
        app.screen.query_one(WordsArea).post_message(events.Paste("polar bear; ox\ngirl"))
        await pilot.pause()
        await pilot.pause()
        assert "liked and disliked at once: girl" in shown(app)
        assert "commas, semicolons or lines" in shown(app)
        await pilot.press(*["backspace"] * 6, "enter")
        await pilot.pause()
        assert app.edited.config.rewards[0].liked[-2:] == ["polar bear", "ox"]
        await pilot.press("end", "o")
        await pilot.pause()
        assert app.screen.query_one(WordTable).side == "disliked"
        assert "A to Z · per 100 words" in shown(app)
        await pilot.press("s")
        assert app.edited.config.rewards[0].disliked == ["boy", "girl", "mom"]


async def test_the_last_word_stays_until_there_is_another(app: WorkbenchApp, sessions: Sessions) -> None:
    app.edited.config = validate({"data": {"prompts": ["a"]}, "rewards": [{"kind": "word_list", "liked": ["fox"]}]})
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "2", "down", "x")
        await pilot.pause()
        assert "both empty" in shown(app)
        assert app.edited.config.rewards[0].liked == ["fox"]
        await pilot.press("escape")
        await pilot.pause()
        assert "fox" in shown(app)


async def test_viewing_changes_nothing(app: WorkbenchApp, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    before = app.edited.config
    async with app.run_test(size=WIDE) as pilot:
        monkeypatch.setattr(EngineBridge, "viewing", property(lambda self: True))
        await pilot.press("w")
        await pilot.pause()
        assert "settings can be seen, not changed" in shown(app)
        await pilot.press("down", "enter", *"5", "enter", "2", "down", "x", "r", "a")
        await pilot.pause()
        assert "viewing" in shown(app)
        assert isinstance(app.screen, RewardLabScreen)
        assert app.edited.config == before
        assert app.screen.query_one(WordTable).config == before
        assert not asked(sessions)


@pytest.mark.parametrize("size", [(20, 5), (60, 16), (80, 24), (300, 100)])
async def test_no_size_is_too_small_or_too_large(
    app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press("w", "r")
        await tell(pilot, sessions, ComparisonFinished(1, pairs()))
        for keys in ("1", "2", "3", ("2", "enter"), ("escape", "3", "enter"), ("escape", "a"), ("escape", "z")):
            await pilot.press(*keys)
            await pilot.pause()
            assert all(len(line) <= size[0] for line in shown_lines(app))


async def test_a_terminal_that_changes_its_size_is_followed(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "2")
        for size in ((20, 5), (60, 16), WIDE):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert app.screen.has_class("-single") == (size != WIDE)
            assert "+ liked" in shown(app)


async def test_hostile_words_samples_and_pastes_are_only_shown(
    tmp_path: Path, config: RunConfig, sessions: Sessions
) -> None:
    app = WorkbenchApp(EngineBridge(tmp_path, sessions), hostile_config(config, "\x1b[2J[/x]"))
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "w", "r", "3")
        for number, text in enumerate(texts(12), 1):
            sample = Sample(number, text, f"fox {text}", 1.0, {text: 1.0}, 0.5, 3, False, (Span(0, 3, "liked"),))
            await tell(pilot, sessions, StepFinished(number, 100, {}, (sample,), 0.1))
            if number == 1:
                await tell(pilot, sessions, ComparisonFinished(1, Comparison(ROWS, tuple(map(pair, texts(9))))))
            app.edited.config = hostile_config(config, text)
            await pilot.press("right")
            await pilot.pause(0.02)
            assert all(map(is_harmless, shown_lines(app)))
        await pilot.press("enter")
        for text in texts(8):
            app.screen.query_one(TextPad).post_message(events.Paste(text))
            await pilot.pause(0.02)
            assert all(map(is_harmless, shown_lines(app)))
        await until(pilot, lambda: "score" in shown(app))
        assert all(map(is_harmless, shown_lines(app)))


async def test_names_of_parts_are_cleaned(app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch) -> None:
    class Named:
        name = "words"

        def score(self, prompts: object, responses: object) -> list[Score]:
            return [Score(1.0, {"a\x1b[2J[/x]": 1.0}, (Span(-5, 99, "liked"), Span(3, 2, "\x9b")))]

    def built(configs: object) -> Any:
        from rlhf_engine.rewards.composite import RewardSum

        return RewardSum([(Named(), 1.0)])

    monkeypatch.setattr(build, "build_rewards", built)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("w", "3", "enter", *"fox")
        await until_shown(pilot, "a␛[2J[/x] +1.00")
